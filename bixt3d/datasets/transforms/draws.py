"""Counter-based random numbers: they depend only on a key and on the index of each sample."""

import math
import zlib

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""The constants of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators")."""


class Draws:
    """Random numbers for the samples of a batch, by the counter-based generator SplitMix64.

    The numbers of a sample depend only on the key and on its index in the data set: not on the rest of the batch, the
    number of processes, the device, or PyTorch's generators. Each name is a random stream of its own.

    Args:
        index: indices of the samples in their data set.
        key: purpose of the numbers, such as ``("train", seed, epoch)``.

    Example:
        >>> draws = Draws(torch.tensor([4, 5]), "train", 0, 1)
        >>> draws.normal("jitter", 128, 3).shape
        torch.Size([2, 128, 3])
        >>> torch.equal(draws.uniform("scale")[1:], Draws(torch.tensor([5]), "train", 0, 1).uniform("scale"))
        True
    """

    def __init__(self, index: Int[Tensor, " B"], *key: int | str):
        self.index, self.key = index, mix_key(*key)

    def uniform(self, name: str, *shape: int) -> Float[Tensor, "B ..."]:
        """Return uniform numbers in [0, 1), multiples of 2^-24."""
        return _unit(self._bits(name, math.prod(shape)), 40).view(len(self.index), *shape)

    def normal(self, name: str, *shape: int) -> Float[Tensor, "B ..."]:
        """Return standard normal numbers, by the Box-Muller transform."""
        count = math.prod(shape)
        bits = self._bits(name, (count + 1) // 2)
        # in float64: in float32 devices and vector units differ in the last digit
        precise = torch.float32 if bits.device.type == "mps" else torch.float64
        radius = _unit(bits, 40, precise).neg_().add_(1).log_().mul_(-2).sqrt_()
        angle = _unit(bits, 16, precise).mul_(2 * math.pi)
        pairs = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :count]
        return pairs.float().view(len(self.index), *shape)

    def _bits(self, name: str, count: int) -> Int[Tensor, "B count"]:
        """Return ``count`` random int64 for each sample."""
        state = _mix(self.index.long() * _signed(GOLDEN) + _signed(mix_key(self.key, name)))
        counter = torch.arange(1, count + 1, device=self.index.device) * _signed(GOLDEN)
        return _mix(state[:, None] + counter)


def mix_key(*key: int | str) -> int:
    """Hash a sequence of integers and strings to 64 bits."""
    state = 0
    for part in key:
        number = zlib.crc32(part.encode()) if isinstance(part, str) else part
        state = (state + number + GOLDEN) % 2**64
        state = (state ^ (state >> 30)) * FIRST % 2**64
        state = (state ^ (state >> 27)) * SECOND % 2**64
        state ^= state >> 31
    return state


def _mix(state: Int[Tensor, "*S"]) -> Int[Tensor, "*S"]:
    """Mix the bits of each number in place, as `mix_key` does; int64 products wrap around."""
    for shift, factor in ((30, FIRST), (27, SECOND)):
        state.bitwise_xor_((state >> shift).bitwise_and_((1 << (64 - shift)) - 1)).mul_(_signed(factor))
    return state.bitwise_xor_((state >> 31).bitwise_and_((1 << 33) - 1))


def _unit(bits: Int[Tensor, "*S"], shift: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, "*S"]:
    """Return the 24 bits above the lowest ``shift`` bits as a number in [0, 1)."""
    return (bits >> shift).bitwise_and_(0xFFFFFF).to(dtype).mul_(2.0**-24)


def _signed(bits: int) -> int:
    """Return an unsigned 64-bit integer as the int64 of the same bits."""
    return bits - 2**64 if bits >= 2**63 else bits


def first_permuted(size: int, count: int, seed: int) -> Int[Tensor, " _"]:
    """Return the first ``count`` indices of a random permutation of ``size``, without the memory of all.

    They are those of ``torch.randperm`` with a generator of this seed, if ``size`` is less than 2^32 / 20.
    """
    if size <= 2**20:
        return torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:count]
    drawn = np.random.RandomState(seed).randint(2**32, size=min(count, size), dtype=np.uint32)  # the same generator
    moved, chosen = {}, []
    for step, number in enumerate(drawn.tolist()):
        place = step + number % (size - step)  # swap the entries at step and place
        chosen.append(moved.get(place, place))
        moved[place] = moved.get(step, step)
    return torch.tensor(chosen)
