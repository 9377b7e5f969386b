"""--train.init: a run on some classes starts from one on others, a part segmenter from a classifier; once."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bixt3d import create_model
from bixt3d.cli import train as command
from bixt3d.datasets import Shapes
from bixt3d.io.weights import load_weights
from bixt3d.tasks.classification import Classification
from bixt3d.tasks.command import parse_command
from bixt3d.tasks.settings import make_run
from bixt3d.types import CloudSet, InputError

OWN = "class_path: FewShapes, init_args:"


class FewShapes(Shapes):
    """The first three classes alone."""

    def load(self) -> tuple[CloudSet, CloudSet]:
        few = (one.subset((one.label < 3).nonzero().squeeze(1)) for one in super().load())
        train, test = (replace(one, class_names=one.class_names[:3]) for one in few)
        return train, test


@pytest.fixture
def few(tiny: Path, tmp_path: Path, monkeypatch) -> Path:
    """Return the config of a tiny run on three of the classes, that draws no report."""
    monkeypatch.setattr(Classification, "write_report", lambda *_: None)
    path = tmp_path / "few.yaml"
    path.write_text(tiny.read_text().replace("{class_path: Shapes, init_args:", f"{{{OWN}"))
    return path


def test_fine_tuning_takes_all_but_the_head_and_resuming_takes_nothing_again(few, tiny_run, train, tmp_path, capsys):
    frozen = ("--optim.lr=1e-12", "--optim.min_lr=0", "--optim.weight_decay=0", "--optim.ema=0", "--train.epochs=1")
    run = train(tmp_path / "run", f"--cfg={few}", f"--train.init={tiny_run}", *frozen)
    said = capsys.readouterr().out
    old, new = (load_weights(folder / "model.safetensors")[0] for folder in (tiny_run, run))
    assert f"started from {tiny_run / 'model.safetensors'}: {len(new) - 2} of {len(new)} tensors" in said
    assert "of another shape: head.bias: 16 there, 3 here, head.weight: 16 x 16 there, 3 x 16 here" in said
    for name in new:
        if not name.startswith("head."):
            torch.testing.assert_close(new[name], old[name])
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace(str(tiny_run), str(tmp_path / "gone")))
    command.main(["cls", f"--resume={run}", "--train.epochs=2"])
    assert "started from" not in capsys.readouterr().out


def test_a_part_segmenter_starts_from_a_classifier_of_the_same_tokens(train_parts, train, tmp_path, capsys):
    tokens = "--model.tokenizer={class_path: PointTokenizer, init_args: {dim: 16}}"
    classifier = train(tmp_path / "cls", tokens, "--train.epochs=1")
    model = "{class_path: TokenSegmenter, init_args: {tokenizer: {class_path: PointTokenizer, init_args: {dim: 16}}, "
    model += "encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 2, num_heads: 2, num_latents: 4, "
    model += "reads: tokens}}}}"
    train_parts(tmp_path / "parts", f"--model={model}", f"--train.init={classifier}", "--train.epochs=1")
    said = capsys.readouterr().out
    assert f"started from {classifier / 'model.safetensors'}: " in said and "  new: category.weight, " in said


def test_a_run_that_is_not_there_stops_the_program_before_a_folder_is_made(few, train, tmp_path):
    with pytest.raises(InputError, match="there (are no weights|is no run folder or weights file)"):
        train(tmp_path / "run", f"--cfg={few}", f"--train.init={tmp_path / 'nowhere'}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("up", "said"), [("y", False), ("z", True)])
def test_weights_of_clouds_with_another_axis_up_are_said(up, said):
    task = Classification()
    _, parser, settings = parse_command(task, None, ["--cfg=shapes_cls", "--train.init=shapes-cls"])
    run = make_run(parser, settings, model=False)
    run.data.up = up
    words = task.start_weights(create_model("shapes_cls", 16), run)
    line = "  the run read clouds with y up, this data set has z up: to its weights every cloud lies on its side"
    assert words.splitlines()[1:] == [line] * said
