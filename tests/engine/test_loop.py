"""The training loop: batches, randomness, what stops it, and resuming to the bit."""

from pathlib import Path

import pytest
import torch
from groups import join_group
from lightning_fabric import Fabric
from torch import distributed, nn
from torch.amp import GradScaler

from bixt3d.engine.autocast import Autocast
from bixt3d.engine.batches import batch_sizes, in_steps, make_batches
from bixt3d.engine.loop import EpochSums, TrainingState, predict_all, seed_epoch, train_epoch
from bixt3d.engine.optim import Optim, make_average, make_optimizer, make_schedule
from bixt3d.types import CloudSet, InputError


class Process(Fabric):
    """One of several processes, without starting any."""

    def __init__(self, rank: int):
        self.rank = rank

    global_rank = property(lambda self: self.rank)


def draws(seed: int, epoch: int, rank: int = 0) -> tuple[float, float]:
    """Return what order and dropout draw first."""
    order = seed_epoch(seed, epoch, Process(rank))
    return torch.rand(1, generator=order).item(), torch.rand(1).item()


def test_randomness_depends_on_seed_epoch_and_process_alone():
    expected = draws(0, 5)
    torch.rand(1000)
    draws(3, 1)
    assert draws(0, 5) == expected
    assert len({draw for seed, epoch in [(0, 1), (0, 2), (1, 1), (1, 2)] for draw in draws(seed, epoch)}) == 8


def test_processes_agree_on_the_order_but_drop_out_for_themselves():
    first, second = draws(0, 1, rank=0), draws(0, 1, rank=1)
    assert first[0] == second[0]
    assert first[1] != second[1]


def test_means_weigh_every_cloud_alike():
    sums = EpochSums(torch.device("cpu"))
    sums.add(torch.tensor(3.0), torch.tensor(3.0), 3)
    sums.add(torch.tensor(5.0), torch.tensor(0.0), 1)
    assert sums.read() == {"loss": 2.0, "train_accuracy": 0.75}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_with_the_first_such_step(bad):
    sums = EpochSums(torch.device("cpu"))
    for loss in (1.0, 2.0, bad, 1.0, float("nan")):
        sums.add(torch.tensor(loss), torch.tensor(0.0), 1)
    with pytest.raises(InputError, match="not a number at step 2 of this epoch.*lower --optim.lr"):
        sums.read()


def test_a_glance_finds_a_bad_loss_early_and_all_processes_end_together():
    sums = EpochSums(torch.device("cpu"))
    sums.add(torch.tensor(1.0), torch.tensor(0.0), 1)
    sums.glance()
    assert sums.known_bad == float("inf")
    sums.add(torch.tensor(float("nan")), torch.tensor(0.0), 1)
    sums.glance()
    assert sums.known_bad == 1


class Reader(nn.Module):
    """A linear classifier of the mean point."""

    def __init__(self):
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(3), nn.Linear(3, 2)
        self.dropout = nn.Dropout(0.5)

    def forward(self, xyz: torch.Tensor, feats: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.norm(xyz.mean(1))))


def make_clouds(num_clouds: int = 12) -> CloudSet:
    label = torch.arange(num_clouds) % 2
    xyz = torch.randn(num_clouds, 5, 3) + label.view(-1, 1, 1)
    return CloudSet(xyz, xyz[..., :0], label, ("left", "right"))


def make_training_state(fabric: Fabric, optim: Optim) -> TrainingState:
    torch.manual_seed(1)
    module = Reader()
    average, optimizer = make_average(optim, module), make_optimizer(optim, module.named_parameters())
    schedule = make_schedule(optim, optimizer, num_steps=12, steps_per_epoch=3)
    model, optimizer = fabric.setup(module, optimizer)
    return TrainingState(
        module, model, optimizer, schedule, average, getattr(fabric.strategy.precision, "scaler", None)
    )


