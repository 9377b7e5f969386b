"""``bixt3d compare RUN RUN ...``: a table of runs of one task, and a plot of their scores by epoch."""

from collections.abc import Sequence
from pathlib import Path

from bixt3d.cli.parser import Parser

DESCRIPTION = "Compare runs of one task: print a table in Markdown; with --out also plot the scores by epoch."
EPILOG = "Scores are those of the last epoch on the test set; a run of several seeds gives mean +- standard deviation."


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("compare", DESCRIPTION, EPILOG)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, of one seed or of several")
    parser.add_argument("--out", type=Path, help="write table.md, table.csv and curves.png to this folder")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table, and write table and plot if ``--out`` is given."""
    arguments = make_parser().parse_args(argv)
    from bixt3d.cli.comparison import check_one_task, markdown, notes_on, row_of, write
    from bixt3d.cli.runs import read_folder

    runs = [read_folder(place) for place in dict.fromkeys(arguments.runs)]
    check_one_task(runs)
    rows = [row_of(run) for run in runs]
    text = "\n".join([markdown(runs, rows), *notes_on(runs)])
    print(text)
    if arguments.out:
        write(arguments.out, runs, rows, text)
