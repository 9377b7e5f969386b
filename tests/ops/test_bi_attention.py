"""Bi-directional cross-attention: outputs and gradients of every backend."""

from functools import partial
from inspect import unwrap

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bixt3d.ops import bi_attention, similarity
from bixt3d.ops._backend import MANY_SIMILARITIES, choose_attention_backend
from bixt3d.ops.bi_attention import bi_attention_projected
from bixt3d.ops.chunked_attention import chunked_attention
from bixt3d.types import InputError

BACKENDS = ["torch", "sdpa", "chunked", "auto"]
HEADS, HEAD_DIM = 2, 3
CHUNKED = partial(bi_attention, backend="chunked")


def random_inputs(num_tokens: int, num_latents: int, latent_batch: int = 2, scale: float = 1.0) -> list[Tensor]:
    """Return refs and values of latents, then of tokens, in float64, which require gradients."""
    shapes = [(latent_batch, num_latents)] * 2 + [(2, num_tokens)] * 2
    return [(torch.randn(*shape, HEADS, HEAD_DIM).double() * scale).requires_grad_() for shape in shapes]


def attend_slowly(latent_refs: Tensor, latent_values: Tensor, token_refs: Tensor, token_values: Tensor):
    """Compute two softmax attentions per cloud and head; refs are queries in one and keys in the other."""

    def read(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return torch.softmax(queries @ keys.T / HEAD_DIM**0.5, 1) @ values

    latents, tokens = [], []
    for b in range(len(token_refs)):
        lat = [one[b % len(latent_refs)].unbind(1) for one in (latent_refs, latent_values)]
        tok = [one[b].unbind(1) for one in (token_refs, token_values)]
        latents.append(torch.cat([read(lat[0][h], tok[0][h], tok[1][h]) for h in range(HEADS)], 1))
        tokens.append(torch.cat([read(tok[0][h], lat[0][h], lat[1][h]) for h in range(HEADS)], 1))
    return torch.stack(latents), torch.stack(tokens)


def run(attend, inputs: list[Tensor]) -> list[Tensor]:
    """Return both outputs, and the gradients of all inputs for random output gradients."""
    outputs = attend(*inputs)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(out.shape, generator=generator).to(out.dtype) for out in outputs]
    return [*outputs, *torch.autograd.grad(outputs, inputs, weights)]


