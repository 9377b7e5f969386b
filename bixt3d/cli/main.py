"""The command ``bixt3d``: one word says what to do, and one file of this folder does it."""

import sys
from collections.abc import Sequence
from importlib import import_module

from bixt3d.cli.program import run_program

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
"""What each subcommand does; ``cli/NAME.py`` has its ``main(argv)``. Imported when it is called: help must be fast."""


def usage() -> str:
    """Return the text of ``bixt3d --help``."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: bixt3d COMMAND ...", "", *lines, "", "bixt3d COMMAND --help explains each one."])


def main() -> None:
    """Run the subcommand that the command line names."""
    if sys.argv[1:2] in ([], ["-h"], ["--help"]):
        print(usage())
    elif sys.argv[1] not in COMMANDS:
        print(f"error: there is no command '{sys.argv[1]}'; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    else:
        run()


def run(*words: str) -> None:
    """Run the subcommand that these words and the command line name, as a program: it ends with an exit code."""
    run_program(lambda: call([*words, *sys.argv[1:]]))


def call(argv: Sequence[str]) -> object:
    """Run the subcommand of a command line; returns what its main function does."""
    return import_module(f"bixt3d.cli.{argv[0]}").main(argv[1:])
