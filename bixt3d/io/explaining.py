"""Messages about wrong settings: where, what is wrong, and the nearest valid name."""

import inspect
import re
from collections.abc import Iterable

from bixt3d.io.bounds import printable
from bixt3d.io.known_classes import known_classes
from bixt3d.io.named_configs import nearest

ELSEWHERE = dict.fromkeys(("out", "output", "logdir", "log_dir", "work_dir"), "run_dir") | {"gpus": "runtime.devices"}
"""Names of settings in other programs, and here."""


def explain(message: str, known: Iterable[str]) -> str:
    """Turn an error message of jsonargparse into one sentence: where, what is wrong, and the nearest valid name.

    ``known``: the names of all settings.
    """
    if broken := re.match(r"(Problems parsing|Unexpected) config: ", message):
        problem = re.sub(r'in "<unicode string>",', "at", " ".join(message[broken.end() :].split()))
        return f"the config file contains no settings in yaml: {problem}"
    message = "\n".join(map(printable, message.splitlines()))
    where = ".".join(re.findall(r"""(?:Parser key "|Group ')([^"']+)["']""", message))
    if unknown := re.search(
        r"Option '([^']+)' is not accepted|does not accept option '([^']+)'|unrecognized arguments: --(\S+)", message
    ):
        name = next(filter(None, unknown.groups())).split("=")[0]
        owners = re.findall(r"class_path '([^']+)'", message)
        names = [one.name for one in parameters_of(owners[-1])] if owners else list(known)
        setting = f"{where}.{name}" if where else name
        if setting in ELSEWHERE and ELSEWHERE[setting] in names:
            return f"unknown setting '{setting}'; it is '{ELSEWHERE[setting]}' here"
        return f"unknown setting '{setting}'" + nearest(name if owners else setting, names)
    if sentence := _explain_class(message, where):
        return sentence
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    line = re.sub(r'^Parser key "[^"]+":\s*', "", re.sub(r"\.? Got value: Namespace.*", "", lines[-1]))
    line = re.sub(r"<class '(\w+)'>", r"\1", line)
    line = re.sub(r"Expected a typing.Literal\[(.*?)\]", r"Expected one of \1", line)
    return f"setting '{where}': {line}" if where else line


def _explain_class(message: str, where: str) -> str | None:
    """Return the message about a class that is unknown or does not fit its setting; None if it is about neither."""
    patterns = (
        r"Expected a dot import path string: (\w+)",
        r"Expected '([\w.]+)' to be a subclass of",
        r"Import path ([\w.]+) does not correspond to a subclass of",
        r"Importing '([\w.]+)' is not allowed",
        r"No module named '([\w.]+)'",
        r"module '(\w+)' has no attribute '\w+'",
    )
    found = re.search("|".join(patterns), message)
    if not found:
        return None
    path = next(filter(None, found.groups()))
    name, classes = path.rpartition(".")[2], [one.__name__ for one in known_classes() if one.__name__[0] != "_"]
    if found[4] and not path.startswith("bixt3d."):
        return f"setting '{where}' names {path}, which is not bixt3d's: --trust imports it, and so runs its code"
    if found[5]:
        return (
            f"setting '{where}' names a class of the module {path}, which cannot be imported: put its file beside "
            "the config, or in a folder of PYTHONPATH"
        )
    if found[6]:
        return f"setting '{where}' names a class that the module {path} does not have"
    if (found[2] or found[3]) and name not in classes:
        return f"setting '{where}' cannot be a {name}: " + _what_to_derive_from(message)
    if name in classes:
        return f"setting '{where}' cannot be a {name}: that class is meant for another task or another setting"
    hint = nearest(name, classes)  # without a near one: the list of all classes would be too long
    return f"unknown class '{name[:80]}' in setting '{where}'" + hint * ("did you mean" in hint)


def _what_to_derive_from(message: str) -> str:
    """Return the advice what a user's own class must be derived from, by the type that jsonargparse expects."""
    expected = re.search(r"subclass of (?:<class ')?([\w.]+)", message)
    name = expected[1].rpartition(".")[2] if expected else ""
    protocol = next((getattr(one, "protocol", ()) for one in known_classes() if one.__name__ == name), ())
    plain = f", or from nn.Module with forward(self, {', '.join(protocol)})" if protocol else ""
    return f"derive it from bixt3d's {name}{plain}" if name else "derive it from a class of bixt3d"


def parameters_of(class_path: str) -> list[inspect.Parameter]:
    """Return the constructor parameters of a class and its base classes; none of an unknown class."""
    name = class_path.rpartition(".")[2]
    classes = next((one.__mro__ for one in known_classes() if one.__name__ == name), ())
    parameters = [one for cls in reversed(classes) for one in inspect.signature(cls.__init__).parameters.values()]
    return [one for one in parameters if one.name != "self" and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
