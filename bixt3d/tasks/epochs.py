"""Build the training state of a run, and train an epoch of it."""

import sys
from functools import partial
from itertools import chain

from bixt3d.datasets.scenes.crops import SceneSet
from bixt3d.datasets.transforms.draws import mix_key
from bixt3d.engine.batches import batch_sizes, in_passes, in_steps, make_batches
from bixt3d.engine.ending import Stop
from bixt3d.engine.fabric import Fabric
from bixt3d.engine.loop import Examples, TrainingState, seed_epoch, train_epoch
from bixt3d.engine.optim import make_average, make_optimizer, make_schedule
from bixt3d.engine.runtime import compiled
from bixt3d.engine.sums import EpochSums
from bixt3d.io.error_messages import first_line, is_out_of_memory
from bixt3d.nn.feature_scale import fit_feature_scales
from bixt3d.tasks.backends import choose_backends
from bixt3d.tasks.finishing import say
from bixt3d.tasks.settings import Run
from bixt3d.tasks.task import Task
from bixt3d.types import CloudSet, InputError, Stopped


def make_training_state(task: Task, fabric: Fabric, run: Run, train: Examples) -> TrainingState:
    """Build model, optimizer, schedule and moving average. Raises InputError if the settings allow no model."""
    steps_per_epoch = run.train.steps_per_epoch(len(train), fabric.world_size)
    if run.train.batch_size > len(train):
        say(fabric, f"batches have {len(train)} {task.unit}, not {run.train.batch_size}: the training set has no more")
    try:
        module = task.build(run, train)
        for fault in fit_feature_scales(module, train.feats) if isinstance(train, CloudSet | SceneSet) else ():
            say(fabric, fault)
        module = module.to(fabric.device)
    except (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError) as error:  # constructors raise many
        if isinstance(error, InputError) or is_out_of_memory(error):
            raise
        raise InputError(f"the model cannot be built as the settings say: {first_line(error)}") from error
    choose_backends(module, run.runtime, fabric.world_size)
    average, optimizer = make_average(run.optim, module), make_optimizer(run.optim, module.named_parameters())
    schedule = make_schedule(run.optim, optimizer, run.train.num_steps(len(train)), steps_per_epoch)
    model, optimizer = fabric.setup(compiled(run.runtime, module), optimizer)
    return TrainingState(
        module, model, optimizer, schedule, average, getattr(fabric.strategy.precision, "scaler", None)
    )


def train_one_epoch(
    task: Task, fabric: Fabric, state: TrainingState, run: Run, epoch: int, train: Examples, stop: Stop
) -> dict[str, float]:
    """Train for one epoch; return its mean loss, accuracy and throughput."""
    order, passes = seed_epoch(run.seed, epoch, fabric), run.train.passes(len(train))
    split = partial(make_batches, len(train), run.train.batch_size, fabric, order, run.runtime.accumulate)
    plan = in_passes([split(task.mixes(run)) for _ in range(passes)], len(train))
    done = state.schedule.last_epoch
    last = epoch - 1 + run.train.num_epochs(len(train), done)
    plan = plan[: run.train.num_steps(len(train)) - done]
    key = mix_key(run.seed, epoch)
    if isinstance(train, SceneSet):
        plan = train.with_fewer_crops(plan, key, int(task.mixes(run)))
    batches = train.batches(chain.from_iterable(plan), key)
    steps = in_steps(batches, plan, task.make_augment(run, train, epoch))
    step, clip_norm = task.make_step(run, train), run.optim.clip_norm
    sizes, sums = (
        (batch_sizes(len(train), run.train.batch_size) * passes)[: len(plan)],
        EpochSums(fabric.device, task.unit),
    )
    title = f"epoch {epoch}/{last}"
    try:
        with stop.errors_as_stopped():
            row = train_epoch(state, fabric, stop.watch(steps, sums), sizes, step, clip_norm, title, sums)
    except (Stopped, RuntimeError, MemoryError):
        if fabric.is_global_zero:
            print(file=sys.stderr)  # ends the line of the progress bar
        raise
    return {task.train_column if name == "train_accuracy" else name: value for name, value in row.items()}
