"""A program: train each of the four tasks for 8 steps and evaluate them, on so many processes; write what was found.

python four_tasks.py DATA OUT DEVICES
"""

import sys
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from bixt3d.engine.ending import Stop
from bixt3d.engine.runtime import Runtime, finish, start
from bixt3d.tasks.classification import Classification
from bixt3d.tasks.image_classification import ImageClassification
from bixt3d.tasks.image_segmentation import ImageSegmentation
from bixt3d.tasks.part_segmentation import PartSegmentation, evaluate_fully
from bixt3d.tasks.settings import make_run
from bixt3d.tasks.task import Task
from bixt3d.tasks.training import make_training_state, train_one_epoch

CLOUDS = """
data: {class_path: Shapes, init_args: {train_per_class: 2, test_per_class: 1, num_points: 48}}
augment:
  {scale: [0.8, 1.25], mirror: xz, shift: 0.1, rotate: y, jitter: 0.01, dropout: 0.3, resample: true, shuffle: true}
"""
GROUPS = """
    tokenizer:
      class_path: GroupTokenizer
      init_args:
        dim: 16
        points: {class_path: PointTokenizer, init_args: {dim: 8, temperature: 100, scale: 12.566}}
        num_neighbors: 4
        num_groups: 12
"""
TRAIN = "optim: {name: adamw, lr: 1.0e-3, warmup_epochs: 1}\ntrain: {steps: 8, batch_size: 11, eval_batch_size: 4"
CONFIGS: dict[type[Task], str] = {
    Classification: f"""{CLOUDS}
model:
  class_path: BixtClassifier
  init_args: {GROUPS}        num_pre: 0
    encoder: {{class_path: BixtEncoder, init_args: {{dim: 16, depth: 2, num_heads: 2, num_latents: 4}}}}
    dropout: 0.0
{TRAIN}, label_smoothing: 0.1, balance: true, mix: 0.5}}
""",
    PartSegmentation: f"""{CLOUDS}
model:
  class_path: DecoderSegmenter
  init_args: {GROUPS}        num_pre: 1
    encoder: {{class_path: BixtEncoder, init_args: {{dim: 16, depth: 2, num_heads: 2, num_latents: 4, reads: tokens}}}}
    decoder:
      class_path: PointMLPDecoder
      init_args: {{dims: [16], num_blocks: [1], context_dim: 8, category_dim: 8, dropout: 0.0}}
{TRAIN}}}
""",
    ImageClassification: f"""
data: {{class_path: ImageFolder, init_args: {{root: DATA/folders, size: 16, crop_fraction: 1.0, workers: 0}}}}
augment: {{crop: simple, policy: three, color_jitter: 0.2, erase: 0.2, mixup: 0.8, cutmix: 1.0, mix_rate: 0.7}}
model:
  class_path: BixtImageClassifier
  init_args:
    tokenizer: {{class_path: ConvTokenizer, init_args: {{dim: 16, stride: 4}}}}
    encoder: {{class_path: BixtEncoder, init_args: {{dim: 16, depth: 2, num_heads: 2, num_latents: 4}}}}
    dropout: 0.0
{TRAIN}}}
""",
    ImageSegmentation: f"""
data: {{class_path: SceneParse, init_args: {{root: DATA/scenes, size: 16, workers: 0}}}}
augment: {{scale: [0.75, 1.5], color_jitter: 0.2}}
model:
  class_path: LinearSegmenter
  init_args:
    tokenizer: {{class_path: ConvTokenizer, init_args: {{dim: 16, stride: 4}}}}
    encoder: {{class_path: BixtEncoder, init_args: {{dim: 16, depth: 2, num_heads: 2, num_latents: 4, reads: tokens}}}}
    dropout: 0.0
{TRAIN}}}
""",
}


def run_task(task: Task, config: str, fabric: Fabric) -> dict[str, Any]:
    """Return the evaluation of a new model, the losses of 8 steps, and weights and running statistics after them."""
    parser = task.make_parser("a test")
    torch.manual_seed(0)  # settings build the parts of a model
    run = make_run(parser, parser.parse_args([f"--cfg={config}"]))
    train, test = task.load(run)
    some = test.subset(torch.arange(len(test) - 1))
    state = make_training_state(task, fabric, run, train)
    votes = {"votes": 3} if task.votes else {}
    found = [task.evaluate(state.module, some, run, fabric, **votes)]
    if isinstance(task, PartSegmentation):
        found.append(evaluate_fully(state.module, test, run, fabric, **votes))
    epochs = range(1, run.train.num_epochs(len(train)) + 1)
    with Stop(fabric) as stop:
        rows = [train_one_epoch(task, fabric, state, run, epoch, train, stop) for epoch in epochs]
    return {
        "evaluation": [one.facts() | one.row() for one in found],
        "losses": [(row["loss"], row["train_accuracy"]) for row in rows],
        "state": state.module.state_dict(),  # must be equal in all processes
    }


def main(data: Path, out: Path, devices: int) -> None:
    fabric = start(Runtime(accelerator="cpu", devices=devices, threads=1))
    found = {task.name: run_task(task(), text.replace("DATA", str(data)), fabric) for task, text in CONFIGS.items()}
    if fabric.is_global_zero:
        torch.save(found, out)
    states = fabric.all_gather(
        torch.stack([sum(value.double().sum() for value in one["state"].values()) for one in found.values()])
    )
    assert (states == states.view(devices, -1)[0]).all(), "processes end with other weights or running statistics"
    finish(fabric)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
