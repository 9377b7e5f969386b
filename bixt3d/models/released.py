"""Download the image checkpoints that BiXT's authors released, from figshare, once."""

import http.client
import os
import sys
import zipfile
from pathlib import Path

import torch

from bixt3d.io.bounds import printable, shortened
from bixt3d.io.fetching import LostError, RefusedError, check_first, download, keep_first
from bixt3d.io.offline import check_online
from bixt3d.models.image_preset_table import PRESETS, find_preset
from bixt3d.types import InputError

MAX_BYTES = 1 << 30
"""The largest download: above that of any released file."""

ADDRESS = "https://figshare.unimelb.edu.au/ndownloader/files/{}"


def fetch_released(name: str, folder: Path | None = None) -> Path:
    """Return the path of a model's released zip, downloaded with a progress bar unless it exists; it is not unpacked.

    No checksums were published: that of the first download is stored beside the file, and a later download with another
    checksum is refused. ``folder``: where it is stored; None: ``bixt3d`` in the cache of torch.hub. Raises InputError
    if the model was not released or the download fails.
    """
    number = find_preset(name).figshare
    if number is None:
        released = [one for one, preset in PRESETS.items() if preset.figshare]
        raise InputError(f"no weights of '{name}' were released; there are: {', '.join(released)}")
    folder = folder or Path(torch.hub.get_dir()) / "bixt3d"
    path, url = folder / f"{name}.zip", ADDRESS.format(number)
    if path.is_file():
        return path
    check_online(f"{name}.zip", f"fetch {url} elsewhere and put it at {path}")
    kept = folder / f"{name}.zip.sha256"
    arrived = folder / f"{name}.{os.getpid()}.arrived"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        print(f"downloading {name}.zip from {url}", file=sys.stderr)
        arrived.unlink(missing_ok=True)  # left by a dead process with the same id
        download(url, arrived, MAX_BYTES)
        if not zipfile.is_zipfile(arrived):  # truncated, or a web page: the directory of a zip is at its end
            raise RefusedError("the download is not a complete zip file")
        check_first(arrived, kept)
        keep_first(arrived, kept, path.name)
        arrived.replace(path)
    except (LostError, RefusedError, OSError, http.client.HTTPException) as error:
        reason = shortened(printable(error), 300)
        raise InputError(
            f"could not fetch {url} ({reason}): fetch it by hand, put it at {path} and run this again"
        ) from error
    finally:
        arrived.unlink(missing_ok=True)
    return path
