"""``bixt3d test [cls|partseg|imgcls|imgseg] [RUN]``: evaluate a run on its test set."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bixt3d.cli.choice import HELP, TASKS, choose_task, find
from bixt3d.cli.parser import ALWAYS, Parser

TEXT = """settings of the run can be changed: --data.root FOLDER, --train.eval_batch_size 16, --runtime.accelerator cpu
all settings: bixt3d test {name} --help_settings

{always}"""
MORE = {
    "cls": ("corrupted", "score corrupted clouds too: seven corruptions, five levels of each, after ModelNet-C"),
    "partseg": ("full", "score every original point, not only those that the model sees"),
}
"""A second evaluation, of some tasks: option and help."""


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Evaluate a run and write its results and report; returns the content of result.json."""
    argv = list(sys.argv[1:] if argv is None else argv)
    name = choose_task(
        argv,
        "test",
        "usage: bixt3d test [TASK] [RUN] ...\n\nEvaluate a run on its test set. TASK is optional.",
    )
    rest = argv[1:] if name else argv
    if set(rest) & set(HELP):
        make_parser(name or "cls").parse_args(["--help"])
    if name:
        return evaluate(find(name), rest)
    run, rest = split_run(rest)
    from bixt3d.inference.runs import read_run

    run = run or newest()
    return evaluate(read_run(run, trust="--trust" in rest).task, [str(run), *rest])


def make_parser(name: str) -> Parser:
    """Return the parser of a task's help; `tasks.testing` parses the settings of a run."""
    what = TASKS[name].what
    parser = Parser(f"test {name}", f"Evaluate {what} on its test set.", TEXT.format(name=name, always=ALWAYS))
    parser.add_argument(
        "run",
        metavar="RUN",
        nargs="?",
        help="run folder, its weights, or a name of pretrained ones (default: the newest run)",
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="folder for the results (default: test/ in the run folder, or in runs/NAME of pretrained weights)",
    )
    parser.add_argument(
        "--weights",
        choices=("last", "best"),
        help="weights of the last epoch (default), or of the best on the validation split",
    )
    if TASKS[name].unit != "images":
        parser.add_argument("--votes", metavar="10", help="test-time augmentation (TTA): average this many votes")
    if TASKS[name].unit == "clouds":
        parser.add_argument("--without", metavar="rgb", help="leave features out, after --augment.feature_dropout")
    if name in MORE:
        parser.add_argument(f"--{MORE[name][0]}", action="store_true", help=MORE[name][1])
    if name == "cls":
        parser.add_argument(
            "--baseline", metavar="RUN", help="with --corrupted: report errors relative to this run (mCE)"
        )
    parser.add_argument("--help_settings", action="store_true", help="print the help of all settings")
    return parser


def split_run(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """Split a command line into the run that it names, or None, and the rest."""
    if argv and not argv[0].startswith("-"):
        return argv[0], list(argv[1:])
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--checkpoint")
    found, rest = parser.parse_known_args(argv)
    return found.checkpoint, rest


def newest() -> Path:
    """Return the folder of the run that began last, of any task."""
    from bixt3d.engine.folder import newest_run
    from bixt3d.tasks import find_task

    return newest_run(Path("runs"), lambda name: find_task(name) is not None, "run", find("cls").example)


def evaluate(task: Any, argv: Sequence[str]) -> dict[str, Any]:
    """Evaluate a run of a task."""
    from bixt3d.tasks.testing import test

    argv = ["--help" if one == "--help_settings" else one for one in argv]
    return test(task, f"Evaluate a {task.name} run on its test set.", argv)
