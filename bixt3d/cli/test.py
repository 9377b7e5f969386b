"""``bixt3d test [cls|partseg|imgcls|imgseg] [RUN]``: evaluate a run on its test set."""

from collections.abc import Sequence
from typing import Any

from bixt3d.cli.choice import choose_task, task_of


def main(argv: Sequence[str]) -> dict[str, Any]:
    """Evaluate a run and write its files anew; returns what result.json holds."""
    name = choose_task(argv, "test")
    from bixt3d.tasks.corrupted import evaluate_corrupted
    from bixt3d.tasks.part_segmentation import evaluate_fully
    from bixt3d.tasks.testing import Way, test

    ways = {
        "cls": Way(
            "corrupted",
            "score corrupted clouds too: seven corruptions, five levels of each, after ModelNet-C",
            "corrupted too",
            evaluate_corrupted,
        ),
        "partseg": Way(
            "full", "score every original point, not only those that the model sees", "every point", evaluate_fully
        ),
    }
    return test(task_of(name), __doc__, argv[1:], ways.get(name))
