"""The configs that come with the package: by name, and without importing torch."""

from pathlib import Path


def config_files() -> dict[str, Path]:
    """Return the path of every ``cfgs/NAME.yaml`` by its name, in a checkout or an installed package."""
    package = Path(__file__).parents[1]
    folders = [folder for folder in (package / "cfgs", package.parent / "cfgs") if folder.is_dir()]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}
