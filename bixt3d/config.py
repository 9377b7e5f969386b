"""Settings: one yaml file is one run, any setting can be overridden on the command line, mistakes get one sentence."""

import difflib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings
from jsonargparse._common import parsing_settings

from bixt3d.program import first_line, is_out_of_memory
from bixt3d.types import InputError
from bixt3d.untrusted import MOST_YAML, printable, read_yaml


class SettingsParser(ArgumentParser):
    """jsonargparse with errors as one sentence that names the nearest right setting.

    Settings name classes of bixt3d, and classes derived from these that the program has imported itself; any other one
    is imported only if ``trust`` is set, or ``--trust`` is among the arguments.
    """

    trust: bool = False

    def parse_args(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Namespace:
        """Return the settings that a command line says, those of the model as its data set gives features.

        Config files are bounded, and ``--trust`` counts only on the command line.
        """
        args = list(sys.argv[1:] if args is None else args)
        self.trust = self.trust or "--trust" in args
        for flag, value in pairwise(part for arg in args for part in re.split("(?<=^--cfg)=", arg, maxsplit=1)):
            if flag == "--cfg":
                _check_config(value)
        with _known_classes_only(self.trust):
            settings = super().parse_args([arg for arg in args if arg != "--trust"], *more, **options)
        follow_features(settings.get("model"), settings.get("data"))
        return settings

    def parse_object(self, *values: Any, **options: Any) -> Namespace:
        """Parse settings that are no text any more."""
        with _known_classes_only(self.trust):
            return super().parse_object(*values, **options)

    def error(self, message: str, ex: Exception | None = None) -> None:
        """Raise InputError in place of printing the usage of every option."""
        if not self.exit_on_error:  # a parser that jsonargparse made for a part; the outer one explains
            super().error(message, ex)
        raise InputError(explain(message, [action.dest for action in self._actions])) from ex

    def check_groups(self, settings: Namespace) -> None:
        """Raise InputError for a value in place of a group of settings."""
        for name in self.groups:
            if name in settings and not isinstance(settings[name], Namespace):
                raise InputError(f"setting '{name}' is a group of settings, not the value {settings[name]}")

    def instantiate(self, settings: Namespace, **options: Any) -> Namespace:
        """Build what the settings describe. Raises InputError where a class does not take its values."""
        self.check_groups(settings)
        check_nulls(settings)
        try:
            with _known_classes_only(self.trust):
                return super().instantiate(settings, **options)
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            if isinstance(error, InputError) or is_out_of_memory(error):
                raise
            raise InputError(f"what the settings describe cannot be built: {first_line(error)}") from error


@contextmanager
def _known_classes_only(trust: bool) -> Iterator[None]:
    """Let settings name known classes alone, unless they are trusted, and put jsonargparse back as it was."""
    if _parsing.get():  # a parser that jsonargparse made for a part
        yield
        return
    before, inside = dict(parsing_settings), _parsing.set(True)
    if not trust:
        set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=_all_paths())
    try:
        yield
    finally:
        parsing_settings.update(before)
        _parsing.reset(inside)


_parsing: ContextVar[bool] = ContextVar("parsing", default=False)


def known_classes() -> list[type]:
    """Return the classes of bixt3d, and those derived from them, in all modules that are imported."""
    modules = [module for name, module in list(sys.modules.items()) if name.split(".")[0] == "bixt3d"]
    things = [thing for module in modules for thing in list(vars(module).values())]
    pending = [thing for thing in things if inspect.isclass(thing) and thing.__module__.split(".")[0] == "bixt3d"]
    known: dict[type, None] = {}
    while pending:
        if (one := pending.pop()) not in known:
            known[one] = None
            pending += type.__subclasses__(one)
    return list(known)


def _all_paths() -> list[str]:
    return [path for one in known_classes() for path in class_paths(one) if "<" not in path]


def class_paths(one: type) -> list[str]:
    """Return the dotted paths that may name a class: in the packages that hold it, last where it is defined."""
    packages, name = one.__module__.split("."), one.__qualname__
    if not all(part.isidentifier() for part in (*packages, *name.split("."))):
        return [name]  # defined inside a function: no path leads there
    return [".".join((*packages[:end], name)) for end in range(1, len(packages) + 1)]


def _check_config(value: str) -> None:
    """Raise InputError for a config, a file or its text, that is too large, too deep, or no yaml."""
    if "\n" not in value and not value.lstrip().startswith("{"):
        path = Path(value)
        if not path.is_file():
            return  # jsonargparse says so
        try:
            with path.open(encoding="utf-8") as file:
                value = file.read(MOST_YAML + 1)
        except (OSError, UnicodeError) as error:
            raise InputError(f"the config file {path} is not text in UTF-8, or cannot be read") from error
        read_yaml(value, f"the config file {path}")
        return
    read_yaml(value, "the config")


def make_settings_parser(description: str) -> SettingsParser:
    """Return a parser that reads ``--cfg FILE``; a program adds its settings."""
    parser = SettingsParser(description=description, allow_abbrev=False)
    parser.add_argument("--cfg", action="config", help="yaml file with the settings of one complete run")
    parser.epilog = (
        "--trust: import classes that settings name and that are not bixt3d's, and so run their code. "
        "--offline: fetch nothing"
    )
    return parser


