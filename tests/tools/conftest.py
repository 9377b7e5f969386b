"""A run so small that it takes a second, for the programs that train and test."""

from collections.abc import Callable
from pathlib import Path

import pytest

TINY = """
data: {class_path: Shapes, init_args: {train_per_class: 4, test_per_class: 2, num_points: 64}}
augment: {scale: [0.8, 1.25], shift: 0.1, jitter: 0.01, resample: true}
model:
  class_path: BixtClassifier
  init_args:
    tokenizer: {class_path: PointTokenizer, init_args: {dim: 16, temperature: 100, scale: 12.566}}
    encoder:
      class_path: BixtEncoder
      init_args: {dim: 16, depth: 2, num_heads: 2, num_latents: 4, drop_path_cross: 0.2, drop_path_self: 0.2}
    dropout: 0.2
optim: {name: adamw, lr: 5.0e-3, warmup_epochs: 1, ema: 0.9}
train: {epochs: 2, batch_size: 16, label_smoothing: 0.1}
runtime: {accelerator: cpu, threads: 1}
"""

TINY_PARTS = """
data: {class_path: Shapes, init_args: {train_per_class: 4, test_per_class: 2, num_points: 64}}
augment: {scale: [0.8, 1.25], shift: 0.1, jitter: 0.01, resample: true}
model:
  class_path: DecoderSegmenter
  init_args:
    tokenizer:
      class_path: GroupTokenizer
      init_args:
        dim: 16
        points: {class_path: PointTokenizer, init_args: {dim: 8, temperature: 100, scale: 12.566}}
        num_neighbors: 4
        num_groups: 16
        num_pre: 0
    encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 2, num_heads: 2, num_latents: 4, reads: tokens}}
    decoder:
      class_path: PointMLPDecoder
      init_args: {dims: [16], num_blocks: [1], context_dim: 8, category_dim: 8, dropout: 0.2}
optim: {name: adamw, lr: 5.0e-3, warmup_epochs: 1, ema: 0.9}
train: {epochs: 2, batch_size: 16}
runtime: {accelerator: cpu, threads: 1}
"""

Train = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """Return the config of a run of two epochs with all that is random: augmentation, dropout, stochastic depth."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def train(tiny: Path) -> Train:
    """Return a function that trains with the tiny config and more arguments, in a folder, and returns the folder."""
    from bixt3d.cli import train as command  # not at the top: pytest loads this before jaxtyping may look at bixt3d

    def run(folder: Path, *arguments: str) -> Path:
        return command.main(["cls", f"--cfg={tiny}", f"--run_dir={folder}", *arguments])

    return run


@pytest.fixture(scope="session")
def tiny_run(train: Train, tmp_path_factory) -> Path:
    """Return the folder of a tiny run that nobody changes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bixt3d.viz.scene.renderer", lambda: ("matplotlib", "the tests draw with it"))
        return train(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def tiny_parts(tmp_path_factory) -> Path:
    """Return the config of a run of two epochs that segments parts, with augmentation and dropout."""
    path = tmp_path_factory.mktemp("config") / "tiny_parts.yaml"
    path.write_text(TINY_PARTS)
    return path


@pytest.fixture(scope="session")
def train_parts(tiny_parts: Path) -> Train:
    """Return a function that trains a part segmenter as `train` does a classifier, but draws no report."""
    from bixt3d.cli import train as command
    from bixt3d.tasks.part_segmentation import PartSegmentation

    def run(folder: Path, *arguments: str) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PartSegmentation, "write_report", lambda *_: None)
            return command.main(["partseg", f"--cfg={tiny_parts}", f"--run_dir={folder}", *arguments])

    return run


@pytest.fixture(scope="session")
def tiny_part_run(train_parts: Train, tmp_path_factory) -> Path:
    """Return the folder of a tiny run, without a report, that nobody changes."""
    return train_parts(tmp_path_factory.mktemp("runs") / "tiny_parts")
