"""Tasks: settings, training step, metrics and results of each. A task is one file and one line here."""

from importlib import import_module
from typing import Any

TASKS = {
    "classification": "classification.Classification",
    "part segmentation": "part_segmentation.PartSegmentation",
    "scene segmentation": "scene_segmentation.SceneSegmentation",
    "image classification": "image_classification.ImageClassification",
    "image segmentation": "image_segmentation.ImageSegmentation",
}
"""Class of each task, by the task's name in the metadata of weights; imported when needed."""


def find_task(name: str | None) -> Any:
    """Return the task of this name, of bixt3d or of an imported subclass of Task; None if unknown."""
    if name in TASKS:
        module, _, of_class = TASKS[name].rpartition(".")
        return getattr(import_module(f"bixt3d.tasks.{module}"), of_class)()
    from bixt3d.tasks.task import Task

    pending = [Task] if name else []
    while pending:
        one = pending.pop()
        if getattr(one, "name", None) == name:
            return one()
        pending += one.__subclasses__()
    return None
