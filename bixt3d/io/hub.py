"""The Hugging Face hub: fetch the weights of a repository, or send a folder to one. It needs huggingface-hub."""

import re
from pathlib import Path

from bixt3d.errors import InputError
from bixt3d.io.bounds import printable
from bixt3d.io.error_messages import first_line
from bixt3d.io.extras import need
from bixt3d.io.offline import check_online, is_offline

WEIGHTS = "model.safetensors"
HUB = "hf-hub:"
"""Prefix of weights on the hub, as in timm: ``hf-hub:USER/MODEL``."""

UNREACHED = {"LocalEntryNotFoundError", "ConnectError", "ConnectTimeout", "ConnectionError"}
"""Errors of huggingface-hub and its HTTP libraries, httpx or requests, if the hub does not answer."""


def is_repository(name: str) -> bool:
    """Return whether a name has the form ``USER/MODEL``."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name, re.ASCII) is not None


def fetch_from_hub(name: str) -> Path:
    """Return the path of the weights of a repository, in the cache of huggingface-hub, which fetches them if needed.

    Only ``model.safetensors`` is fetched, never a pickle or code. Raises InputError if that is impossible.
    """
    if not is_repository(name):
        raise InputError(f"'{printable(name)[:80]}' names no model of the Hugging Face hub: write {HUB}USER/MODEL")
    need("a model of the Hugging Face hub", "huggingface_hub")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, WEIGHTS, local_files_only=is_offline()))
    except Exception as error:  # errors of its own and of its HTTP library
        check_online(f"{name} of the Hugging Face hub", "load it once where there is a network, which keeps it")
        raise InputError(f"could not fetch {WEIGHTS} of {name} from the Hugging Face hub: {_reason(error)}") from error


def send_to_hub(folder: Path, name: str, private: bool, token: str | None) -> str:
    """Send the files of a folder to a repository, which is made if there is none; return its address.

    ``token``: None: the one that ``hf auth login`` stored. Raises InputError if that is impossible.
    """
    if not is_repository(name):
        raise InputError(f"'{printable(name)[:80]}' names no model of the Hugging Face hub: write USER/MODEL")
    need("sending a model to the Hugging Face hub", "huggingface_hub")
    if is_offline():
        raise InputError(f"{name} cannot be sent to the Hugging Face hub: the network is forbidden (--offline)")
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Weights of bixt3d")
    except Exception as error:  # errors of its own and of its HTTP library
        raise InputError(f"could not send the model to {name} of the Hugging Face hub: {_reason(error)}") from error
    return str(address)


def _reason(error: Exception) -> str:
    """Return in words why the hub could not be used: forbidden, not reached, or what it or its library says."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set, which forbids the network: unset it"
    if {one.__name__ for one in type(error).__mro__} & UNREACHED:
        return "there is no network, or huggingface.co does not answer; try again where there is one"
    return printable(first_line(error))
