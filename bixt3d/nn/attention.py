"""Attention with parameters: both ways at once (BiXT), one way, and within the latents."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from bixt3d.nn.mlp import init_linear
from bixt3d.ops._backend import AttentionBackend
from bixt3d.ops.bi_attention import bi_attention_projected
from bixt3d.types import InputError


def check_heads(dim: int, num_heads: int) -> int:
    """Return the width of a head. Raises InputError if the width does not divide into the heads."""
    if num_heads < 1 or dim % num_heads:
        raise InputError(f"a width of {dim} does not divide into {num_heads} heads")
    return dim // num_heads


class BiAttention(nn.Module):
    """Latents and tokens attend to each other through one similarity of their refs (paper, section 2.2).

    Heads have the width ``latent_dim / num_heads`` on both sides. ``backend`` of a module may be changed: see
    bi_attention.
    """

    def __init__(self, latent_dim: int, token_dim: int, num_heads: int):
        super().__init__()
        self.head_dim = check_heads(latent_dim, num_heads)
        self.backend: AttentionBackend = "auto"
        self.latent_ref_value = nn.Linear(latent_dim, 2 * latent_dim)
        self.token_ref_value = nn.Linear(token_dim, 2 * latent_dim)
        self.latent_out = nn.Linear(latent_dim, latent_dim)
        self.token_out = nn.Linear(latent_dim, token_dim)
        self.apply(init_linear)

    def forward(
        self, latents: Float[Tensor, "#B L D"], tokens: Float[Tensor, "B T C"]
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B T C"]]:
        parts = self.latent_ref_value(latents), self.token_ref_value(tokens)
        latents, tokens = bi_attention_projected(
            *(part.unflatten(-1, (2, -1, self.head_dim)) for part in parts), self.backend
        )
        return self.latent_out(latents), self.token_out(tokens)


class CrossAttention(nn.Module):
    """One side reads the other: queries of the reader, keys and values of the source."""

    def __init__(self, reader_dim: int, source_dim: int, num_heads: int, inner_dim: int | None = None):
        super().__init__()
        inner_dim = inner_dim or reader_dim
        self.head_dim = check_heads(inner_dim, num_heads)
        self.query = nn.Linear(reader_dim, inner_dim)
        self.key_value = nn.Linear(source_dim, 2 * inner_dim)
        self.out = nn.Linear(inner_dim, reader_dim)
        self.apply(init_linear)

    def forward(self, reader: Float[Tensor, "#B R D"], source: Float[Tensor, "#B S C"]) -> Float[Tensor, "B R D"]:
        num_clouds = max(reader.shape[0], source.shape[0])
        query = self.query(reader).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        key, value = self.key_value(source).unflatten(-1, (2, -1, self.head_dim)).unbind(-3)
        shape = (num_clouds, -1, -1, -1)
        query, key, value = query.expand(shape), key.transpose(1, 2).expand(shape), value.transpose(1, 2).expand(shape)
        return self.out(scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class SelfAttention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.head_dim = check_heads(dim, num_heads)
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.apply(init_linear)

    def forward(self, feats: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        parts = self.query_key_value(feats).unflatten(-1, (3, -1, self.head_dim)).unbind(-3)
        query, key, value = (part.transpose(1, 2) for part in parts)
        return self.out(scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
