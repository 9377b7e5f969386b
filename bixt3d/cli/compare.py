"""``bixt3d compare run``: train configs under one budget; ``compare show RUN ...``: a table of runs of one task."""

import sys
from collections.abc import Sequence
from pathlib import Path

from bixt3d.cli.parser import Parser

DESCRIPTION = """Compare runs of one task: print a table in Markdown; with --out also plot the scores by epoch.

bixt3d compare run --cfgs A B --seeds 0,1,2 --budget 15m trains them first: see bixt3d compare run --help"""
EPILOG = "Scores are those of the last epoch on the test set; a run of several seeds gives mean +- standard deviation."


def make_parser() -> Parser:
    """Return the parser of the command line, without the word ``show``, which may be left out."""
    parser = Parser("compare [show]", DESCRIPTION, EPILOG)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, or a folder of runs")
    parser.add_argument("--out", type=Path, help="write table.md, table.csv and curves.png to this folder")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Train and compare configs, or print the table of runs and write it with a plot if ``--out`` is given."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["run"]:
        from bixt3d.cli import compare_run

        compare_run.main(argv[1:])
        return
    arguments = make_parser().parse_args(argv[argv[:1] == ["show"] :])
    from bixt3d.cli.comparison import check_one_task, markdown, notes_on, row_of, write
    from bixt3d.cli.runs import runs_of

    runs = runs_of(arguments.runs)
    check_one_task(runs)
    rows = [row_of(run) for run in runs]
    text = "\n".join([markdown(runs, rows), *notes_on(runs)])
    print(text)
    if arguments.out:
        write(arguments.out, runs, rows, text)
