"""The command ``bixt3d``: one word says what to do, and one file of this folder does it."""

import sys
from collections.abc import Sequence
from importlib import import_module

from bixt3d.cli.program import run_program
from bixt3d.errors import InputError
from bixt3d.io.bounds import printable
from bixt3d.io.named_configs import nearest

COMMANDS = {
    "train": "train a model: cls, partseg, imgcls, imgseg",
    "test": "evaluate a run on its test set",
    "predict": "predict clouds, meshes and images",
    "visualize": "draw predictions, parts and attention",
    "export": "write a run as ONNX or torch.export",
    "cost": "count FLOPs, activations and parameters",
    "download": "fetch a public data set",
    "info": "say what a run or a file holds",
    "list": "list configs, models or runs",
    "compare": "compare runs: a table and a plot",
}
"""What each one does; ``cli/NAME.py`` has its ``main(argv)`` and ``make_parser()``. Imported when it is called."""

NOTES = (
    "bixt3d COMMAND --help explains each one; --version prints the version.",
    'In bash, eval "$(bixt3d --print_completion bash)" completes commands, options and configs; zsh alike.',
)


def usage() -> str:
    """Return the text of ``bixt3d --help``."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: bixt3d COMMAND ...", "", *lines, "", *NOTES])


def main() -> None:
    """Run the subcommand that the command line names."""
    run_program(lambda: start(sys.argv[1:]))


def run(*words: str) -> None:
    """Run the subcommand that these words and the command line name, as a program: it ends with an exit code."""
    run_program(lambda: call([*words, *sys.argv[1:]]))


def start(argv: Sequence[str]) -> object:
    """Do what the command line says. Raises InputError for a command that is not known."""
    first = argv[0] if argv else "--help"
    if first in COMMANDS:
        return call(argv)
    if first in ("-h", "--help"):
        print(usage())
    elif first == "--version":
        from bixt3d.version import __version__

        print(f"bixt3d {__version__}")
    elif first == "--print_completion":
        from bixt3d.cli.completion import completion

        print(completion("".join(argv[1:2]), list(COMMANDS)))
    else:
        raise InputError(f"there is no command '{printable(first)}'" + nearest(first, COMMANDS))
    return None


def call(argv: Sequence[str]) -> object:
    """Run the subcommand of a command line; returns what its main function does."""
    return import_module(f"bixt3d.cli.{argv[0]}").main(argv[1:])
