"""The forms of the operators, memory saved and compilers change how a model is trained, not what comes out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from bixt3d.datasets import Shapes
from bixt3d.engine.optim import Optim
from bixt3d.engine.report import read_rows
from bixt3d.engine.runtime import Runtime
from bixt3d.io.weights import load_weights
from bixt3d.models.classifier import BixtClassifier
from bixt3d.models.create import create_model
from bixt3d.models.encoder import BixtEncoder, EncoderLayer
from bixt3d.nn.attention import BiAttention
from bixt3d.nn.blocks import FeedForwardUnit
from bixt3d.nn.grouping import AffineGroupLinear, GroupBlock
from bixt3d.nn.mlp import ChannelsLastBatchNorm
from bixt3d.nn.refinement import GroupRefinement
from bixt3d.tasks.backends import choose_backends, with_less_memory
from bixt3d.tasks.classification import Classification
from bixt3d.tasks.image_task import ImageTask
from bixt3d.tasks.settings import Run, Train
from bixt3d.tokenizers import GroupTokenizer, PointTokenizer
from bixt3d.types import InputError

PROGRAM = """
import functools, torch
from bixt3d.cli.main import run
from bixt3d.tasks.classification import Classification
Classification.write_report = lambda *_: None
{first}
run("train", "cls")
"""
"""The command `bixt3d train cls`, but without pictures, and with a line of code before it."""
GROUPS = [
    "--model.tokenizer={class_path: GroupTokenizer, init_args: {dim: 16, points: {class_path: PointTokenizer, "
    "init_args: {dim: 8}}, num_neighbors: 4, num_groups: 16, num_pre: 0}}"
]


def small_classifier() -> BixtClassifier:
    torch.manual_seed(0)
    tokenizer = GroupTokenizer(16, PointTokenizer(8), num_neighbors=4, num_groups=16, num_pre=0)
    encoder = BixtEncoder(
        16, 3, 2, 4, refine=lambda *dims: GroupRefinement(*dims, num_neighbors=4), drop_path_cross=0.5
    )
    model = BixtClassifier(5, tokenizer, encoder, dropout=0.1)
    nn.init.normal_(model.head.weight)
    return model


def train_briefly(model: BixtClassifier) -> list[torch.Tensor]:
    """Return all weights and statistics after two steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        torch.manual_seed(1)
        model(torch.randn(4, 32, 3), torch.zeros(4, 32, 0)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return list(model.state_dict().values())


def test_every_part_is_told_which_form_to_run():
    model = small_classifier()
    choose_backends(model, Runtime(attention="chunked", points="torch", checkpointing=True))
    parts = list(model.modules())
    assert {part.backend for part in parts if isinstance(part, BiAttention)} == {"chunked"}
    assert {part.backend for part in parts if isinstance(part, GroupBlock | AffineGroupLinear)} == {"torch"}
    assert {part.checkpointing for part in parts if isinstance(part, EncoderLayer | FeedForwardUnit)} == {True}


def test_checkpointing_changes_no_weight_and_no_statistic():
    plain, saving = small_classifier(), small_classifier()
    choose_backends(saving, Runtime(checkpointing=True))
    for one, other in zip(train_briefly(plain), train_briefly(saving), strict=True):
        assert torch.equal(one, other)


def test_checkpointing_keeps_less():
    kept = {}
    for checkpointing in (False, True):
        model, sizes = small_classifier(), []
        choose_backends(model, Runtime(checkpointing=checkpointing))
        with torch.autograd.graph.saved_tensors_hooks(lambda one: (sizes.append(one.numel()), one)[1], lambda one: one):  # noqa: B023
            model(torch.randn(4, 32, 3), torch.zeros(4, 32, 0))
        kept[checkpointing] = sum(sizes)
    assert kept[True] < 0.5 * kept[False]


def test_checkpointing_is_refused_for_models_without_the_encoder():
    with pytest.raises(InputError, match="runtime.checkpointing is for models with BiXT's encoder"):
        choose_backends(create_model("modelnet40_pointmlp_elite", 5), Runtime(checkpointing=True))


def test_advice_on_memory_names_only_settings_that_there_are():
    runtime = Runtime(accumulate=2)
    of_clouds, of_images = (Run(0, data, None, Train(), None, Optim(), runtime) for data in (Shapes(), object()))
    lower, use = "lower --train.batch_size (it is 32)", "or use --runtime.accumulate 4"
    assert with_less_memory(of_clouds, nn.Linear(1, 1)) == f"{lower} or --data.num_points, {use}"
    assert with_less_memory(of_images, small_classifier()) == f"{lower}, {use} or --runtime.checkpointing true"
    runtime.checkpointing = True
    assert with_less_memory(of_images, small_classifier()) == f"{lower}, {use}"
    assert ImageTask.less_data == "use --data.cache false"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_graphs_without_cuda_are_refused(tmp_path, train):
    with pytest.raises(InputError, match="no CUDA device was found: --runtime.cuda_graphs"):
        train(tmp_path / "run", "--runtime.cuda_graphs=true")


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_rows(folder / "metrics.csv")]


