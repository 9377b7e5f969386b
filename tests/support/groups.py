"""Forks of a test that form a group of processes, as those of a run do."""

from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import distributed


class Group(Fabric):
    """One of several processes, which know each other already."""

    world_size = property(lambda self: distributed.get_world_size())
    global_rank = property(lambda self: distributed.get_rank())


def join_group(rank: int, number: int, folder: Path) -> Group:
    """Join so many processes, which meet at a file in this folder."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/{number}", rank=rank, world_size=number)
    return Group(accelerator="cpu", devices=1)
