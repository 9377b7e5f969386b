"""Progress bars."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress(items: Iterable[Any] | None = None, *, desc: str, **options: Any) -> tqdm:
    """Return a progress bar on a terminal; in a log file, print one line that says what has begun instead."""
    bar = tqdm(items, desc=desc, disable=None, **options)
    if bar.disable:
        print(f"{desc} ...", file=sys.stderr, flush=True)
    return bar