def follow_features(model: Any, data: Any) -> None:
    """Let a model read what its data set gives: fill in ``features`` wherever the model's settings leave it open."""
    given = ((data or {}).get("init_args") or {}).get("features") or ""
    parts = [model]
    while parts:
        part = parts.pop()
        if isinstance(part, Namespace):
            if part.get("features", given) is None:
                part["features"] = given
            parts += vars(part).values()


def explain(message: str, known: Iterable[str]) -> str:
    """Turn jsonargparse's message into one sentence: where, what is wrong, and the nearest right name."""
    if broken := re.match(r"(Problems parsing|Unexpected) config: ", message):
        problem = re.sub(r'in "<unicode string>",', "at", " ".join(message[broken.end() :].split()))
        return f"the config file holds no settings in yaml: {problem}"
    message = "\n".join(map(printable, message.splitlines()))
    where = ".".join(re.findall(r"""(?:Parser key "|Group ')([^"']+)["']""", message))
    if unknown := re.search(
        r"Option '([^']+)' is not accepted|does not accept option '([^']+)'|unrecognized arguments: --(\S+)", message
    ):
        name = next(filter(None, unknown.groups())).split("=")[0]
        owners = re.findall(r"class_path '([^']+)'", message)
        names = _settings_of(owners[-1]) if owners else list(known)
        setting = f"{where}.{name}" if where else name
        return f"unknown setting '{setting}'" + nearest(name if owners else setting, names)
    if sentence := _explain_class(message, where):
        return sentence
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    line = re.sub(r'^Parser key "[^"]+":\s*', "", re.sub(r"\.? Got value: Namespace.*", "", lines[-1]))
    line = re.sub(r"<class '(\w+)'>", r"\1", line)
    line = re.sub(r"Expected a typing.Literal\[(.*?)\]", r"Expected one of \1", line)
    return f"setting '{where}': {line}" if where else line


def _explain_class(message: str, where: str) -> str | None:
    """Return the sentence about a class that is not known, or known but of no use here; None if it is about neither."""
    ways = (
        r"Expected a dot import path string: (\w+)",
        r"Expected '([\w.]+)' to be a subclass of",
        r"Import path ([\w.]+) does not correspond to a subclass of",
        r"Importing '([\w.]+)' is not allowed",
    )
    found = re.search("|".join(ways), message)
    if not found:
        return None
    path = next(filter(None, found.groups()))
    name, classes = path.rpartition(".")[2], [one.__name__ for one in known_classes() if one.__name__[0] != "_"]
    if found[4] and not path.startswith("bixt3d."):
        return f"setting '{where}' names {path}, which is not bixt3d's: --trust imports it, and so runs its code"
    if name in classes:
        return f"setting '{where}' cannot be a {name}: that class is meant for another task or another setting"
    hint = nearest(name, classes)  # where none is near, all classes are too many
    return f"unknown class '{name[:80]}' in setting '{where}'" + hint * ("did you mean" in hint)


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the end of a sentence about a name that is not known: the nearest one, or all there are."""
    group = name.rpartition(".")[0] + "."
    names = sorted({one for one in names if not one.endswith(".help") and one != "print_shtab"})
    if of_group := [one for one in names if one.startswith(group)]:  # optim.lrr is near optim.lr, not near train
        close = difflib.get_close_matches(name[len(group) :], [one[len(group) :] for one in of_group], n=1, cutoff=0.5)
        return f"; did you mean '{group}{close[0]}'?" if close else f"; there are: {', '.join(of_group)}"
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; there are: {', '.join(names)}"


def check_nulls(settings: Namespace, where: str = "") -> None:
    """Raise InputError that names a plain setting of a class which is null: jsonargparse lets these pass."""
    plain = {}
    if isinstance(settings.get("init_args"), Namespace):
        plain = {one.name: one.annotation for one in _parameters_of(str(settings.get("class_path")))}
        settings = settings["init_args"]
    for name, value in vars(settings).items():
        if isinstance(value, Namespace):
            check_nulls(value, f"{where}{name}.")
        elif value is None and plain.get(name) in (int, float, bool, str):
            raise InputError(f"setting '{where}{name}' must be of type {plain[name].__name__}, and is null")


def _settings_of(class_path: str) -> list[str]:
    parameters = [one for one in _parameters_of(class_path) if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    return [one.name for one in parameters if one.name != "self"]


def _parameters_of(class_path: str) -> list[inspect.Parameter]:
    """Return the parameters of a class and of those that it is derived from; none of a class that is not known."""
    name = class_path.rpartition(".")[2]
    classes = next((one.__mro__ for one in known_classes() if one.__name__ == name), ())
    return [one for cls in reversed(classes) for one in inspect.signature(cls.__init__).parameters.values()]


def config_file(name: str) -> Path:
    """Return the path of ``cfgs/NAME.yaml``, in a checkout or an installed package. Raises InputError if none."""
    package = Path(__file__).parent
    folders = [folder for folder in (package / "cfgs", package.parent / "cfgs") if folder.is_dir()]
    files = {path.stem: path for folder in folders for path in folder.glob("*.yaml")}
    if name not in files:
        raise InputError(f"there is no config '{name}'" + nearest(name, files))
    return files[name]
