"""Two runs compared: all that resuming must restore."""

from pathlib import Path

import torch

from bixt3d.engine.checkpoint import load_checkpoint
from bixt3d.engine.report import read_rows
from bixt3d.io.weights import load_weights


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    """Return all tensors that a run leaves: its weights, and the state of model, average and optimizer."""
    state = load_checkpoint(folder / "checkpoint.pt")["learner"]
    tensors = {f"kept {name}": one for name, one in load_weights(folder / "model.safetensors")[0].items()}
    for part in ("model", "average"):
        tensors |= {f"{part} {name}": one for name, one in state[part].items()}
    moments = state["optimizer"]["state"]
    return tensors | {f"{place} {name}": one for place, its in moments.items() for name, one in its.items()}


def assert_same_run(one: Path, other: Path) -> None:
    first, second = state_of(one), state_of(other)
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    timed = "clouds_per_second"
    rows = [
        [{k: v for k, v in row.items() if k != timed} for row in read_rows(run / "metrics.csv")] for run in (one, other)
    ]
    assert rows[0] == rows[1]
    assert not [path for path in other.iterdir() if path.name.startswith(".")]
