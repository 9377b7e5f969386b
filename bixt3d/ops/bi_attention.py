"""Bi-directional cross-attention of latents and tokens with one shared similarity matrix (paper, section 2.2)."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from bixt3d.ops._backend import AttentionBackend, choose_attention_backend, dtype_of_products
from bixt3d.ops.chunked_attention import chunked_attention


def bi_attention(
    latent_refs: Float[Tensor, "#B L H E"],
    latent_values: Float[Tensor, "#B L H E"],
    token_refs: Float[Tensor, "B T H E"],
    token_values: Float[Tensor, "B T H E"],
    backend: AttentionBackend = "auto",
) -> tuple[Float[Tensor, "B L H*E"], Float[Tensor, "B T H*E"]]:
    """Compute bi-directional cross-attention: return the outputs for the latents and for the tokens.

    With ``s = similarity(latent_refs, token_refs)``: latents get ``softmax(s over tokens) @ token_values``, tokens get
    ``softmax(s over latents).T @ latent_values``. Latents may be shared by the batch (B = 1).

    Backends: ``torch`` is the reference implementation: one similarity matrix, two softmaxes. The others never store
    that matrix: ``sdpa`` calls scaled_dot_product_attention twice; ``chunked`` (CPU) processes the tokens in chunks, in
    one pass, and falls back to ``sdpa`` where an exponential could overflow; ``triton`` (CUDA) is one kernel for the
    forward and one for the backward pass. ``auto`` takes the fastest one.

    Example:
        >>> latents, tokens = torch.rand(2, 8, 4, 16), torch.rand(2, 128, 4, 16)  # 4 heads of width 16
        >>> [gathered.shape for gathered in bi_attention(latents, latents, tokens, tokens)]
        [torch.Size([2, 8, 64]), torch.Size([2, 128, 64])]
    """
    inputs = _in_autocast_dtype((latent_refs, latent_values, token_refs, token_values))
    return _BACKENDS[choose_attention_backend(backend, inputs[0], inputs[2])](*inputs)


def bi_attention_projected(
    latents: Float[Tensor, "#B L 2 H E"], tokens: Float[Tensor, "B T 2 H E"], backend: AttentionBackend = "auto"
) -> tuple[Float[Tensor, "B L H*E"], Float[Tensor, "B T H*E"]]:
    """Compute `bi_attention` from projections that contain refs, then values, along axis 2.

    ``triton`` writes the gradient of each projection as one tensor; with four separate inputs autograd would copy.
    """
    latents, tokens = _in_autocast_dtype((latents, tokens))
    chosen = choose_attention_backend(backend, latents[:, :, 0], tokens[:, :, 0])
    if chosen == "triton":
        from bixt3d.ops.triton.bi_attention import bi_attention_projected

        return bi_attention_projected(latents, tokens)[:2]
    return _BACKENDS[chosen](*latents.unbind(2), *tokens.unbind(2))


def similarity(
    latent_refs: Float[Tensor, "#B L H E"], token_refs: Float[Tensor, "B T H E"]
) -> Float[Tensor, "B H L T"]:
    """Return the scaled dot products of refs: the similarity matrix of both directions (paper, equation 2)."""
    return latent_refs.transpose(1, 2) @ token_refs.permute(0, 2, 3, 1) * latent_refs.shape[-1] ** -0.5


def _bi_attention(latent_refs: Tensor, latent_values: Tensor, token_refs: Tensor, token_values: Tensor):
    shared = similarity(latent_refs, token_refs)
    latents = shared.softmax(-1) @ token_values.transpose(1, 2)
    tokens = shared.softmax(-2).transpose(-1, -2) @ latent_values.transpose(1, 2)
    return latents.transpose(1, 2).flatten(2), tokens.transpose(1, 2).flatten(2)


def _bi_attention_sdpa(latent_refs: Tensor, latent_values: Tensor, token_refs: Tensor, token_values: Tensor):
    shape = (token_refs.shape[0], -1, -1, -1)
    lat_refs, lat_values = (tensor.expand(shape).transpose(1, 2) for tensor in (latent_refs, latent_values))
    tok_refs, tok_values = (tensor.transpose(1, 2) for tensor in (token_refs, token_values))
    latents = scaled_dot_product_attention(lat_refs, tok_refs, tok_values)
    tokens = scaled_dot_product_attention(tok_refs, lat_refs, lat_values)
    return latents.transpose(1, 2).flatten(2), tokens.transpose(1, 2).flatten(2)


def _bi_attention_chunked(latent_refs: Tensor, latent_values: Tensor, token_refs: Tensor, token_values: Tensor):
    inputs = (latent_refs, latent_values, token_refs, token_values)
    return chunked_attention(*inputs) or _bi_attention_sdpa(*inputs)


def _bi_attention_triton(latent_refs: Tensor, latent_values: Tensor, token_refs: Tensor, token_values: Tensor):
    from bixt3d.ops.triton.bi_attention import bi_attention

    return bi_attention(latent_refs, latent_values, token_refs, token_values)[:2]


def _in_autocast_dtype(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Cast tensors to the dtype of autocast, if it is enabled, as torch does for matrix products."""
    return tuple(tensor.to(dtype_of_products(tensor)) for tensor in tensors)


_BACKENDS = {
    "torch": _bi_attention,
    "sdpa": _bi_attention_sdpa,
    "chunked": _bi_attention_chunked,
    "triton": _bi_attention_triton,
}
