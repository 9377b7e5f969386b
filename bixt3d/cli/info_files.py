"""``bixt3d info FILE``: facts about files of clouds, meshes and images."""

from pathlib import Path
from typing import Any

from bixt3d.cli.info_clouds import cloud_facts
from bixt3d.datasets.files.las_large import is_large, read_runs
from bixt3d.datasets.files.reader import SUFFIXES, read_file
from bixt3d.datasets.images.reading import ENDINGS, exif_turn, open_image
from bixt3d.errors import InputError
from bixt3d.io.bounds import printable
from bixt3d.io.error_messages import enough_memory


def file_facts(path: Path) -> dict[str, Any]:
    """Return the facts about a file. Raises InputError if it cannot be read, or has an unknown format."""
    if path.suffix.lower() in ENDINGS:
        return image_facts(path)
    if path.is_file() and path.suffix.lower() not in SUFFIXES:
        known = ", ".join((*SUFFIXES, *ENDINGS))
        raise InputError(f"{printable(path)} is of an unknown kind: known are runs (folder, .safetensors), {known}")
    with enough_memory(f"{printable(path)} is too large for this machine"):
        if is_large(path):
            return cloud_facts(path, *read_runs(path))
        return cloud_facts(path, read_file(path))


def image_facts(path: Path) -> dict[str, Any]:
    """Return size, colors and orientation of an image."""
    with open_image(path) as image:
        turned = "read turned, as its EXIF orientation says" if exif_turn(image) is not None else None
        facts = {"what": f"an image ({image.format})", "pixels": f"{image.width} x {image.height}"}
        return facts | {"colors": f"{image.mode}, read as RGB", "orientation": turned}
