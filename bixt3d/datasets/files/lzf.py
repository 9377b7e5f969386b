"""Decompression of LibLZF data, as PCD files have them; there is no maintained package for it."""

LZF_RATIO = 100
"""Upper bound of the compression ratio: LibLZF expands 3 bytes to at most 264."""


def expand_lzf(packed: bytes, size: int) -> bytes:
    """Decompress LibLZF data. Raises ValueError or IndexError if the result is not ``size`` bytes long.

    A control byte c below 32 is followed by c + 1 literal bytes. Any other starts a back reference: 3 bits of length
    and 13 bits of distance; if the length is 7, the next byte is added to it.
    """
    out, place = bytearray(), 0
    while place < len(packed) and len(out) < size:
        control = packed[place]
        place += 1
        if control < 32:
            out += packed[place : place + control + 1]
            place += control + 1
            continue
        length = control >> 5
        if length == 7:
            length += packed[place]
            place += 1
        start = len(out) - ((control & 31) << 8) - packed[place] - 1
        place += 1
        if start < 0:
            raise ValueError("a back reference to before the beginning")
        piece = out[start : start + length + 2]
        out += (piece * (length // len(piece) + 2))[: length + 2]
    if len(out) != size:
        raise ValueError(f"{len(out)} bytes instead of {size}")
    return bytes(out)
