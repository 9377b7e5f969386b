"""Build the model that a weights file describes: of known classes only, and no larger than its weights."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from bixt3d.config import BUILDING, SettingsParser, follow_features
from bixt3d.io.bounds import printable
from bixt3d.io.known_classes import class_paths, known_classes
from bixt3d.io.untrusted import check_keys
from bixt3d.io.weights import check_fit, fit_weights
from bixt3d.types import Features, InputError

LARGEST = 2**20
"""The largest number allowed in a description: of layers, widths, neighbors and so on."""
WORDS = r"([A-Za-z]\w*(:\w+)?(, ?[A-Za-z]\w*(:\w+)?)*)?"
"""Pattern of the strings allowed in settings: a choice, a name, or features; never a path that could be imported."""
MAX_VALUES = 2000
"""The most values allowed in a description."""


def build_described(  # noqa: PLR0913 (everything that a file describes)
    model: Any,
    kind: Any,
    outputs: Sequence[int],
    features: str,
    weights: dict[str, Tensor],
    source: str,
    trust: bool = False,
) -> nn.Module:
    """Build the model that a file describes, with the weights of the file.

    ``model``: class_path and init_args. ``kind``: the type of the setting, a function of ``outputs``. ``features``: the
    point features to read if the settings name none. No module is imported, unless ``trust`` is set: a class must be
    bixt3d's, or derived from one of its classes in a module that is imported already. Shapes are checked before memory
    is allocated, and nothing is downloaded. Raises InputError.
    """
    description = Description(source, trust)
    model = description.resolve(without_pretrained(model))
    parser = SettingsParser(trust=trust)
    parser.add_argument("--model", type=kind)
    # a custom class may not support the meta device; the user trusts it
    trial = nullcontext() if description.foreign else torch.device("meta")
    try:
        with BUILDING:
            settings = parser.parse_object({"model": model})
            follow_features(settings.model, {"init_args": {"features": features}})
            with trial, _no_more_modules_than(weights):
                fitting = parser.instantiate(settings).model(*outputs)
            check_fit(fitting.state_dict(), weights, source)
            built = parser.instantiate(settings).model(*outputs)
    except Exception as error:  # constructors raise almost anything for absurd numbers
        if isinstance(error, InputError) and str(error).startswith(source):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{source} describes a model that cannot be built: {printable(reason)[:300]}") from error
    fit_weights(built, weights, source)
    return built


def without_pretrained(settings: Any) -> Any:
    """Return settings without ``pretrained``, which would download weights: the file has its own."""
    if isinstance(settings, list):
        return [without_pretrained(one) for one in settings]
    if not isinstance(settings, dict):
        return settings
    return {name: without_pretrained(value) for name, value in settings.items() if name != "pretrained"}


class Description:
    """Checks the description of a model in a file, and turns it into settings of known classes and plain values.

    Args:
        source: name of the file, for messages.
        trust: allow classes that bixt3d does not know.
    """

    def __init__(self, source: str, trust: bool):
        known = [one for one in known_classes() if issubclass(one, nn.Module)]
        self.source, self.trust, self.count, self.foreign = source, trust, 0, False
        self.paths = {path: one for one in known for path in class_paths(one)}
        self.own = {one.__name__: class_paths(one)[-1] for one in known if one.__module__.startswith("bixt3d.")}

    def resolve(self, value: Any) -> Any:
        """Return the value with full paths of known classes. Raises InputError for other classes and values."""
        self.count += 1
        if self.count > MAX_VALUES:
            raise InputError(f"{self.source} describes a model with too many settings")
        if isinstance(value, dict):
            return self._resolve_class(value) if "class_path" in value else self._resolve_settings(value)
        if isinstance(value, list):
            return [self.resolve(one) for one in value]
        if isinstance(value, str) and not (self.trust or re.fullmatch(WORDS, value, re.ASCII)):
            raise InputError(f"{self.source} has '{printable(value)[:80]}' among the settings of its model: not a word")
        if isinstance(value, int | float) and abs(value) > LARGEST:
            raise InputError(f"{self.source} has {value:.3g} among the settings of its model: too large")
        return value

    def _resolve_settings(self, values: dict[str, Any]) -> dict[str, Any]:
        for name in values:
            if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
                raise InputError(f"{self.source} describes a model with the setting '{printable(name)[:80]}'")
        if isinstance(values.get("features"), str) and not self.trust:
            values = values | {"features": str(Features.parse(values["features"]))}
        return {name: self.resolve(value) for name, value in values.items()}

    def _resolve_class(self, value: dict[str, Any]) -> dict[str, Any]:
        path, settings = value["class_path"], value.get("init_args") or {}
        check_keys(value | {"init_args": settings}, ("class_path", "init_args"), f"a class in {self.source}")
        if not (isinstance(path, str) and isinstance(settings, dict)):
            raise InputError(f"{self.source} describes a model without the name of a class and its settings")
        name = path.rpartition(".")[2]
        if path in self.paths:
            self.foreign |= not self.paths[path].__module__.startswith("bixt3d.")
        elif "." not in path or path.startswith("bixt3d."):
            if name not in self.own:
                raise InputError(f"{self.source} names the class '{printable(path)[:80]}', which bixt3d does not have")
            path = self.own[name]
        elif self.trust:
            self.foreign = True
        else:
            raise InputError(
                f"{self.source} names the class '{printable(path)[:80]}', which is not bixt3d's: import it before, if "
                "it is derived from one of bixt3d's, or let the file import it, and so run its code, with --trust or "
                "trust=True"
            )
        return {"class_path": path, "init_args": self._resolve_settings(settings)}


@contextmanager
def _no_more_modules_than(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Raise InputError while this thread builds a model if it gets many more modules than there are weights."""
    own = get_ident()
    left = {"parameters": 2 * len(weights) + 64, "modules": 16 * len(weights) + 256}

    def count(kind: str) -> None:
        if get_ident() != own:  # hooks act in all threads, and another one may build another model
            return
        left[kind] -= 1
        if left[kind] < 0:
            raise InputError(f"it would have more {kind} than there are weights for ({len(weights)} tensors)")

    hooks = [
        register_module_parameter_registration_hook(lambda *_: count("parameters")),
        register_module_module_registration_hook(lambda *_: count("modules")),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
