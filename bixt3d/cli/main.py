"""The command ``bixt3d``: each subcommand is one file of this folder."""

import sys
from collections.abc import Sequence
from importlib import import_module

from bixt3d.cli.program import run_program
from bixt3d.errors import InputError
from bixt3d.io.bounds import printable
from bixt3d.io.named_configs import nearest

COMMANDS = {
    "train": "train a model: cls, partseg, scenes, imgcls, imgseg",
    "test": "evaluate a run on its test set",
    "predict": "predict clouds, meshes, scenes and images",
    "visualize": "draw predictions, parts and attention maps",
    "export": "write a run as ONNX or torch.export",
    "cost": "count FLOPs, activations and parameters",
    "download": "download a public data set",
    "data": "check or convert a folder of your own clouds or scenes",
    "info": "describe a run, or a file of clouds, scenes, meshes or images",
    "list": "list configs, models or runs",
    "compare": "compare runs: a table and a plot",
}
"""The subcommands; ``cli/NAME.py`` has ``main(argv)`` and ``make_parser()``, and is imported when called."""

NOTES = (
    "examples:",
    "  bixt3d train cls --cfg shapes_cls --run_dir runs/demo   no download, a minute on two CPU cores",
    "  bixt3d predict scan.ply --checkpoint runs/demo",
    "  bixt3d list configs",
    "",
    "bixt3d COMMAND --help explains each command; bixt3d --version prints the version.",
    'Completion in bash (zsh alike): eval "$(bixt3d --print_completion bash)"',
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
    """Run the subcommand of these words, with the options of the command line; ends with an exit code."""
    run_program(lambda: call([*words, *sys.argv[1:]]))


def start(argv: Sequence[str]) -> object:
    """Run a command line. Raises InputError for an unknown command."""
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
    """Run the subcommand of a command line; returns the result of its main function."""
    return import_module(f"bixt3d.cli.{argv[0]}").main(argv[1:])
