"""``bixt3d predict FILE_OR_FOLDER ...``: predict classes or parts of clouds, meshes and images."""

from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

from bixt3d.cli.parser import ALWAYS, CLOUDS, IMAGES, Parser
from bixt3d.errors import InputError

UPS = ("y", "z", "-y", "-z")
FORMATS = ("ply", "las", "laz", "csv", "txt", "npz", "npy")
"""Formats, repeated here because help must not import torch."""
DESCRIPTION = "Predict the classes of your clouds, meshes and images, or the parts of their points and pixels."
EPILOG = f"""clouds and meshes: {CLOUDS}
images: {IMAGES}

examples:
  bixt3d predict scan.ply
  bixt3d predict scans/ --checkpoint RUN --out predictions
  bixt3d predict photo.jpg --json

{ALWAYS}"""


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("predict", DESCRIPTION, EPILOG)
    parser.add_argument(
        "places",
        nargs="+",
        metavar="FILE_OR_FOLDER",
        help="files, or folders that are searched for files of these formats",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="RUN",
        help="run folder, its model.safetensors, or a name of pretrained weights (default: the newest run; without any "
        "shapes-cls for clouds and meshes, each taken for one object, and aerial-scenes for LAS and LAZ)",
    )
    parser.add_argument(
        "--weights",
        choices=("last", "best"),
        default="last",
        help="weights of the last epoch (default), or of the best on the validation split",
    )
    parser.add_argument(
        "--up",
        choices=UPS,
        help="up axis of the files; --up=-y for most cameras (default: as trained; -y for a .pcd if that is y)",
    )
    parser.add_argument(
        "--no_viewpoint",
        action="store_true",
        help="leave the points of a .pcd in the frame of the sensor: do not move them by the VIEWPOINT in its header",
    )
    parser.add_argument(
        "--category",
        help="category of all clouds, for a part segmenter (default: that of a folder above; some need one)",
    )
    parser.add_argument("--trust", action="store_true", help="see below")
    parser.add_argument("--top", type=int, default=5, help="number of classes to print for each file (default: 5)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON for each cloud or image")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for files, or for a single cloud the file, such as out.laz: for each cloud its points with labels "
        "(see --format), a .png and a .html named NAME_prediction; for each image a .png and, from a segmenter, a .png "
        "of the number of the class of each pixel",
    )
    parser.add_argument(
        "--no_pictures", action="store_true", help="write no picture and no page to --out, but the labels alone"
    )
    parser.add_argument(
        "--format",
        type=formats,
        help="formats of the labelled points, such as laz,csv: ply (all columns, exact coordinates, label "
        "and confidence), las and laz (the same; a copy of a LAS or LAZ with new dimensions), csv, txt and npz "
        "(x y z, label, confidence), npy (labels alone); default: las or laz for these, else ply",
    )
    parser.add_argument(
        "--write",
        choices=("extra", "classification"),
        help="how LAS and LAZ files of scenes are labelled: by new dimensions label, confidence and entropy (extra, "
        "default), or by their classification, in the codes of the training labels",
    )
    parser.add_argument(
        "--classes",
        metavar="YAML",
        help="classes to write as classification: a list such as '[building, wire]', or with codes, '{building: 6}', "
        "or a file with such a list; all other points keep theirs",
    )
    return parser


def parse(argv: Sequence[str] | None) -> Namespace:
    """Parse a command line. Raises InputError."""
    arguments = make_parser().parse_args(argv)
    if arguments.top < 1:
        raise InputError(f"--top must be at least 1, not {arguments.top}")
    if arguments.format and not arguments.out:
        raise InputError("--format needs --out FOLDER")
    if arguments.no_pictures and not arguments.out:
        raise InputError("--no_pictures needs --out FOLDER")
    if arguments.write and not arguments.out:
        raise InputError("--write needs --out FOLDER")
    if arguments.write == "classification" and set(arguments.format or ()) - {"las", "laz"}:
        raise InputError("--write classification is for LAS and LAZ: leave out --format, or give las or laz")
    if arguments.classes and arguments.write != "classification":
        raise InputError("--classes needs --write classification")
    return arguments


def formats(text: str) -> tuple[str, ...]:
    """Return the formats that a text names. Raises ArgumentTypeError for others."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not set(names) <= set(FORMATS):
        raise ArgumentTypeError(f"'{text}' is not made of {', '.join(FORMATS)}")
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Predict all files; returns the exit code: 0, 1 if some could not be predicted, 2 if none could."""
    arguments = parse(argv)
    from bixt3d.cli.predict_files import predict_all

    return predict_all(arguments)
