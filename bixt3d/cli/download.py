"""``bixt3d download NAME``: fetch a public data set."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from bixt3d.datasets.download.archives import ARCHIVES
from bixt3d.datasets.download.fetch import fetch
from bixt3d.io.offline import go_offline


def main(argv: Sequence[str]) -> Path:
    """Fetch the named archive; returns its folder."""
    parser = argparse.ArgumentParser(prog="bixt3d download", description="Fetch a public data set.")
    parser.add_argument("name", choices=ARCHIVES, help="which data set")
    parser.add_argument("--root", type=Path, default=Path("data"), help="folder it goes below (default: data)")
    parser.add_argument("--offline", action="store_true", help="fetch nothing: unpack what lies there already")
    arguments = parser.parse_args(argv)
    if arguments.offline:
        go_offline()
    folder = fetch(ARCHIVES[arguments.name], arguments.root)
    print(f"{arguments.name} is ready in {folder}")
    return folder
