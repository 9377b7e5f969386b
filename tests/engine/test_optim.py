"""Optimizers, the learning rate schedule step by step, and the exponential moving average of weights."""

import math

import pytest
import torch
from torch import nn

from bixt3d.engine.optim import Optim, make_average, make_optimizer, make_schedule
from bixt3d.types import InputError


def rates(optim: Optim, epochs: int, steps_per_epoch: int) -> list[float]:
    """Return the learning rate of every step of a run, and the one after its end."""
    optimizer = make_optimizer(optim, [("weight", nn.Parameter(torch.zeros(1)))])
    schedule = make_schedule(optim, optimizer, epochs * steps_per_epoch, steps_per_epoch)
    seen = [optimizer.param_groups[0]["lr"]]
    for _ in range(epochs * steps_per_epoch):
        optimizer.step()
        schedule.step()
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


def test_the_learning_rate_follows_a_cosine_from_lr_to_min_lr():
    assert rates(Optim(lr=1.0, min_lr=0.2), 2, 2) == pytest.approx(
        [0.2 + 0.8 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(5)]
    )


def test_the_learning_rate_by_hand():
    half = math.sqrt(0.5)
    expected = [1.0, (1 + half) / 2, 0.5, (1 - half) / 2, 0.0]
    assert rates(Optim(lr=1.0, min_lr=0.0), 4, 1) == pytest.approx(expected, abs=1e-12)


def test_the_learning_rate_of_a_line_by_hand():
    assert rates(Optim(lr=1.0, min_lr=0.2, schedule="poly"), 4, 1) == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    with_warmup = rates(Optim(lr=1.0, min_lr=0.0, schedule="poly", warmup_epochs=1.0), 3, 2)
    assert with_warmup == pytest.approx([1 / 3, 2 / 3, 1.0, 0.75, 0.5, 0.25, 0.0])


def test_warm_up_rises_linearly_and_never_starts_at_zero():
    seen = rates(Optim(lr=1.0, min_lr=0.0, warmup_epochs=1.5), 4, 2)  # 3 steps of warm-up
    assert seen[:4] == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1.0])
    assert seen[3:] == sorted(seen[3:], reverse=True)


@pytest.mark.parametrize("warmup", [0.0, 1.0, 3.0, 7.0])
def test_the_learning_rate_is_never_above_lr_and_ends_on_the_floor(warmup):
    seen = rates(Optim(lr=0.1, min_lr=0.005, warmup_epochs=warmup), 3, 5)
    assert max(seen) <= 0.1 + 1e-12
    if warmup < 3:
        assert seen[-1] == pytest.approx(0.005)


def test_one_step_of_sgd_by_hand():
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = make_optimizer(Optim(name="sgd", lr=0.1, momentum=0.5, weight_decay=0.5), [("weight", weight)])
    for _ in range(2):
        weight.grad = torch.tensor([1.0])
        optimizer.step()
    # gradient with decay 1 + 0.5 * 2 = 2, weight 1.8; then 1 + 0.9 plus half of 2 = 2.9, weight 1.51
    assert weight.item() == pytest.approx(1.51)


def test_one_step_of_adamw_by_hand():
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = make_optimizer(Optim(name="adamw", lr=0.1, weight_decay=0.5), [("weight", weight)])
    weight.grad = torch.tensor([-3.0])
    optimizer.step()
    # decay apart from the gradient: 2 - 0.1 * 0.5 * 2; the first step has the size of the learning rate
    assert weight.item() == pytest.approx(1.9 + 0.1)


def test_one_step_of_lamb_by_hand():
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = make_optimizer(Optim(name="lamb", lr=0.1, weight_decay=0.5), [("weight", weight)])
    weight.grad = torch.tensor([100.0, -100.0])
    optimizer.step()
    # update: sign of the gradient plus decay (1 + 1.5, -1 + 2), scaled to the weights' norm, 5; nothing is clipped
    update = torch.tensor([2.5, 1.0])
    expected = torch.tensor([3.0, 4.0]) - 0.1 * 5 * update / update.norm()
    torch.testing.assert_close(weight.detach(), expected)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_vectors_and_latents_are_decayed_only_if_that_is_asked_for(name):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.latents, self.linear = nn.Parameter(torch.ones(1, 2, 3)), nn.Linear(3, 3)
            self.encoder = nn.ModuleDict({"latents": nn.LayerNorm(3)})

    def decays(decay_norms: bool) -> dict[str, float]:
        model = Model()
        optim = Optim(name=name, weight_decay=0.1, decay_norms=decay_norms)
        groups = make_optimizer(optim, model.named_parameters()).param_groups
        assert sum(len(group["params"]) for group in groups) == 5
        decay = {id(one): group["weight_decay"] for group in groups for one in group["params"]}
        return {name: decay[id(parameter)] for name, parameter in model.named_parameters()}

    assert set(decays(True).values()) == {0.1}
    assert [name for name, decay in decays(False).items() if decay] == ["linear.weight"]


def test_the_average_follows_weights_and_statistics():
    model = nn.BatchNorm1d(1)
    average = make_average(Optim(ema=0.15), model)
    with torch.no_grad():
        model.weight.fill_(4.0)
    average.update_parameters(model)  # the first update copies
    with torch.no_grad():
        model.weight.fill_(8.0)
        model.running_mean.fill_(4.0)
    average.update_parameters(model)
    assert average.module.weight.item() == pytest.approx(0.15 * 4 + 0.85 * 8)
    assert average.module.running_mean.item() == pytest.approx(0.85 * 4)


def test_the_average_of_few_steps_has_forgotten_the_first_weights():
    """The decay after n steps is (1 + n) / (10 + n) at most: 2/11, 3/12, 4/13 ... up to that of the settings."""
    model = nn.Linear(1, 1, bias=False)
    average, expected = make_average(Optim(ema=0.998), model), None
    for step in range(72):
        with torch.no_grad():
            model.weight.fill_(float(step > 0))
        average.update_parameters(model)
        decay = min(0.998, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) if step else 0.0
    assert average.module.weight.item() == pytest.approx(expected, abs=1e-6)
    assert 1 - expected < 1e-6  # with 0.998 from the start: 0.87 of the first weights would be left


def test_without_ema_there_is_no_average():
    assert make_average(Optim(ema=0.0), nn.Linear(1, 1)) is None


@pytest.mark.parametrize(
    "wrong", [{"lr": 0.0}, {"lr": -1.0}, {"min_lr": -1.0}, {"clip_norm": -1.0}, {"warmup_epochs": -1.0}, {"ema": 1.0}]
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(wrong):
    with pytest.raises(InputError, match=f"optim.{next(iter(wrong))} must"):
        Optim(**wrong)


def test_a_learning_rate_that_would_rise_is_refused():
    words = r"optim.min_lr is 1e-05, above optim.lr 1e-06, .* would rise: lower --optim.min_lr too"
    with pytest.raises(InputError, match=words):
        Optim(lr=1e-6)
    assert rates(Optim(lr=1e-6, min_lr=1e-6), 2, 1) == pytest.approx([1e-6] * 3)  # constant
