"""``bixt3d compare RUN RUN ...``: runs of one task in one table, and their scores by epoch in one picture."""

from collections.abc import Sequence
from pathlib import Path

from bixt3d.cli.parser import Parser

DESCRIPTION = "Compare runs of one task: a table in Markdown, and the scores by epoch in one picture."
EPILOG = "Scores are those of the last epoch on the test set; a run of several seeds gives mean +- deviation."


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("compare", DESCRIPTION, EPILOG)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, of one seed or of several")
    parser.add_argument("--out", type=Path, help="folder for table.md, table.csv and curves.png")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table, and write it with the picture where they are asked for."""
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
