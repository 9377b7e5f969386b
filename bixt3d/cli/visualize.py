"""``bixt3d visualize [RUN]``: draw what a run predicts, and what its latents attend to."""

import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from bixt3d.cli.parser import ALWAYS, Parser
from bixt3d.errors import InputError

DESCRIPTION = """Draw what a run predicts, and what its latents attend to.

With --attention --image FILE, RUN may also be the name of an image model, such as bixt_ti_l64_p16."""
EPILOG = f"""settings of the run can be changed, as in --data.root=FOLDER

examples:
  bixt3d visualize RUN --worst
  bixt3d visualize RUN --category chair --html
  bixt3d visualize RUN --attention
  bixt3d visualize bixt_ti_l64_p16 --attention --image photo.jpg

{ALWAYS}"""


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("visualize", DESCRIPTION, EPILOG)
    parser.add_argument(
        "run", metavar="RUN", nargs="?", type=Path, help="run folder (default: the newest, of parts if there is one)"
    )
    parser.add_argument("--image", type=Path, nargs="+", help="draw these image files, by a run or model of images")
    parser.add_argument("--index", type=int, nargs="+", help="places in the test set (default: spread over it)")
    parser.add_argument("--category", help="only clouds or images of this category")
    parser.add_argument("--worst", action="store_true", help="the worst predictions first")
    parser.add_argument("--count", type=int, help="how many clouds or images (default: 6, or 2 with --attention)")
    parser.add_argument("--attention", action="store_true", help="draw what the latents look at")
    parser.add_argument("--latents", type=int, nargs="+", help="these latents (default: four that differ)")
    parser.add_argument("--layer", type=int, help="all latents of this layer of images (default: the last two-sided)")
    parser.add_argument(
        "--weights",
        help="last (default) or best (on validation) of a run; of an image model by its name: the authors' checkpoint",
    )
    parser.add_argument("--html", action="store_true", help="write pages to turn in a browser, and PLY files")
    parser.add_argument("--window", action="store_true", help="open a window for each cloud")
    parser.add_argument("--out", type=Path, help="folder for the pictures (default: pictures/ in the run folder)")
    return parser


def parse(argv: Sequence[str]) -> tuple[Namespace, list[str]]:
    """Return what the command line says, and the settings of the run that it changes."""
    parser = make_parser()
    arguments, rest = parser.parse_known_args(argv)
    for word in rest:
        if word != "--trust" and not re.match(r"--\w+(\.\w+)+=", word):
            raise parser.unknown(word)
    if arguments.index and (arguments.category or arguments.worst):
        raise InputError("--index names the clouds: leave out --category and --worst")
    for name in ("latents", "layer"):
        if getattr(arguments, name) is not None and not arguments.attention:
            raise InputError(f"--{name} needs --attention")
    if arguments.count is None:
        arguments.count = 2 if arguments.attention else 6
    if arguments.count < 1:
        raise InputError(f"--count must be at least 1, not {arguments.count}")
    return arguments, rest


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Draw clouds or images of a run; returns the files written."""
    arguments, rest = parse(sys.argv[1:] if argv is None else argv)
    from bixt3d.cli.visualize_clouds import draw
    from bixt3d.io.errors import enough_memory

    count = "give fewer or smaller images" if arguments.image else "lower --count, or --train.eval_batch_size=16"
    with enough_memory(f"{count}, or leave out --attention" if arguments.attention else count):
        return draw(arguments, rest)
