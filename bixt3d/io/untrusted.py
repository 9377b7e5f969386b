"""Safe loading of untrusted JSON, yaml and PyTorch files: bounded in size, no code, InputError if damaged."""

import io
import json
import math
import pickletools
import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
import yaml

from bixt3d.errors import InputError
from bixt3d.io.bounds import check_names, printable

MAX_JSON, MAX_YAML = 2**22, 2**18
"""Largest number of characters; JSON may contain the names of many classes, yaml only settings."""
MAX_VALUES, MAX_SETTINGS, DEEPEST = 200_000, 20_000, 32
"""Largest number of values in JSON, of values in yaml with its aliases expanded, and depth of nesting."""
TENSOR_GLOBALS = r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch(\.storage)? \w+Storage"
"""Globals that a pickle of tensors may use; torch also allows `bytearray`, which can allocate any amount of memory."""

GETS = ("GET", "BINGET", "LONG_BINGET")
"""Pickle opcodes that read the memo."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Loads plain values only; dates stay text, as in jsonargparse. A name that a group has twice is refused."""

    yaml_implicit_resolvers = {
        first: [one for one in resolvers if one[0] != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = Counter(name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode))
        if twice := [name for name, number in names.items() if number > 1]:
            raise ValueError(f"it has {twice[0]} twice")
        return super().construct_mapping(node, deep)


def read_json(text: str, source: str) -> Any:
    """Parse JSON. Raises InputError if it is damaged or too large; ``source`` names it in errors."""
    _check_length(text, MAX_JSON, source)
    try:
        values = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source} is not JSON, or it is damaged") from error
    check_plain(values, source)
    return values


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")


def read_yaml(text: str, source: str, settings: bool = True) -> Any:
    """Parse yaml. Raises InputError if it is damaged or too large; ``source`` names it in errors.

    Python tags, names with dots, and aliases that expand to too many values are refused. ``settings``: False for a
    file that is none: its names may have dots, and whole numbers become text.
    """
    _check_length(text, MAX_YAML, source)
    try:
        _check_aliases(text, source)
        values = yaml.load(text, _Loader)
    except InputError:
        raise
    except Exception as error:  # PyYAML raises many types for damaged text
        reason = " ".join(str(error).replace('in "<unicode string>", ', "at ").split())[:200]
        raise InputError(f"{source} contains no settings in yaml: {printable(reason)}") from error
    values = values if settings else _text_names(values)
    check_plain(values, source)
    if settings:
        _check_dots(values, source)
    return values


def _text_names(values: Any) -> Any:
    if isinstance(values, dict):
        return {str(name) if type(name) is int else name: _text_names(value) for name, value in values.items()}
    return [_text_names(value) for value in values] if isinstance(values, list) else values


def _check_dots(values: Any, source: str) -> None:
    """Raise InputError for a name such as ``optim.lr``: jsonargparse would take it for a setting, unchecked."""
    if isinstance(values, dict):
        for name in values:
            if "." in name:
                raise InputError(
                    f"{source} contains '{printable(name)[:80]}': write a group and, indented, its settings"
                )
    for value in values.values() if isinstance(values, dict) else values if isinstance(values, list) else ():
        _check_dots(value, source)


def _check_length(text: str, most: int, source: str) -> None:
    if len(text) > most:
        raise InputError(f"{source} is too large: {len(text):,} characters, at most {most:,} are read")


def _check_aliases(text: str, source: str) -> None:
    """Raise InputError if yaml has too many values with its aliases expanded, or is nested too deep."""
    sizes, open_anchors, anchors = [0], [], {}
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.AliasEvent):
            sizes[-1] += anchors.get(event.anchor, MAX_SETTINGS)  # an alias inside its own anchor never ends
        elif isinstance(event, yaml.CollectionStartEvent):
            sizes.append(1)
            open_anchors.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            size = sizes.pop()
            sizes[-1] += size
            anchors[open_anchors.pop()] = size
        elif isinstance(event, yaml.ScalarEvent):
            sizes[-1] += 1
            anchors[event.anchor] = 1
        if len(sizes) > DEEPEST or sizes[-1] >= MAX_SETTINGS:
            raise InputError(f"{source} is nested too deep, or contains too many values, or its aliases do")


