"""Weights of models by name, as folders, and on the Hugging Face hub: `SharedModel`, a base class of all models."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TypeVar

from torch import nn

from bixt3d.errors import check_path
from bixt3d.io.bounds import counted, listed, printable
from bixt3d.io.hub import HUB, WEIGHTS, is_repository, send_to_hub
from bixt3d.io.named_configs import nearest
from bixt3d.io.pretrained import find_run, known_pretrained, shown
from bixt3d.io.untrusted import check_different_names, read_json
from bixt3d.io.weights import load_metadata, load_weights, save_weights
from bixt3d.io.writing import write_whole
from bixt3d.types import InputError

M = TypeVar("M", bound="SharedModel")

CARD = """---
library_name: bixt3d
tags: [bixt, {tag}]
---

# {title}

{model} of [bixt3d](https://arxiv.org/abs/2402.12138), for {task}, with {count} classes: {classes}.

```python
from bixt3d import load_run

predictor = load_run("{place}")
```

It reads: {reads}. Write here what it was trained on, its scores, and what it is for.
"""


class SharedModel(nn.Module):
    """Base class of models whose weights can be loaded, saved and sent to the Hugging Face hub.

    ``metadata``: that of the weights which the model was loaded from: class, settings, names of its outputs, input.
    Empty for a model that was built by its constructor.
    """

    metadata: Mapping[str, str] = MappingProxyType({})
    num_classes: int

    @classmethod
    def from_pretrained(cls: type[M], place: str | Path, trust: bool = False) -> M:
        """Return a trained model: of a run folder or its weights, of a name in `list_models(pretrained=True)`, or of
        the Hugging Face hub, ``USER/MODEL``.

        ``trust``: import classes that are not bixt3d's, which runs their code. Raises InputError if there are no such
        weights, or if they are of another class.

        Example:
            >>> model = BixtClassifier.from_pretrained("modelnet10-small")
            >>> model(torch.rand(1, 512, 3)).shape
            torch.Size([1, 10])
        """
        from bixt3d.models.described import build_described  # not at the top: it needs the parser of settings

        check_path(place=place)
        text = str(place)
        remote = is_repository(text) and not Path(text).exists()
        try:
            path = find_run(HUB + text if remote else place)
        except InputError as error:
            if not remote:
                raise
            raise InputError(f"there is no folder {text}, and {error}") from error
        if not path.exists():
            near = nearest(text, known_pretrained())
            raise InputError(f"there is no folder and there are no pretrained weights {printable(text)[:200]}{near}")
        path, source = path / WEIGHTS if path.is_dir() else path, shown(path)
        weights, metadata = load_weights(path)
        sizes, features = output_sizes(metadata, source), read_json(metadata["input"], f"input of {source}")
        kind, described = Callable[[int] * len(sizes), SharedModel], read_json(metadata["model"], f"model of {source}")
        own = features.get("features") if isinstance(features, dict) else ""
        model = build_described(described, kind, sizes, own or "", weights, source, trust)
        if not isinstance(model, cls):
            found = type(model).__name__
            raise InputError(f"{source} holds a {found}, which is no {cls.__name__}: use {found}.from_pretrained")
        model.metadata = metadata
        return model.eval()

    def save_pretrained(self, folder: str | Path, class_names: Sequence[str] | None = None) -> Path:
        """Save the model to a folder that `from_pretrained`, `load_run` and all commands read; return the folder.

        ``class_names``: the names of the classes after `reset_classifier`; LAS codes of other classes are dropped.
        Raises InputError for a model that was not loaded from a run or by name, and for a folder with a run of training
        or another model. A card stays.
        """
        check_path(folder=folder)
        if not str(folder):
            raise InputError("save_pretrained needs the name of a folder")
        metadata, folder = self._own_metadata(class_names), Path(folder)
        if (folder / "run.json").exists():
            raise InputError(f"{folder} has a run of training, whose weights would be replaced: choose another folder")
        there = load_metadata(folder / WEIGHTS) if (folder / WEIGHTS).exists() else metadata
        if there | {"checksum": ""} != metadata | {"checksum": ""}:
            raise InputError(f"{folder} has another model, whose card would stay: choose another folder")
        save_weights(folder / WEIGHTS, self.state_dict(), metadata)
        for name, text in (("config.yaml", metadata["config"]), ("README.md", self._card(metadata, str(folder)))):
            if name == "config.yaml" or not (folder / name).exists():  # a card may have been edited
                write_whole(folder / name, lambda path, text=text: path.write_text(text, encoding="utf-8"))
        return folder

    def push_to_hub(
        self, name: str, class_names: Sequence[str] | None = None, private: bool = False, token: str | None = None
    ) -> str:
        """Send the model to the repository ``USER/MODEL`` of the Hugging Face hub; return its address.

        ``class_names``: see `save_pretrained`. ``token``: None: the one that ``hf auth login`` stored. Raises
        InputError if it cannot be sent.
        """
        with TemporaryDirectory(prefix="bixt3d_") as folder:
            self.save_pretrained(folder, class_names)
            (Path(folder) / "README.md").write_text(self._card(self._own_metadata(class_names), HUB + name), "utf-8")
            return send_to_hub(Path(folder), name, private, token)

    def _own_metadata(self, class_names: Sequence[str] | None) -> dict[str, str]:
        metadata = dict(self.metadata)
        if not metadata:
            raise InputError(
                "a model that was built by hand does not know its settings, classes and input: train it with "
                "bixt3d.train, or load it by load_run or from_pretrained, and save that"
            )
        parts = "part_names" in metadata
        if class_names is not None:
            if parts:
                raise InputError("class_names is for classifiers and models of scenes, and this model has parts")
            check_different_names(class_names, "class_names")
            if list(class_names) != json.loads(metadata["class_names"]):
                given = json.loads(metadata["input"])
                given.pop("las_codes", None)  # of the classes before
                metadata |= {"class_names": json.dumps(list(class_names)), "input": json.dumps(given)}
        names = json.loads(metadata["part_names" if parts else "class_names"])
        if len(names) != self.num_classes:
            mend = "train it by `bixt3d train partseg`, which knows its parts" if parts else "give class_names"
            raise InputError(
                f"the model has {counted(self.num_classes, 'output')} and {counted(len(names), 'name')} for them "
                f"({listed(names, 3)}): {mend}"
            )
        return metadata

    def _card(self, metadata: Mapping[str, str], place: str) -> str:
        names, given = json.loads(metadata["class_names"]), json.loads(metadata["input"])
        return CARD.format(
            tag="image" if "mean" in given else "point-cloud",
            title=Path(place.removeprefix(HUB)).name,
            model=type(self).__name__,
            task=metadata["task"],
            count=len(names),
            classes=listed(names, 20),
            place=place,
            reads=", ".join(f"{key} {value}" for key, value in given.items() if value),
        )


def output_sizes(metadata: Mapping[str, str], source: str) -> list[int]:
    """Return the numbers of outputs with which a model was built. Raises InputError for other tasks than bixt3d's."""
    if not {"task", "model", "input", "config", "class_names"} <= metadata.keys():
        raise InputError(f"{source} has no classes that bixt3d knows, or it is no model of bixt3d: try load_run")
    names = [read_json(metadata[key], f"{key} of {source}") for key in ("part_names", "class_names") if key in metadata]
    for one in names:
        check_different_names(one, f"the names of {source}")
    return [len(one) for one in names] + [1] * (metadata["task"] == "scene segmentation")
