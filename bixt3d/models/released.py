"""The image checkpoints that BiXT's authors released: how they come here from figshare, once."""

import http.client
import os
import sys
import zipfile
from pathlib import Path

import torch

from bixt3d.models.image_presets import PRESETS, find_preset
from bixt3d.offline import check_online
from bixt3d.types import InputError

ADDRESS = "https://figshare.unimelb.edu.au/ndownloader/files/{}"


def fetch_released(name: str, folder: Path | None = None) -> Path:
    """Return the released zip of a model, downloaded with a progress bar unless it is there; nothing is unpacked.

    ``folder``: where it is kept; None: ``bixt3d`` in the cache of torch.hub. Raises InputError if the model was not
    released, or if the file cannot be had.
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
    arrived = folder / f"{name}.{os.getpid()}.arrived"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        print(f"downloading {name}.zip from {url}", file=sys.stderr)
        torch.hub.download_url_to_file(url, str(arrived))
        if not zipfile.is_zipfile(arrived):  # cut short, or a page of words: the end of a zip says what it holds
            raise OSError("what arrived is no whole zip file")
        arrived.replace(path)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(
            f"could not fetch {url} ({error}): fetch it by hand, put it at {path} and run this again"
        ) from error
    finally:
        arrived.unlink(missing_ok=True)
    return path
