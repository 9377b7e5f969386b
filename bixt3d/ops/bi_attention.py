"""Bi-directional cross-attention: latents and tokens attend to each other through one similarity (section 2.2)."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from bixt3d.ops._backend import AttentionBackend
from bixt3d.types import InputError


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
    ``torch`` is the definition: the similarity computed once, two softmaxes. ``sdpa`` computes the same with two
    calls of scaled_dot_product_attention, which never store the similarity; ``auto`` takes it because it was the
    faster one on every shape measured (1.9 to 3.3 times on a CPU; tools/bench.py) and needs no memory for T x L.
    """
    if backend == "torch":
        return _bi_attention(latent_refs, latent_values, token_refs, token_values)
    if backend in ("auto", "sdpa"):
        return _bi_attention_sdpa(latent_refs, latent_values, token_refs, token_values)
    raise InputError(f"unknown backend '{backend}': choose auto, torch or sdpa")


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
