"""``bixt3d predict FILE_OR_FOLDER ...``: say what clouds, meshes and images are, or which parts they have."""

from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

from bixt3d.cli.parser import ALWAYS, Parser
from bixt3d.errors import InputError

CLOUDS = ".ply .obj .off .stl .glb .gltf .xyz .txt .csv .pts .pcd .npy .npz .h5 .hdf5"
IMAGES = ".jpg .jpeg .png .bmp .webp"
UPS = ("y", "z", "-y", "-z")
FORMATS = ("ply", "csv", "npz", "npy")
"""What can be read and written; written out here, for help must not import torch."""
DESCRIPTION = "Say what your clouds, meshes and images are, or which parts they have."
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
    parser.add_argument("places", nargs="+", metavar="FILE_OR_FOLDER", help="folders are searched for known files")
    parser.add_argument(
        "--checkpoint", type=Path, help="run folder, or its model.safetensors (default: the newest run on such files)"
    )
    parser.add_argument("--weights", choices=("last", "best"), default="last", help="of which epoch (default: last)")
    parser.add_argument(
        "--up",
        choices=UPS,
        help="what is up in the files; --up=-y for most cameras (default: as trained, but -y for a .pcd if that is y)",
    )
    parser.add_argument("--category", help="category of all shapes, for a model of parts (which may need it)")
    parser.add_argument("--trust", action="store_true", help="see below")
    parser.add_argument("--top", type=int, default=5, help="classes shown of each file (default: 5)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON for each cloud or image")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for files: of each cloud its points with their labels (see --format), a .png and a .html; of each "
        "image a .png and, from a segmenter, a .png of the class number of each pixel",
    )
    parser.add_argument(
        "--format",
        type=formats,
        help="files of labelled points for --out, with commas: ply (all that the file had, exact coordinates, label "
        "and confidence; the default), csv, npz (x y z, label, name, confidence), npy (labels alone)",
    )
    return parser


def parse(argv: Sequence[str] | None) -> Namespace:
    """Return what the command line says."""
    arguments = make_parser().parse_args(argv)
    if arguments.top < 1:
        raise InputError(f"--top must be at least 1, not {arguments.top}")
    if arguments.format and not arguments.out:
        raise InputError("--format says what --out writes: name a folder with --out")
    return arguments


def formats(text: str) -> tuple[str, ...]:
    """Return the formats that a text names. Raises ArgumentTypeError for others."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not set(names) <= set(FORMATS):
        raise ArgumentTypeError(f"'{text}' is not made of {', '.join(FORMATS)}")
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Predict all files; returns the exit code: 0, or 1 if a file could not be predicted."""
    arguments = parse(argv)
    from bixt3d.cli.predict_files import predict_all

    return predict_all(arguments)
