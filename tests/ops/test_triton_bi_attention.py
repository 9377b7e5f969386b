"""Triton kernels of bi-directional cross-attention, on a GPU, or on a CPU in Triton's interpreter.

A kernel is interpreted if TRITON_INTERPRET is set when its file is first imported: this file sets it for that import,
and for its own tests. Triton itself is imported without it, as in all other tests.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bixt3d.ops import bi_attention
from bixt3d.ops.bi_attention import bi_attention_projected
from bixt3d.types import InputError

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
pytest.importorskip("triton", reason="Triton is not installed")
with pytest.MonkeyPatch.context() as patch:
    if not ON_GPU:
        patch.setenv("TRITON_INTERPRET", "1")
    from bixt3d.ops.triton import bi_attention as kernels

pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning")  # Triton 3.6
attend = partial(bi_attention, backend="triton")
Case = tuple[int, int, int, int]
"""Number of tokens, number of latents, head width, batch size of the latents."""


@pytest.fixture(autouse=True, scope="module")
def interpreter() -> Iterator[None]:
    """Run the kernels in the interpreter if there is no GPU; skip where Triton 3.6 does not support numpy (2.4)."""
    assert kernels.INTERPRETED == (not ON_GPU), "the kernels were imported before this file was"  # noqa: SIM300
    with pytest.MonkeyPatch.context() as patch:
        if not ON_GPU:
            patch.setenv("TRITON_INTERPRET", "1")
        try:
            kernels.bi_attention(*(torch.zeros(1, 1, 1, 16, device=DEVICE) for _ in range(4)))
        except Exception as error:
            if "only 0-dimensional arrays" not in str(error):
                raise
            pytest.skip(f"Triton's interpreter does not work with this numpy: {error}")
        yield


@pytest.fixture(autouse=True)
def unwritten_memory_is_nan() -> Iterator[None]:
    """Let torch fill uninitialized tensors with NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def random_inputs(case: Case, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> list[Tensor]:
    """Return refs and values of latents, then of tokens, as views of projections: two clouds, two heads."""
    num_tokens, num_latents, head_dim, latent_batch = case
    shapes = (latent_batch, num_latents, 2, 2, head_dim), (2, num_tokens, 2, 2, head_dim)
    fused = [torch.randn(shape, device=DEVICE) for shape in shapes]
    for projection in fused:
        projection[:, :, 0] *= scale
    return [view.requires_grad_() for projection in fused for view in projection.to(dtype).unbind(2)]


def run(attend, inputs: list[Tensor]) -> list[Tensor]:
    """Return both outputs, and the gradients of all inputs for random output gradients."""
    outputs = attend(*inputs)[:2]
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(out.shape, generator=generator).to(out) for out in outputs]
    return [*outputs, *torch.autograd.grad(outputs, inputs, weights)]


def check(found: list[Tensor], inputs: list[Tensor], error: float) -> None:
    """Compare outputs and gradients with the reference in float64 on the same inputs."""
    torch.use_deterministic_algorithms(False)  # torch's matrix products on a GPU are not deterministic
    exact = [one.detach().double().requires_grad_() for one in inputs]
    for one, other in zip(found, run(partial(bi_attention, backend="torch"), exact), strict=True):
        assert one.shape == other.shape and one.dtype == inputs[0].dtype
        assert one.isfinite().all()
        assert (one - other).norm() <= error * other.norm() + error * 1e-3