def test_backends_asked_for_by_name_train_to_the_same_losses(tmp_path, train, monkeypatch):
    monkeypatch.setattr(Classification, "write_results", lambda *_: None)
    reference = train(tmp_path / "torch", *GROUPS, "--runtime.attention=torch", "--runtime.points=torch")
    for attention, points in (("sdpa", "numba"), ("chunked", "auto")):
        found = train(tmp_path / attention, *GROUPS, f"--runtime.attention={attention}", f"--runtime.points={points}")
        assert losses(found) == pytest.approx(losses(reference), rel=1e-4)


@pytest.fixture
def train_plainly(train, monkeypatch):
    """Return `train`, but it draws no report."""
    monkeypatch.setattr(Classification, "write_report", lambda *_: None)
    return train


def run_program(folder: Path, tiny: Path, *arguments: str, first: str = "", **variables: str) -> Path:
    code = PROGRAM.format(first=first)
    command = [sys.executable, "-W", "ignore", "-c", code, f"--cfg={tiny}", f"--run_dir={folder}", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.slow
def test_kernels_train_to_the_same_losses(tmp_path, tiny, train_plainly):
    """Attention, sampling and neighbors by Triton's kernels (interpreted where there is no GPU), against torch's."""
    pytest.importorskip("triton", reason="Triton is not installed")
    short = ["--train.steps=2", "--train.batch_size=4", "--data.num_points=32", "--data.test_per_class=1", *GROUPS]
    short += ["--optim.name=sgd", "--optim.lr=0.05"]  # adamw makes full steps of gradients that are rounding alone
    if torch.cuda.is_available():
        short += ["--runtime.accelerator=cuda", "--runtime.precision=32-true"]
        mode = {}
    else:
        mode = {"TRITON_INTERPRET": "1"}
    plain = train_plainly(tmp_path / "torch", *short, "--runtime.attention=torch", "--runtime.points=torch")
    kernels = ("--runtime.attention=triton", "--runtime.points=triton")
    try:
        fused = run_program(tmp_path / "triton", tiny, *short, *kernels, **mode)
    except AssertionError as error:
        if not mode or "only 0-dimensional arrays" not in str(error):
            raise
        pytest.skip("Triton's interpreter does not work with this numpy")  # 3.6 with 2.4
    assert losses(fused) == pytest.approx(losses(plain), rel=1e-5)
    weights = [load_weights(folder / "model.safetensors")[0] for folder in (plain, fused)]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=1e-4, atol=1e-6)


WITHOUT_CODE = 'torch.compile = functools.partial(torch.compile, backend="aot_eager")'


@pytest.mark.slow
def test_a_compiled_model_trains_to_the_same_losses(tmp_path, tiny, train_plainly):
    """On a CPU traced, split into forward and backward, but run as torch would: g++ takes minutes for all kernels."""
    short = ["--train.steps=4", "--data.num_points=32", "--data.test_per_class=1", *GROUPS]
    short += ["--model.dropout=0", "--model.encoder.drop_path_cross=0"]
    plain = train_plainly(tmp_path / "eager", *short)
    first = "" if torch.cuda.is_available() else WITHOUT_CODE
    found = run_program(tmp_path / "compiled", tiny, *short, "--runtime.compile=true", first=first)
    assert len(read_rows(found / "metrics.csv")) == 1
    assert losses(found) == pytest.approx(losses(plain), rel=1e-3)


REAL_CODE = """
import torch
from bixt3d.engine.runtime import Runtime, compiled
from bixt3d.nn.attention import BiAttention
from bixt3d.nn.blocks import FeedForwardUnit
layer = BiAttention(8, 8, 2)
inputs = [torch.randn(2, size, 8, requires_grad=True) for size in (4, 12)]
results = []
for form in (layer, compiled(Runtime(compile=True), layer)):
    outs = form(*inputs)
    loss = sum(out.square().sum() for out in outs)
    results.append([*outs, *torch.autograd.grad(loss, [*inputs, *layer.parameters()])])
for one, other in zip(*results, strict=True):
    torch.testing.assert_close(one, other)
assert torch._inductor.metrics.generated_kernel_count > 0
"""


@pytest.mark.slow
def test_the_code_that_the_compiler_writes_computes_what_a_layer_does():
    """The real compiler, on a part small enough for g++: values and gradients; in a process that checks no types."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", REAL_CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.gpu
def test_the_host_never_waits_for_the_device_inside_an_epoch():
    """CUDA raises at any read of a result by the host while a step is made."""
    model = small_classifier().cuda()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    clouds = torch.randn(4, 32, 3, device="cuda"), torch.zeros(4, 32, 0, device="cuda")

    def step() -> None:
        model(*clouds).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()  # tunes and compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_batch_norms_are_synchronized_for_several_processes_and_others_than_ours_are_refused():
    model = nn.Sequential(ChannelsLastBatchNorm(3), nn.BatchNorm1d(3))
    choose_backends(model, Runtime(), num_processes=1)
    assert not model[0].synchronized
    choose_backends(model[:1], Runtime(), num_processes=2)
    assert model[0].synchronized
    choose_backends(model, Runtime(sync_batchnorm=False), num_processes=2)
    assert not model[0].synchronized
    with pytest.raises(
        InputError, match="statistics of BatchNorm1d cannot be synchronised among processes: use a batch"
    ):
        choose_backends(model, Runtime(), num_processes=2)
