"""``bixt3d cost``: count FLOPs, activations and parameters of models, as the paper does."""

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from bixt3d.cli.paper_tables import TABLES
from bixt3d.cli.parser import Parser
from bixt3d.errors import InputError
from bixt3d.io.offline import OFFLINE

DESCRIPTION = "Count FLOPs, activations and parameters of the paper's models, beside its figures, or of any config."
EPILOG = f"""examples:
  bixt3d cost --table all
  bixt3d cost --cfg modelnet40_grouping
  bixt3d cost --cfg bixt_ti_l64_p16 --size 384 --json

{OFFLINE}"""


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("cost", DESCRIPTION, EPILOG)
    parser.add_argument("--table", choices=(*TABLES, "all"), help="a table of the paper, or all of them")
    parser.add_argument(
        "--cfg",
        metavar="CONFIG",
        action="append",
        help="name or file of a config, or name of an image model (bixt3d list models); configs behind it change it",
    )
    parser.add_argument("--size", type=int, help="with --cfg: side of the image in pixels, or points of the cloud")
    parser.add_argument(
        "--classes",
        type=int,
        help="with --cfg: number of classes, or of parts (default: those of the data set of the config)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def parse(argv: Sequence[str]) -> Namespace:
    """Parse a command line. Raises InputError."""
    if "--trust" in argv:
        raise InputError("--trust has no effect here: only models of bixt3d's classes are counted")
    given = make_parser().parse_args(argv)
    if (given.table is None) == (given.cfg is None):
        raise InputError(f"say what to count: --table {'|'.join((*TABLES, 'all'))}, or --cfg CONFIG")
    for name in ("size", "classes"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} must be at least 1, not {value}")
    return given


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Print the tables, or the cost of a config; returns what ``--json`` prints."""
    given = parse(sys.argv[1:] if argv is None else argv)
    from bixt3d.cli.cost_tables import compare, describe, print_cost, print_tables

    if given.cfg is not None:
        found, show = describe(given.cfg, given.size, given.classes), print_cost
    else:
        names = TABLES if given.table == "all" else [given.table]
        found, show = {name: [compare(row) for row in TABLES[name]] for name in names}, print_tables
    if given.json:
        print(json.dumps(found, indent=1))
    else:
        show(found)
    return found
