"""Settings of a run: one yaml file, any setting overridden on the command line; errors are one sentence."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import RLock
from typing import Any

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings
from jsonargparse._common import parsing_settings  # no public function reads or restores them; used only below

from bixt3d.io.bounds import printable
from bixt3d.io.error_messages import first_line, is_out_of_memory
from bixt3d.io.explaining import explain, parameters_of
from bixt3d.io.importing import import_from
from bixt3d.io.known_classes import TRUST, class_paths, known_classes
from bixt3d.io.named_configs import find_config
from bixt3d.io.offline import OFFLINE
from bixt3d.io.untrusted import MAX_YAML, read_yaml
from bixt3d.types import Features, InputError


class SettingsParser(ArgumentParser):
    """A jsonargparse parser whose errors are one sentence with the nearest valid setting.

    Settings may name classes of bixt3d, and classes derived from these that the program has already imported; another
    class is imported only if ``trust`` is set, or ``--trust`` is among the arguments.
    """

    def __init__(self, *args: Any, trust: bool = False, **options: Any):
        super().__init__(*args, **options)
        self.trust = trust

    def parse_args(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Namespace:
        """Return the settings of a command line: those of its config, overridden by its options.

        Config files have a maximum size. ``--trust`` is an option of the command line, never of a config.
        """
        args = list(sys.argv[1:] if args is None else args)
        self.trust = self.trust or "--trust" in args
        args = [part for arg in args for part in re.split("(?<=^--cfg)=", arg, maxsplit=1)]
        for place, flag in enumerate(args[:-1], 1):
            if flag == "--cfg":
                args[place] = self._find_config(args[place])
                if self.trust and not is_text(args[place]):
                    import_from(Path(args[place]).parent)
        with _known_classes_only(self.trust):
            return super().parse_args([arg for arg in args if arg != "--trust"], *more, **options)

    def parse_object(self, *values: Any, **options: Any) -> Namespace:
        """Parse settings that are Python objects."""
        with _known_classes_only(self.trust):
            return super().parse_object(*values, **options)

    def error(self, message: str, ex: Exception | None = None) -> None:
        """Raise InputError instead of printing the usage."""
        if not self.exit_on_error:  # an inner parser of jsonargparse; the outer one explains
            super().error(message, ex)
        raise InputError(explain(message, [action.dest for action in self._actions])) from ex

    def check_groups(self, settings: Namespace | dict[str, Any]) -> None:
        """Raise InputError for a plain value where a group of settings is expected."""
        for name in self.groups:
            if name in settings and not isinstance(settings[name], Namespace | dict):
                value = printable(str(settings[name]))[:80]
                raise InputError(f"setting '{name}' is a group of settings, not the value {value}")

    def _find_config(self, value: str) -> str:
        """Return the path of a config, or its text. Raises InputError if there is none, or if it names another file.

        jsonargparse would read that file.
        """
        value = value if value == "-" or is_text(value) else str(find_config(value))
        settings = read_config(value)
        if isinstance(settings, dict):
            if settings.get("cfg") is not None:
                raise InputError("a config has no setting 'cfg': one file is one run")
            self.check_groups({name: part for name, part in settings.items() if part is not None})
        return value

    def instantiate(self, settings: Namespace, *, only: Sequence[str] | None = None, **options: Any) -> Namespace:
        """Build the objects of the settings, the model for the features of the data set; the settings stay unchanged.

        ``only``: names of the settings to build, if not all. Raises InputError if a class rejects its values.
        """
        self.check_groups(settings)
        check_nulls(settings)
        settings = settings.clone()
        follow_features(settings.get("model"), settings.get("data"))
        if only is not None:
            settings = Namespace({name: settings[name] for name in only})
        try:
            with _known_classes_only(self.trust):
                return super().instantiate(settings, **options)
        except (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError) as error:
            if isinstance(error, InputError) or is_out_of_memory(error):
                raise
            raise InputError(f"what the settings describe cannot be built: {first_line(error)}") from error


BUILDING = RLock()
"""Lock of parsing settings and building a described model: both change global state of the process."""


@contextmanager
def _known_classes_only(trust: bool) -> Iterator[None]:
    """Allow only known classes in settings, unless they are trusted; restore jsonargparse's settings afterwards."""
    if _parsing.get():  # an inner parser of jsonargparse
        yield
        return
    with BUILDING:
        before, inside = dict(parsing_settings), _parsing.set(True)
        if not trust:
            paths = [path for one in known_classes() for path in class_paths(one) if "<" not in path]
            set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=paths)
        try:
            yield
        finally:
            parsing_settings.update(before)
            _parsing.reset(inside)


_parsing: ContextVar[bool] = ContextVar("parsing", default=False)


def is_text(value: str) -> bool:
    """Return whether a config is given as text, not as a path or a name."""
    return "\n" in value or value.lstrip().startswith("{")


def read_config(value: str) -> Any:
    """Return the content of a config, given as a path or as text; None if there is no such file.

    Raises InputError if it is too large, nested too deep, or no yaml.
    """
    if is_text(value):
        return read_yaml(value, "the config")
    path = Path(value)
    if not path.is_file():
        if value == "-" or (path.exists() and not path.is_dir()):
            raise InputError(f"the config file {printable(value)} is no regular file")
        return None
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(MAX_YAML + 1)
    except UnicodeError as error:
        raise InputError(f"the config file {printable(path)} is not text in UTF-8: save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"the config file {printable(path)} cannot be read: {error.strerror}") from error
    return read_yaml(text, f"the config file {printable(path)}")


def make_settings_parser(description: str) -> SettingsParser:
    """Return a parser with ``--cfg NAME_OR_FILE``; a task adds its settings."""
    parser = SettingsParser(description=description, allow_abbrev=False)
    parser.add_argument("--cfg", action="config", help="config of the run: a name, or a yaml file")
    parser.epilog = f"{TRUST}. {OFFLINE}"
    return parser


def follow_features(model: Any, data: Any) -> None:
    """Set ``features`` in the model's settings to those of the data set, wherever they are null."""
    settings = (
        data.get("init_args") if isinstance(data, dict | Namespace) else None
    )  # a class name alone has no settings
    given = (settings.get("features") if isinstance(settings, dict | Namespace) else None) or ""
    if not isinstance(given, str):
        raise InputError("setting 'data.features' should be the names of features")
    given = str(Features.parse(given))
    parts = [model]
    while parts:
        part = parts.pop()
        if isinstance(part, dict | Namespace):
            if part.get("features", given) is None:
                part["features"] = given
            parts += (vars(part) if isinstance(part, Namespace) else part).values()


def check_nulls(settings: Namespace, where: str = "") -> None:
    """Raise InputError for a null number, bool or text of a class, which jsonargparse accepts."""
    plain = {}
    if isinstance(settings.get("init_args"), Namespace):
        plain = {one.name: one.annotation for one in parameters_of(str(settings.get("class_path")))}
        settings = settings["init_args"]
    for name, value in vars(settings).items():
        if isinstance(value, Namespace):
            check_nulls(value, f"{where}{name}.")
        elif value is None and plain.get(name) in (int, float, bool, str):
            raise InputError(f"setting '{where}{name}' must be of type {plain[name].__name__}, and is null")