def check_plain(values: Any, source: str) -> None:
    """Raise InputError unless values are dicts, lists, text, finite numbers, booleans and null, and not too many."""
    pending, seen = [(values, 1)], 0
    while pending:
        value, depth = pending.pop()
        seen += 1
        if seen > MAX_VALUES or depth > DEEPEST:
            raise InputError(f"{source} is nested too deep, or contains too many values")
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise InputError(f"{source} has a name that is not text")
            pending += [(one, depth + 1) for one in value.values()]
        elif isinstance(value, list):
            pending += [(one, depth + 1) for one in value]
        elif (isinstance(value, float) and not math.isfinite(value)) or (
            isinstance(value, int) and abs(value) >= 2**63
        ):
            raise InputError(f"{source} contains a number that is not finite, or too large")
        elif not isinstance(value, str | int | float | bool | None):
            raise InputError(f"{source} contains something other than text, numbers, lists and dicts")


def check_different_names(names: Any, source: str) -> None:
    """Raise InputError unless ``names`` is a list of different, printable names."""
    if not (isinstance(names, Sequence) and not isinstance(names, str) and names):
        raise InputError(f"{source} should be a list of names")
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"{source} should be a list of names, but not all of them are text")
    check_names(names, source)
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise InputError(f"{source} contains '{twice}' twice")


def check_count(value: Any, source: str, least: int = 1, most: int = 2**20) -> int:
    """Return a value if it is an integer from ``least`` to ``most``. Raises InputError for any other."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{source} should be a whole number from {least} to {most}, not {printable(repr(value))[:80]}")
    return value


def check_keys(values: Any, keys: Sequence[str], source: str) -> None:
    """Raise InputError unless ``values`` is a dict with exactly these keys."""
    if not isinstance(values, dict) or set(values) != set(keys):
        raise InputError(f"{source} should have these entries and no others: {', '.join(keys)}")


def load_tensors(content: bytes, *classes: type) -> Any:
    """Load a file of `torch.save` without running its code. Raises InputError if it is unsafe, other types if damaged.

    ``classes``: allowed besides tensors and plain values. No tensor may be larger than the file: an expanded tensor, or
    a zip that unpacks to more, could fill the memory.
    """
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > len(content):
                raise InputError("it unpacks to more than its own size")
    _check_pickles(content, {f"{one.__module__} {one.__qualname__}" for one in classes})
    with torch.serialization.safe_globals(list(classes)):
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    pending, seen = [state], 0
    while pending:
        value, seen = pending.pop(), seen + 1
        if seen > MAX_VALUES:
            raise InputError("it contains too many values")
        if isinstance(value, torch.Tensor) and (value.layout != torch.strided or value.nbytes > len(content)):
            raise InputError("it contains a tensor that is larger than the file")
        if isinstance(value, Mapping | list | tuple):
            pending += value.values() if isinstance(value, Mapping) else value
    return state


def _check_pickles(content: bytes, known: set[str]) -> None:
    """Raise InputError for a pickle with globals or opcodes that tensors do not need, without executing it."""
    if content[:4] == b"PK\x03\x04":  # the same test, and the same reader, as in torch.load
        pickles, count = io.BytesIO(torch._C.PyTorchFileReader(io.BytesIO(content)).get_record("data.pkl")), 1
    else:  # magic number, version, system, content, keys of the storages
        pickles, count = io.BytesIO(content), 5
    for _ in range(count):
        repeats = _Repeats()
        for step, name, _ in pickletools.genops(pickles):
            repeats.check(step.name, name)
            if step.name == "GLOBAL" and not (name in known or re.fullmatch(TENSOR_GLOBALS, name, re.ASCII)):
                raise InputError(f"it names {printable(name)[:80]}, which no tensor needs")
            if step.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"):
                raise InputError(f"it contains the step {step.name}, which no tensor needs")


class _Repeats:
    """Detects a pickle that multiplies its content: by copies into OrderedDicts, or as their attributes.

    ``torch.save`` creates every OrderedDict empty, then fills it, and writes its attributes only once.
    """

    def __init__(self):
        self.memo_size, self.ordered, self.before, self.wants_empty = 0, set(), "", False

    def check(self, step: str, value: Any) -> None:
        """Raise InputError if the next opcode makes a copy."""
        is_put = step == "MEMOIZE" or "PUT" in step
        if is_put and self.wants_empty and self.before == "GLOBAL":
            self.ordered.add(self.memo_size if step == "MEMOIZE" else int(value))
        elif self.wants_empty and step != "EMPTY_TUPLE":
            raise InputError("it makes an OrderedDict of values, which no tensor needs")
        else:
            is_class = step == "GLOBAL" and value == "collections OrderedDict"
            self.wants_empty = is_class or (step in GETS and int(value) in self.ordered)
        if step == "BUILD" and self.before in GETS:
            raise InputError("it gives the same attributes to several values, which no tensor needs")
        self.memo_size += is_put
        self.before = step