def train(
    fabric: Fabric, state: TrainingState, epochs: range, clouds: CloudSet, batch_size: int = 4, accumulate: int = 1
) -> dict[str, float]:
    def step(model: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        logits = model(batch["xyz"], batch["feats"])
        return nn.functional.cross_entropy(logits, batch["label"]), (logits.argmax(1) == batch["label"]).sum().float()

    for epoch in epochs:
        plan = make_batches(len(clouds), batch_size, fabric, seed_epoch(0, epoch, fabric), accumulate)
        steps = in_steps(clouds.batches(sum(plan, [])), plan, lambda batch, step: batch)
        sizes = batch_sizes(len(clouds), batch_size)
        means = train_epoch(state, fabric, steps, sizes, step, 1.0, "epoch", EpochSums(fabric.device))
    return means


def make_fabric(precision: str = "float32") -> Fabric:
    """Return Fabric for one process; float16 with a scale that grows every five steps."""
    scaler = GradScaler("cpu", init_scale=2.0**10, growth_interval=5)
    plugins = Autocast("16-mixed", "cpu", scaler) if precision == "float16" else None
    return Fabric(accelerator="cpu", devices=1, plugins=plugins)


@pytest.fixture
def fabric() -> Fabric:
    return make_fabric()


OPTIM = Optim(lr=0.05, min_lr=0.0, warmup_epochs=1.0, ema=0.5)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_run_that_goes_on_from_a_saved_state_is_the_run_that_never_stopped(name, precision):
    optim, clouds = Optim(**vars(OPTIM) | {"name": name}), make_clouds()
    at_once, before, after = (make_fabric(precision) for _ in range(3))
    whole = make_training_state(at_once, optim)
    train(at_once, whole, range(1, 5), clouds)
    first = make_training_state(before, optim)
    train(before, first, range(1, 3), clouds)
    second = make_training_state(after, optim)
    second.load_state_dict(first.state_dict())
    assert second.schedule.get_last_lr() == first.schedule.get_last_lr()
    train(after, second, range(3, 5), clouds)
    if precision == "float16":
        assert whole.scaler.get_scale() == second.scaler.get_scale() > 2.0**10
    for one, other in ((whole.module, second.module), (whole.average, second.average)):
        assert all(tensor.equal(other.state_dict()[key]) for key, tensor in one.state_dict().items())


def test_an_average_that_is_new_to_a_run_starts_from_the_weights_it_goes_on_with(fabric):
    first = make_training_state(fabric, Optim(**vars(OPTIM) | {"ema": 0.0}))
    train(fabric, first, range(1, 3), make_clouds())
    second = make_training_state(fabric, OPTIM)
    second.load_state_dict(first.state_dict())
    kept = second.best_module().state_dict()
    assert all(tensor.equal(kept[key]) for key, tensor in first.module.state_dict().items())


def test_a_new_learning_rate_holds_for_a_run_that_goes_on(fabric):
    first = make_training_state(fabric, OPTIM)
    train(fabric, first, range(1, 3), make_clouds())
    second = make_training_state(fabric, Optim(**vars(OPTIM) | {"lr": OPTIM.lr / 10, "weight_decay": 0.5}))
    second.load_state_dict(first.state_dict())
    (lr,) = first.schedule.get_last_lr()
    group = second.optimizer.param_groups[0]
    assert second.schedule.get_last_lr() == [pytest.approx(lr / 10)] == [group["lr"]]
    assert group["weight_decay"] == 0.5
    train(fabric, second, range(3, 4), make_clouds())
    assert group["lr"] == pytest.approx(OPTIM.lr / 10 / 4)  # two thirds down the cosine: (1 + cos 120 degrees) / 2


def test_a_run_does_not_go_on_where_other_weights_decay(fabric):
    first = make_training_state(fabric, OPTIM)
    train(fabric, first, range(1, 2), make_clouds())
    second = make_training_state(fabric, Optim(**vars(OPTIM) | {"decay_norms": False}))
    with pytest.raises(InputError, match="go on with its own optim.decay_norms"):
        second.load_state_dict(first.state_dict())


def test_training_lowers_the_loss_and_reports_the_speed(fabric):
    state, clouds = make_training_state(fabric, Optim(lr=0.1)), make_clouds(40)
    before = train(fabric, state, range(1, 2), clouds)
    after = train(fabric, state, range(2, 5), clouds)
    assert after["loss"] < before["loss"]
    assert after["examples_per_second"] > 0


def test_gradient_accumulation_gives_the_gradients_of_the_batch(fabric):
    states, means = [], []
    for accumulate in (1, 3):
        states.append(make_training_state(fabric, Optim(name="sgd", lr=0.1)))
        states[-1].module.norm, states[-1].module.dropout = nn.Identity(), nn.Identity()
        means.append(train(fabric, states[-1], range(1, 4), make_clouds(13), batch_size=7, accumulate=accumulate))
    assert means[1]["loss"] == pytest.approx(means[0]["loss"], rel=1e-5)
    assert means[1]["train_accuracy"] == means[0]["train_accuracy"]
    for one, other in zip(*(state.module.parameters() for state in states), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("planned", [5, 8])  # a step may have fewer examples than were planned
def test_examples_count_by_the_weights_of_the_batch_over_all_micro_batches(fabric, planned: int):
    state = make_training_state(fabric, Optim(name="sgd", lr=1.0, momentum=0.0, weight_decay=0.0))
    state.module.norm, state.module.dropout, state.schedule.base_lrs = nn.Identity(), nn.Identity(), [1.0]
    clouds = make_clouds(5)
    weight = torch.tensor([4, 0, 1, 2, 3])
    batches = [clouds[index] | {"weight": weight[index]} for index in torch.arange(5).split(2)]

    def step(model: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        losses = nn.functional.cross_entropy(model(batch["xyz"], batch["feats"]), batch["label"], reduction="none")
        return (losses * batch["weight"]).sum() / batch["weight"].sum(), torch.zeros(())

    whole = step(state.module, clouds[torch.arange(5)] | {"weight": weight})[0]
    (gradient,) = torch.autograd.grad(whole, state.module.head.weight)
    (lr,), before = state.schedule.get_last_lr(), state.module.head.weight.detach().clone()
    means = train_epoch(state, fabric, [batches], [planned], step, 0.0, "epoch", EpochSums(fabric.device))
    assert means["loss"] == pytest.approx(whole.item(), rel=1e-5)
    torch.testing.assert_close(before - state.module.head.weight, lr * gradient)


def predict_in_group(rank: int, number: int, folder: Path) -> None:
    """Let one of so many processes predict eleven clouds, and the last one save what it gets."""
    fabric = join_group(rank, number, folder)
    torch.manual_seed(2)
    clouds, model = make_clouds(11), Reader()
    model.norm.running_mean += rank  # only those of the first process count
    found = predict_all(
        model,
        clouds,
        2,
        lambda model, batch: (batch["label"], model(batch["xyz"], batch["feats"])),
        fabric,
    )
    if rank == number - 1:
        torch.save(found, folder / f"{number}.pt")
    distributed.destroy_process_group()


def test_any_number_of_processes_evaluates_to_the_last_digit_as_one_does(tmp_path):
    for number in (1, 2, 3, 5):
        torch.multiprocessing.start_processes(predict_in_group, (number, tmp_path), number, start_method="fork")
    alone, *others = (torch.load(tmp_path / f"{number}.pt") for number in (1, 2, 3, 5))
    assert alone[0].tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0]
    for together in others:
        assert all(map(torch.equal, together, alone))


def test_a_gradient_is_clipped_to_the_norm_asked_for(fabric):
    state, clouds = (
        make_training_state(fabric, Optim(name="sgd", lr=1.0, momentum=0.0, weight_decay=0.0)),
        make_clouds(4),
    )
    clouds = CloudSet(clouds.xyz * 1000, clouds.feats, clouds.label, clouds.class_names)
    state.module.norm = nn.Identity()
    before = [weight.clone() for weight in state.module.parameters()]
    train(fabric, state, range(1, 2), clouds)  # one step
    moved = torch.cat([(a - b).flatten() for a, b in zip(state.module.parameters(), before, strict=True)])
    assert moved.norm().item() == pytest.approx(1.0, rel=1e-3)


def test_gradients_in_float16_are_clipped_without_their_scale():
    states = []
    for precision in ("float32", "float16"):
        fabric = make_fabric(precision)
        states.append(make_training_state(fabric, Optim(name="sgd", lr=1.0, momentum=0.0, weight_decay=0.0)))
        clouds = make_clouds(4)
        train(fabric, states[-1], range(1, 2), clouds)
    for one, other in zip(*(state.module.parameters() for state in states), strict=True):
        torch.testing.assert_close(one, other, rtol=5e-3, atol=5e-3)


def test_evaluation_keeps_the_order_and_changes_nothing(fabric):
    module, clouds = Reader(), make_clouds(7)
    state = {key: tensor.clone() for key, tensor in module.state_dict().items()}

    def forward(module: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor]:
        return (module(batch["xyz"], batch["feats"]),)

    (together,) = predict_all(module, clouds, 7, forward, fabric)
    (by_three,) = predict_all(module, clouds, 3, forward, fabric)
    torch.testing.assert_close(by_three, together)
    torch.testing.assert_close(together, module.eval()(clouds.xyz, clouds.feats))
    assert all(tensor.equal(module.state_dict()[key]) for key, tensor in state.items())


class Pieces:
    """A set whose batches come in several pieces, as those of images of several sizes do."""

    def __init__(self, clouds: CloudSet):
        self.clouds = clouds

    def __len__(self) -> int:
        return len(self.clouds)

    def batches(self, indices, seed=None):
        return self.clouds.batches(piece for index in indices for piece in index.split(2))


def test_a_batch_may_come_in_pieces(fabric):
    module, clouds = Reader(), make_clouds(7)

    def forward(module: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor]:
        return (module(batch["xyz"], batch["feats"]),)

    (whole,), (pieces,) = (predict_all(module, some, 5, forward, fabric) for some in (clouds, Pieces(clouds)))
    torch.testing.assert_close(pieces, whole)


def test_batches_of_clouds_are_made_when_they_are_asked_for():
    clouds, drawn = make_clouds(4), []

    def indices():
        for place in range(4):
            drawn.append(place)
            yield torch.tensor([place])

    batches = clouds.batches(indices(), seed=3)
    assert drawn == []
    assert next(batches)["xyz"].equal(clouds.xyz[:1])
    assert drawn == [0]


def test_the_moving_average_is_evaluated_and_saved(fabric):
    state = make_training_state(fabric, OPTIM)
    assert state.best_module() is state.average.module
    assert make_training_state(fabric, Optim(ema=0.0)).best_module() is not None