CASES = [  # odd numbers of tokens; one, some and many latents; widths with and without padding
    (1, 3, 16, 2),
    (1, 5, 16, 2),
    (63, 1, 32, 2),
    (65, 64, 32, 1),
    (100, 33, 48, 2),
    (100, 16, 20, 1),
    (1000, 64, 32, 1),
    (63, 3, 128, 2),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_gradients_are_those_of_the_reference(case: Case):
    inputs = random_inputs(case)
    check(run(attend, inputs), inputs, 2e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", [(65, 64, 32, 1), (100, 5, 20, 2)], ids=str)
def test_half_precision_is_as_exact_as_its_dtype(case: Case, dtype: torch.dtype):
    inputs = random_inputs(case, dtype)
    check(run(attend, inputs), inputs, 3 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("case", [(65, 256, 16, 2), (65, 200, 32, 1), (63, 40, 128, 1)], ids=str)
def test_more_latents_than_a_tile_are_as_exact(case: Case):
    inputs = random_inputs(case)
    assert kernels._block_of_latents(case[1], case[2], torch.float32) < case[1]
    check(run(attend, inputs), inputs, 2e-6)


@pytest.mark.parametrize("num_splits", [2, 5])
def test_splits_of_the_tokens_even_empty_ones_do_not_change_the_result(num_splits: int):
    inputs = random_inputs((260, 5, 16, 1))  # splits of 256 tokens, or of 128: two of the five are empty
    found = run(partial(kernels.bi_attention, num_splits=num_splits), inputs)
    check(found, inputs, 2e-6)
    for one, other in zip(found, run(partial(kernels.bi_attention, num_splits=num_splits), inputs), strict=True):
        assert torch.equal(one, other)


def test_splits_and_tiles_together_are_as_exact():
    inputs = random_inputs((140, 130, 16, 1))
    check(run(partial(kernels.bi_attention, num_splits=3), inputs), inputs, 2e-6)


@pytest.mark.parametrize(("scale", "error"), [(1e-6, 2e-6), (5.0, 2e-5), (30.0, 2e-3)])
def test_large_and_tiny_similarities_are_exact(scale: float, error: float):
    """At 30 similarities reach 5000: maxima of rows and columns of a tile differ by much."""
    inputs = random_inputs((100, 7, 16, 2), scale=scale)
    check(run(attend, inputs), inputs, error)


def test_huge_similarities_stay_finite():
    inputs = random_inputs((65, 5, 16, 2), scale=1e5)
    assert all(tensor.isfinite().all() for tensor in run(attend, inputs))


def test_one_latent_far_below_all_others_is_exact():
    """Its weights would underflow with a maximum shared with the others."""
    inputs = random_inputs((100, 5, 16, 2))
    with torch.no_grad():
        inputs[0][:, 2], inputs[2][..., 0] = 0, 40
        inputs[0][:, 2, :, 0] = -40
    check(run(attend, inputs), inputs, 2e-4)


def test_inputs_may_be_non_contiguous():
    inputs = random_inputs((65, 5, 16, 2))
    expected = run(attend, inputs)
    strided = [inputs[0].detach().mT.contiguous().mT, *(one.detach().contiguous() for one in inputs[1:])]
    found = run(attend, [one.requires_grad_() for one in strided])
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_an_unused_output_needs_no_gradient():
    inputs = random_inputs((65, 5, 16, 2))
    exact = [one.detach().double().requires_grad_() for one in inputs]
    torch.use_deterministic_algorithms(False)
    for output in (0, 1):
        grads = torch.autograd.grad(attend(*inputs)[output].sum(), inputs, allow_unused=True)
        expected = torch.autograd.grad(
            bi_attention(*exact, "torch")[output].sum(), exact, allow_unused=True, materialize_grads=True
        )
        for one, other in zip(grads, expected, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_projection_is_one_contiguous_tensor():
    inputs = random_inputs((65, 5, 16, 1))
    expected = run(attend, inputs)
    fused = [torch.stack(pair, 2).detach().requires_grad_() for pair in (inputs[:2], inputs[2:])]
    found = run(partial(bi_attention_projected, backend="triton"), fused)
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert torch.equal(one, other)
    for one, pair in zip(found[2:], (expected[2:4], expected[4:]), strict=True):
        assert torch.equal(one, torch.stack(pair, 2)) and one.is_contiguous()


def test_under_autocast_it_computes_in_its_dtype():
    inputs = [one.detach().requires_grad_() for one in random_inputs((65, 5, 16, 1))]
    with torch.autocast(DEVICE, torch.bfloat16):
        outputs = attend(*inputs)
    assert {out.dtype for out in outputs} == {torch.bfloat16}
    assert {grad.dtype for grad in torch.autograd.grad(sum(out.sum() for out in outputs), inputs)} == {torch.float32}


def test_activation_checkpointing_changes_nothing():
    inputs = random_inputs((65, 5, 16, 1))
    found = run(lambda *inputs: checkpoint(attend, *inputs, use_reentrant=False), inputs)
    for one, other in zip(found, run(attend, inputs), strict=True):
        assert torch.equal(one, other)


def test_operators_are_registered_with_torch_and_can_be_compiled():
    torch.use_deterministic_algorithms(False)  # compiled code does not fill uninitialized memory
    inputs = random_inputs((65, 5, 16, 1))
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(kernels.bi_attention, tuple(inputs), test_utils=tests)
    fused = tuple(torch.stack(pair, 2).detach().requires_grad_() for pair in (inputs[:2], inputs[2:]))
    torch.library.opcheck(kernels.bi_attention_projected, fused, test_utils=tests)
    compiled = torch.compile(lambda *inputs: kernels.bi_attention(*inputs), backend="aot_eager", fullgraph=True)
    for one, other in zip(run(compiled, inputs), run(attend, inputs), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("dtype", "head_dim", "reason"),
    [(torch.float64, 16, "computes in float32, bfloat16 or float16, not in float64"), (None, 144, "128 wide, not 144")],
)
def test_inputs_that_the_kernels_do_not_support_are_an_error_that_says_why(
    dtype: torch.dtype | None, head_dim: int, reason: str
):
    with pytest.raises(InputError, match=f"backend 'triton' .*{reason}"):
        attend(*random_inputs((3, 2, head_dim, 2), dtype or torch.float32))


def test_compiled_kernels_fit_in_the_registers_of_a_hopper_gpu():
    code = (
        "from bixt3d.ops.triton.resources import *\n"
        "for kernel in (forward_kernel, backward_kernel):\n"
        "    found = next(tiles(kernel, 64, 32, 'bfloat16'))\n"
        "    print(found['spilled'], found['matrix_instructions'] > 0)"
    )
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert found.stdout.split() == ["0", "True"] * 2


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02), (torch.float16, 3e-3)])
@pytest.mark.parametrize(
    "case", [*CASES, (70_001, 64, 32, 1), (5000, 256, 64, 2), (5000, 256, 128, 1), (4096, 128, 64, 1)], ids=str
)
def test_a_gpu_gives_the_results_of_the_reference(case: Case, dtype: torch.dtype, error: float):
    inputs = random_inputs(case, dtype)
    check(run(attend, inputs), inputs, error)
