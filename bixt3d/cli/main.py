"""The command ``bixt3d``: one word says what to do, and one file of this folder does it."""

import sys
from collections.abc import Sequence
from importlib import import_module

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


def main(argv: Sequence[str] | None = None) -> None:
    """Run the subcommand that the command line names."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return
    name = words[0]
    if name not in COMMANDS:
        print(f"error: there is no command '{name}'; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    from bixt3d.cli.program import run_program

    run_program(lambda: import_module(f"bixt3d.cli.{name}").main(words[1:]))
