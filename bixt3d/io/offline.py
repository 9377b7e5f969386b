"""One switch for the network: with ``BIXT3D_OFFLINE=1`` nothing is fetched."""

import os

from bixt3d.errors import InputError

VARIABLE = "BIXT3D_OFFLINE"
OFFLINE = "--offline: fetch nothing"


def go_offline() -> None:
    """Forbid any download, in this process and those that it starts; `--offline` of the programs calls it."""
    os.environ[VARIABLE] = "1"


def check_online(what: str, by_hand: str) -> None:
    """Raise InputError where the network is forbidden: ``what`` would be fetched, ``by_hand`` says what to do."""
    if os.environ.get(VARIABLE, "0").lower() not in ("", "0", "false", "no"):
        raise InputError(f"{what} would be fetched, but the network is forbidden (--offline, {VARIABLE}): {by_hand}")
