"""Offline mode: with ``--offline`` or ``BIXT3D_OFFLINE=1`` nothing is downloaded."""

import os

from bixt3d.errors import InputError

VARIABLE = "BIXT3D_OFFLINE"
OFFLINE = "--offline: fetch nothing"


def go_offline() -> None:
    """Forbid downloads in this process and its child processes; ``--offline`` calls it."""
    os.environ[VARIABLE] = "1"


def is_offline() -> bool:
    """Return whether downloads are forbidden."""
    return os.environ.get(VARIABLE, "0").lower() not in ("", "0", "false", "no")


def check_online(what: str, by_hand: str) -> None:
    """Raise InputError in offline mode: ``what`` would be downloaded, ``by_hand`` is the advice what to do instead."""
    if is_offline():
        raise InputError(f"{what} would be fetched, but the network is forbidden (--offline, {VARIABLE}): {by_hand}")
