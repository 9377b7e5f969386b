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

    import train_cls  # not at the top: pytest loads this file before jaxtyping may look at bixt3d

    def run(folder: Path, *arguments: str) -> Path:
        return train_cls.main([f"--cfg={tiny}", f"--run_dir={folder}", *arguments])

    return run


@pytest.fixture(scope="session")
def tiny_run(train: Train, tmp_path_factory) -> Path:
    """Return the folder of a tiny run that nobody changes."""
    return train(tmp_path_factory.mktemp("runs") / "tiny")
