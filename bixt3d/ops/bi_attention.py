"""Bi-directional cross-attention: latents and tokens attend to each other through one similarity (section 2.2)."""

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
    """Return what the latents gather from the tokens, and what the tokens gather from the latents.

    With ``s = similarity(latent_refs, token_refs)``: latents get ``softmax(s over tokens) @ token_values``, tokens get
    ``softmax(s over latents).T @ latent_values``. Latents may be shared by the batch (B = 1).
    ``torch`` is the definition: the similarity computed once, two softmaxes. The others never store the similarity:
    ``sdpa`` makes two calls of scaled_dot_product_attention; ``chunked`` (CPU) goes through the tokens once, and leaves
    similarities too far from zero for plain exponentials to ``sdpa``; ``triton`` (CUDA) is a kernel each way.

    Example:
        >>> latents, tokens = torch.rand(2, 8, 4, 16), torch.rand(2, 128, 4, 16)  # 4 heads of width 16
        >>> [gathered.shape for gathered in bi_attention(latents, latents, tokens, tokens)]
        [torch.Size([2, 8, 64]), torch.Size([2, 128, 64])]
    """
    parts = _in_autocast_dtype((latent_refs, latent_values, token_refs, token_values))
    return _BACKENDS[choose_attention_backend(backend, parts[0], parts[2])](*parts)


def bi_attention_projected(
    latents: Float[Tensor, "#B L 2 H E"], tokens: Float[Tensor, "B T 2 H E"], backend: AttentionBackend = "auto"
) -> tuple[Float[Tensor, "B L H*E"], Float[Tensor, "B T H*E"]]:
    """Return what bi_attention returns, of projections that hold refs, then values.

    ``triton`` writes the gradient of each projection in one piece: with four inputs autograd copies them into one.
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
    """Return the scaled dot products of refs: the one matrix that both directions share (paper, equation 2)."""
    return latent_refs.transpose(1, 2) @ token_refs.permute(0, 2, 3, 1) * latent_refs.shape[-1] ** -0.5


def _bi_attention(latent_refs: Tensor, latent_values: Tensor, token_refs: Tensor, token_values: Tensor):
    shared = similarity(latent_refs, token_refs)
    latents = shared.softmax(-1) @ token_values.transpose(1, 2)
    tokens = shared.softmax(-2).transpose(-1, -2) @ latent_values.transpose(1, 2)
    return latents.transpose(1, 2).flatten(2), tokens.transpose(1, 2).flatten(2)


def _bi_attention_sdpa(latent_refs: Tensor, latent_values: Tensor, token_refs: Tensor, token_values: Tensor):
    shape = (token_refs.shape[0], -1, -1, -1)
    lat_refs, lat_values = (part.expand(shape).transpose(1, 2) for part in (latent_refs, latent_values))
    tok_refs, tok_values = (part.transpose(1, 2) for part in (token_refs, token_values))
    latents = scaled_dot_product_attention(lat_refs, tok_refs, tok_values)
    tokens = scaled_dot_product_attention(tok_refs, lat_refs, lat_values)
    return latents.transpose(1, 2).flatten(2), tokens.transpose(1, 2).flatten(2)


def _bi_attention_chunked(latent_refs: Tensor, latent_values: Tensor, token_refs: Tensor, token_values: Tensor):
    parts = (latent_refs, latent_values, token_refs, token_values)
    return chunked_attention(*parts) or _bi_attention_sdpa(*parts)


def _bi_attention_triton(latent_refs: Tensor, latent_values: Tensor, token_refs: Tensor, token_values: Tensor):
    from bixt3d.ops.triton.bi_attention import bi_attention

    return bi_attention(latent_refs, latent_values, token_refs, token_values)[:2]


def _in_autocast_dtype(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the tensors as torch's own products would see them under autocast."""
    return tuple(part.to(dtype_of_products(part)) for part in parts)


_BACKENDS = {
    "torch": _bi_attention,
    "sdpa": _bi_attention_sdpa,
    "chunked": _bi_attention_chunked,
    "triton": _bi_attention_triton,
}
