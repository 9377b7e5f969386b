"""The argument parser of the commands. It imports nothing heavy: help must be fast."""

from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from bixt3d.errors import InputError
from bixt3d.io.known_classes import TRUST
from bixt3d.io.named_configs import nearest
from bixt3d.io.offline import OFFLINE

ALWAYS = f"{TRUST}\n{OFFLINE}"
"""Last lines of the help of commands that load a run."""
CLOUDS = ".ply .obj .off .stl .glb .gltf .xyz .xyzn .xyzrgb .pts .asc .txt .csv .tsv .pcd .npy .npz .h5 .hdf5 "
CLOUDS += ".las .laz .e57"
IMAGES = ".jpg .jpeg .png .bmp .webp"
"""Endings of files that are read, repeated here because help must not import torch."""


class Parser(ArgumentParser):
    """An argparse parser whose errors are one sentence with the nearest valid option; line breaks of texts are kept."""

    def __init__(self, command: str, description: str, epilog: str = ""):
        super().__init__(
            prog=f"bixt3d {command}",
            description=description,
            epilog=epilog,
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def parse_args(self, args: Sequence[str] | None = None, namespace=None):  # noqa: ANN001 (as argparse has it)
        """Parse a command line. Raises InputError, for an unknown option with the nearest valid one."""
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            raise self.unknown(rest[0])
        return found

    def unknown(self, word: str) -> InputError:
        """Return the error for an unknown argument."""
        if not word.startswith("-"):
            return InputError(f"'{word}' is one argument too many")
        options = [option for action in self._actions for option in action.option_strings]
        return InputError(f"unknown option '{word}'" + nearest(word.split("=")[0], options))

    def error(self, message: str) -> NoReturn:
        """Raise InputError instead of printing the usage."""
        raise InputError(f"{message}; write --up=-y" if message.startswith("argument --up: expected") else message)


def names_file(out: Path) -> bool:
    """Return whether ``--out`` names a file: its ending is that of a format, and no folder has that name."""
    return out.suffix.lower() in (*CLOUDS.split(), *IMAGES.split(), ".html", ".json") and not out.is_dir()


def folder(text: str) -> Path:
    """Return the folder that an option names. Raises ArgumentTypeError for the name of a file."""
    if names_file(Path(text)):
        raise ArgumentTypeError(f"'{text}' ends as a file: name a folder; for one of that name, make it first")
    return Path(text)
