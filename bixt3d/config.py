"""Settings: one yaml file is one run, any setting can be overridden on the command line, mistakes get one sentence."""

import difflib
import importlib
import inspect
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from bixt3d.types import InputError, Stopped


class SettingsParser(ArgumentParser):
    """jsonargparse with errors as one sentence that names the nearest right setting."""

    def error(self, message: str, ex: Exception | None = None) -> None:
        """Raise InputError in place of printing the usage of every option."""
        if not self.exit_on_error:  # a parser that jsonargparse made for a part; the outer one explains
            super().error(message, ex)
        raise InputError(explain(message, [action.dest for action in self._actions])) from ex

    def parse_args(self, *args: Any, **options: Any) -> Namespace:
        """Return the settings that a command line says, those of the model as its data set gives features.

        Raises InputError for a config file that is no text, too deep, or has endless numbers.
        """
        try:
            settings = super().parse_args(*args, **options)
        except InputError:
            raise
        except (ValueError, OverflowError, RecursionError) as error:
            reason = "too deep" if isinstance(error, RecursionError) else first_line(error)
            raise InputError(f"the config file holds no settings in yaml: {reason}") from error
        follow_features(settings.get("model"), settings.get("data"))
        return settings

    def check_groups(self, settings: Namespace) -> None:
        """Raise InputError for a value in place of a group of settings."""
        for name in self.groups:
            if name in settings and not isinstance(settings[name], Namespace):
                raise InputError(f"setting '{name}' is a group of settings, not the value {settings[name]}")

    def instantiate(self, settings: Namespace, **options: Any) -> Namespace:
        """Build what the settings describe. Raises InputError where a class does not take its values."""
        self.check_groups(settings)
        try:
            return super().instantiate(settings, **options)
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            if isinstance(error, InputError) or is_out_of_memory(error):
                raise
            raise InputError(f"what the settings describe cannot be built: {first_line(error)}") from error


def make_settings_parser(description: str) -> SettingsParser:
    """Return a parser that reads ``--cfg FILE``; a program adds its settings."""
    parser = SettingsParser(description=description, allow_abbrev=False)
    parser.add_argument("--cfg", action="config", help="yaml file with the settings of one complete run")
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
    )
    found = re.search("|".join(ways), message)
    if not found:
        return None
    name, classes = next(filter(None, found.groups())).rpartition(".")[2], _own_classes()
    if name in classes:
        return f"setting '{where}' cannot be a {name}: that class is meant for another task or another setting"
    return f"unknown class '{name}' in setting '{where}'" + nearest(name, classes)


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the end of a sentence about a name that is not known: the nearest one, or all there are."""
    group = name.rpartition(".")[0] + "."
    names = sorted({one for one in names if not one.endswith(".help") and one != "print_shtab"})
    if of_group := [one for one in names if one.startswith(group)]:  # optim.lrr is near optim.lr, not near train
        close = difflib.get_close_matches(name[len(group) :], [one[len(group) :] for one in of_group], n=1, cutoff=0.5)
        return f"; did you mean '{group}{close[0]}'?" if close else f"; there are: {', '.join(of_group)}"
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; there are: {', '.join(names)}"


def _settings_of(class_path: str) -> list[str]:
    module, _, name = class_path.rpartition(".")
    classes = getattr(importlib.import_module(module), name).__mro__
    settings = [inspect.signature(cls.__init__).parameters.values() for cls in classes]
    return [
        one.name
        for its in settings
        for one in its
        if one.name != "self" and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]


def _own_classes() -> list[str]:
    modules = [module for name, module in sys.modules.items() if name.startswith("bixt3d.")]
    return [
        name for module in modules for name, thing in vars(module).items() if inspect.isclass(thing) and name[0] != "_"
    ]


def run_program(main: Callable[[], object]) -> None:
    """Run a program's main function: wrong input ends with one sentence and exit code 2, no traceback.

    A signal ends it with exit code 128 plus its number, and what `Stopped` says.
    """
    _stop_on_signals(os.getpid())
    try:
        main()
    except (InputError, KeyboardInterrupt, RuntimeError, MemoryError) as error:
        code, words = _ending(error)
        if code is None:
            raise
        if words:
            print(words, file=sys.stderr)
        sys.exit(code)


def _stop_on_signals(own: int) -> None:
    def stop(number: int, frame: Any) -> None:
        if os.getpid() != own:  # a process that reads data, which this one made: it ends as if there were no handler
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise Stopped(number)

    for name in ("SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)


def _ending(error: BaseException) -> tuple[int | None, str]:
    """Return the exit code and the last words of a program that ends with this error; no code for a fault of ours."""
    if isinstance(error, InputError):
        return 2, f"error: {error}"
    if isinstance(error, Stopped):
        return error.code, (str(error) or f"stopped by {signal.Signals(error.number).name}") if error.code else ""
    if isinstance(error, KeyboardInterrupt):
        return 130, "stopped"
    if is_out_of_memory(error):
        return 2, "error: out of memory: give smaller or fewer inputs, or use a larger machine"
    return None, ""


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, for a sentence."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error of PyTorch or NumPy means that memory was not enough."""
    words = ("can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))


def config_file(name: str) -> Path:
    """Return the path of ``cfgs/NAME.yaml``, in a checkout or an installed package. Raises InputError if none."""
    package = Path(__file__).parent
    folders = [folder for folder in (package / "cfgs", package.parent / "cfgs") if folder.is_dir()]
    files = {path.stem: path for folder in folders for path in folder.glob("*.yaml")}
    if name not in files:
        raise InputError(f"there is no config '{name}'" + nearest(name, files))
    return files[name]
