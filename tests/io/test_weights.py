"""Weights of any module are saved so that the same class loads them again, or refused before training."""

import pytest
import torch
from torch import nn

from bixt3d.io.weights import check_buffers, fit_weights, load_weights, save_weights
from bixt3d.types import InputError


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight


def test_tied_parameters_are_saved_and_loaded(tmp_path):
    model, other = Tied(), Tied()
    save_weights(tmp_path / "tied.safetensors", model.state_dict(), {})
    fit_weights(other, load_weights(tmp_path / "tied.safetensors")[0], "these")
    assert other.head.weight is other.embedding.weight and other.head.weight.equal(model.head.weight)


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        (torch.tensor([0.0, -torch.inf]), "values that are not finite numbers"),
        (torch.ones(2, dtype=torch.complex64), "a dtype that no model uses, torch.complex64"),
    ],
)
def test_a_buffer_that_could_not_be_loaded_again_is_refused(values, fault):
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].register_buffer("mask", values, persistent=False)
    check_buffers(model)
    model[0].register_buffer("mask", values)
    with pytest.raises(InputError, match=f"buffer '0.mask' has {fault}, so .*: register it with persistent=False"):
        check_buffers(model)