@pytest.mark.parametrize(("num_latents", "num_heads"), [(64, 6), (16, 3), (1, 1)])
def test_auto_takes_chunked_for_clouds_with_many_similarities(num_latents: int, num_heads: int):
    latents = torch.empty(1, num_latents, num_heads, 2)
    enough = -(-MANY_SIMILARITIES // (num_latents * num_heads))
    for size, backend in ((enough - 1, "sdpa"), (enough, "chunked")):
        for num_clouds in (1, 3):
            assert choose_attention_backend("auto", latents, torch.empty(num_clouds, size, num_heads, 2)) == backend


@pytest.mark.parametrize("num_tokens", [1, 63, 100])
@pytest.mark.parametrize("num_latents", [1, 5])
@pytest.mark.parametrize("latent_batch", [1, 2])
@pytest.mark.parametrize("backend", BACKENDS)
def test_outputs_and_gradients_are_those_of_two_attentions_with_shared_refs(
    backend: str, latent_batch: int, num_latents: int, num_tokens: int
):
    inputs = random_inputs(num_tokens, num_latents, latent_batch)
    found = run(lambda *inputs: bi_attention(*inputs, backend=backend), inputs)
    for one, other in zip(found, run(attend_slowly, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_latent_and_two_tokens_by_hand(backend: str):
    # one head of width 1: similarities 0 and log 3, so the latent weighs the tokens 1/4 and 3/4;
    # a token reads the only latent there is
    latent_ref, latent_value = torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 7.0)
    token_refs, token_values = (
        torch.tensor([1.0, 3.0]).log().view(1, 2, 1, 1),
        torch.tensor([4.0, 8.0]).view(1, 2, 1, 1),
    )
    latents, tokens = bi_attention(latent_ref, latent_value, token_refs, token_values, backend)
    torch.testing.assert_close(latents.flatten(), torch.tensor([4 / 4 + 3 * 8 / 4]))
    torch.testing.assert_close(tokens.flatten(), torch.tensor([7.0, 7.0]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_latents_shared_by_the_batch_add_up(backend: str):
    shared = random_inputs(9, 4, latent_batch=1)
    own = [one.detach().expand(2, -1, -1, -1).clone().requires_grad_() for one in shared[:2]] + shared[2:]
    outputs = run(lambda *inputs: bi_attention(*inputs, backend=backend), shared)
    expected = run(lambda *inputs: bi_attention(*inputs, backend=backend), own)
    expected[2:4] = [grad.sum(0, keepdim=True) for grad in expected[2:4]]
    for one, other in zip(outputs, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_refs_and_values_may_be_strided_views_of_one_projection(backend: str):
    fused = [torch.randn(2, count, 2, HEADS, HEAD_DIM).double().requires_grad_() for count in (5, 63)]
    strided = [view for projection in fused for view in projection.unbind(2)]
    assert not any(view.is_contiguous() for view in strided)
    found = run(lambda *inputs: bi_attention(*inputs, backend=backend), strided)
    for one, other in zip(found, run(attend_slowly, [view.contiguous() for view in strided]), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_similarities_stay_finite(backend: str):
    inputs = [one.detach().float().requires_grad_() for one in random_inputs(63, 5, scale=1e4)]
    found = run(lambda *inputs: bi_attention(*inputs, backend=backend), inputs)
    assert all(tensor.isfinite().all() for tensor in found)
    for one, other in zip(found[:2], attend_slowly(*inputs), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("backend", BACKENDS)
def test_shuffled_tokens_give_shuffled_tokens_and_the_same_latents(backend: str):
    latent_refs, latent_values, token_refs, token_values = random_inputs(63, 5)
    order = torch.randperm(63)
    latents, tokens = bi_attention(latent_refs, latent_values, token_refs, token_values, backend)
    shuffled = bi_attention(latent_refs, latent_values, token_refs[:, order], token_values[:, order], backend)
    torch.testing.assert_close(shuffled[0], latents)
    torch.testing.assert_close(shuffled[1], tokens[:, order])


@pytest.mark.parametrize("num_tokens", [511, 513, 1200])
@pytest.mark.parametrize("latent_batch", [1, 2])
def test_chunks_of_tokens_add_up_to_the_whole(latent_batch: int, num_tokens: int):
    inputs = random_inputs(num_tokens, 5, latent_batch)
    for one, other in zip(run(CHUNKED, inputs), run(attend_slowly, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_clouds_do_not_mix_in_chunks():
    inputs = [torch.randn(5, n, HEADS, HEAD_DIM).double().requires_grad_() for n in (4, 4, 200, 200)]
    for one, other in zip(run(CHUNKED, inputs), run(attend_slowly, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_chunked_gradients_are_those_of_finite_differences():
    torch.autograd.gradcheck(CHUNKED, random_inputs(6, 3, latent_batch=1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_chunks_of_half_precision_add_up_in_float32(dtype: torch.dtype):
    inputs = [one.detach().to(dtype).requires_grad_() for one in random_inputs(600, 5)]
    found = run(CHUNKED, inputs)
    expected = run(attend_slowly, [one.detach().double().requires_grad_() for one in inputs])
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.double(), other, rtol=torch.finfo(dtype).eps, atol=1e-3)
    assert all((one - other).norm() < 0.01 * other.norm() for one, other in zip(found[2:], expected[2:], strict=True))


@pytest.mark.parametrize(("similarity", "is_safe"), [(39, True), (41, False), (-39, True), (-41, False), (500, False)])
def test_chunked_attention_refuses_similarities_too_large_for_plain_exponentials(similarity: float, is_safe: bool):
    refs = torch.ones(1, 1, 1, 1)
    found = chunked_attention(refs, refs, torch.tensor([0.0, similarity]).view(1, 2, 1, 1), torch.ones(1, 2, 1, 1))
    assert (found is not None) == is_safe


@pytest.mark.parametrize("backend", BACKENDS)
def test_projections_give_the_same_as_separate_refs_and_values(backend: str):
    projections = [torch.randn(2, n, 2, HEADS, HEAD_DIM).double().requires_grad_() for n in (5, 63)]
    found = run(lambda *inputs: bi_attention_projected(*inputs, backend=backend), projections)
    expected = run(lambda a, b: attend_slowly(*a.unbind(2), *b.unbind(2)), projections)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_under_autocast_every_backend_computes_in_its_dtype(backend: str):
    inputs = [one.detach().float().requires_grad_() for one in random_inputs(63, 5, latent_batch=1)]
    with torch.autocast("cpu", torch.bfloat16):
        outputs = bi_attention(*inputs, backend=backend)
    assert {out.dtype for out in outputs} == {torch.bfloat16}
    assert {grad.dtype for grad in torch.autograd.grad(sum(out.sum() for out in outputs), inputs)} == {torch.float32}


@pytest.mark.parametrize("backend", BACKENDS)
def test_activation_checkpointing_changes_nothing(backend: str):
    inputs = random_inputs(63, 5)
    attend = partial(bi_attention, backend=backend)
    found = run(lambda *inputs: checkpoint(attend, *inputs, use_reentrant=False), inputs)
    for one, other in zip(found, run(attend, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_similarity_is_the_scaled_dot_product_of_every_pair():
    latent_refs, _, token_refs, _ = random_inputs(4, 3)
    found = similarity(latent_refs, token_refs)
    assert found.shape == (2, HEADS, 3, 4)
    expected = (latent_refs[1, 2, 1] * token_refs[1, 3, 1]).sum() / HEAD_DIM**0.5
    torch.testing.assert_close(found[1, 1, 2, 3], expected)


def test_an_unknown_backend_is_an_error_that_lists_the_choices():
    with pytest.raises(InputError, match="unknown backend 'flash': choose auto, torch, sdpa, chunked or triton"):
        unwrap(bi_attention)(*random_inputs(2, 1), backend="flash")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_triton_without_cuda_is_an_error_that_says_why(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(InputError, match="backend 'triton' (needs the package triton|runs on CUDA tensors)"):
        bi_attention(*random_inputs(2, 1), backend="triton")
