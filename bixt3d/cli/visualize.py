"""``bixt3d visualize [RUN | FILE ...]``: draw predictions and attention maps of a run."""

import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from bixt3d.cli.parser import ALWAYS, CLOUDS, IMAGES, Parser, folder
from bixt3d.cli.predict import UPS
from bixt3d.errors import InputError

DESCRIPTION = """Draw predictions and attention maps of a run, on its test set or on your own clouds.

With --attention --image FILE, RUN may also be the name of an image model, such as bixt_ti_l64_p16."""
EPILOG = f"""settings of the run can be changed: --data.root=FOLDER

examples:
  bixt3d visualize RUN --worst
  bixt3d visualize RUN --category chair --html
  bixt3d visualize RUN --attention
  bixt3d visualize scan.ply --checkpoint RUN --attention
  bixt3d visualize bixt_ti_l64_p16 --attention --image photo.jpg

{ALWAYS}"""


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("visualize", DESCRIPTION, EPILOG)
    parser.add_argument(
        "places",
        nargs="*",
        type=Path,
        metavar="RUN_OR_FILE",
        help="run folder (default: the newest, of parts if there is one), or files of clouds and meshes",
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="RUN", help="the run, if files are given (default: the newest run)"
    )
    parser.add_argument("--up", choices=UPS, help="axis that points up in the files, as in bixt3d predict")
    parser.add_argument(
        "--image", type=Path, nargs="+", metavar="FILE", help="draw these image files, with a run or model of images"
    )
    parser.add_argument(
        "--index", type=int, nargs="+", metavar="I", help="indices in the test set (default: evenly spaced)"
    )
    parser.add_argument("--category", help="only clouds or images of this category; with files: their category")
    parser.add_argument("--worst", action="store_true", help="draw the worst predictions of the test set")
    parser.add_argument("--count", type=int, help="number of clouds or images (default: 6, or 2 with --attention)")
    parser.add_argument(
        "--attention", action="store_true", help="draw attention maps: which points or pixels each latent attends to"
    )
    parser.add_argument(
        "--latents",
        type=int,
        nargs="+",
        metavar="I",
        help="with --attention: these latents (default: four that differ)",
    )
    parser.add_argument(
        "--layer", type=int, help="images: draw all latents of this layer (default: the last bi-directional one)"
    )
    parser.add_argument(
        "--weights",
        help="of a run: last (default) or best (on the validation split); of an image model by name: a checkpoint file",
    )
    parser.add_argument(
        "--html", action="store_true", help="write interactive pages for the browser, and PLY files of the test clouds"
    )
    parser.add_argument("--window", action="store_true", help="open a window for each cloud")
    parser.add_argument(
        "--out",
        type=folder,
        help="folder for the pictures (default: pictures/ in the run folder, or in runs/NAME of pretrained weights)",
    )
    return parser


def parse(argv: Sequence[str]) -> tuple[Namespace, list[str]]:
    """Parse a command line; returns its arguments, and changed settings of the run. Raises InputError."""
    parser = make_parser()
    arguments, rest = parser.parse_known_args(argv)
    for word in rest:
        if word != "--trust" and not re.match(r"--\w+(\.\w+)+=", word):
            raise parser.unknown(word)
    choose_files(arguments, rest)
    if arguments.index and (arguments.category or arguments.worst):
        raise InputError("--index chooses the clouds: leave out --category and --worst")
    for name in ("latents", "layer"):
        if getattr(arguments, name) is not None and not arguments.attention:
            raise InputError(f"--{name} needs --attention")
    if arguments.count is None:
        arguments.count = 2 if arguments.attention else 6
    if arguments.count < 1:
        raise InputError(f"--count must be at least 1, not {arguments.count}")
    return arguments, rest


def choose_files(arguments: Namespace, rest: Sequence[str]) -> None:
    """Set ``run`` and ``files`` of the arguments. Raises InputError for options that exclude each other."""
    known = CLOUDS.split()
    arguments.files = [place for place in arguments.places if place.suffix.lower() in known]
    if images := [place for place in arguments.places if place.suffix.lower() in IMAGES.split()]:
        raise InputError(f"{images[0]} is an image: give it by --image, with a run or model of images")
    if not arguments.files:
        if len(arguments.places) + bool(arguments.checkpoint) > 1:
            raise InputError(
                f"give one run, or files of clouds ({CLOUDS}), not {' and '.join(map(str, arguments.places))}"
            )
        if arguments.up:
            raise InputError("--up is for files of clouds: leave it out")
        arguments.run = arguments.checkpoint or (arguments.places[0] if arguments.places else None)
        return
    if arguments.weights not in (None, "last", "best"):
        raise InputError(f"--weights is last or best for files of clouds, not {arguments.weights}")
    if others := [place for place in arguments.places if place not in arguments.files]:
        raise InputError(f"{others[0]} is no file of clouds ({CLOUDS}): name a run by --checkpoint RUN")
    of_sets = [name for name in ("image", "index", "worst", "count", "layer") if getattr(arguments, name)]
    if of_sets or (rest and set(rest) != {"--trust"}):
        raise InputError(f"{('--' + of_sets[0]) if of_sets else rest[0]} is not for files of clouds: leave it out")
    arguments.run = arguments.checkpoint


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Draw clouds or images of a run; returns the files written."""
    arguments, rest = parse(sys.argv[1:] if argv is None else argv)
    from bixt3d.io.error_messages import enough_memory
    from bixt3d.io.pretrained import find_run

    arguments.run = arguments.run and find_run(arguments.run)
    if arguments.files:
        from bixt3d.cli.visualize_files import draw
    else:
        from bixt3d.cli.visualize_clouds import draw
    few = "give fewer or smaller " + ("files" if arguments.files else "images")
    count = few if arguments.files or arguments.image else "lower --count, or --train.eval_batch_size=16"
    with enough_memory(f"{count}, or leave out --attention" if arguments.attention else count):
        return draw(arguments, rest)
