"""The classes that settings may name without ``--trust``: those of bixt3d, and subclasses that are imported."""

import inspect
import shlex
import sys

TRUST = "--trust: import classes that are named and that are not bixt3d's, and so run their code"


def command_line(start: str, *words: str, trust: bool = False) -> str:
    """Return a command to print: its words quoted for the shell, and ``--trust`` if the run needed it."""
    return " ".join([start, *map(shlex.quote, words), *["--trust"] * trust])


def known_classes() -> list[type]:
    """Return the classes of bixt3d in all imported modules, and all classes derived from them."""
    imported = sys.modules.copy()  # a list of thousands of pairs would make Python collect garbage
    modules = [module for name, module in imported.items() if name.split(".")[0] == "bixt3d"]
    things = [thing for module in modules for thing in list(vars(module).values())]
    pending = [thing for thing in things if inspect.isclass(thing) and thing.__module__.split(".")[0] == "bixt3d"]
    known: dict[type, None] = {}
    while pending:
        if (one := pending.pop()) not in known:
            known[one] = None
            pending += type.__subclasses__(one)
    return list(known)


def class_paths(one: type) -> list[str]:
    """Return the dotted paths under which a class may be imported: from each parent package, last from its module."""
    packages, name = one.__module__.split("."), one.__qualname__
    if not all(part.isidentifier() for part in (*packages, *name.split("."))):
        return [name]  # defined inside a function: no path leads there
    return [".".join((*packages[:end], name)) for end in range(1, len(packages) + 1)]
