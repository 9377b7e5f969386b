"""``bixt3d test [cls|partseg|imgcls|imgseg] [RUN]``: evaluate a run on its test set."""

from collections.abc import Sequence
from typing import Any

from bixt3d.cli.choice import choose_task, task_of


def main(argv: Sequence[str]) -> dict[str, Any]:
    """Evaluate a run and write its files anew; returns what result.json holds."""
    name = choose_task(argv, "test")
    from bixt3d.tasks.testing import test

    return test(task_of(name), __doc__, argv[1:])
