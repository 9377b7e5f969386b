"""Attention modules: bi-directional cross-attention (BiXT), cross-attention and self-attention."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from bixt3d.nn.mlp import init_linear
from bixt3d.ops._backend import AttentionBackend
from bixt3d.ops.bi_attention import bi_attention_projected
from bixt3d.types import InputError


def check_heads(dim: int, num_heads: int) -> int:
    """Return the width of a head. Raises InputError if ``dim`` is not a multiple of ``num_heads``."""
    if num_heads < 1 or dim % num_heads:
        raise InputError(f"a width of {dim} does not divide into {num_heads} heads")
    return dim // num_heads


class BiAttention(nn.Module):
    """Bi-directional cross-attention: latents and tokens attend to each other (paper, section 2.2).

    Both directions use one similarity matrix, of the refs of latents and tokens. The attribute ``backend`` may be set:
    see `bixt3d.bi_attention`.

    Args:
        latent_dim: width of the latents.
        token_dim: width of the tokens.
        num_heads: attention heads, each of width ``latent_dim / num_heads`` on both sides.

    Example:
        >>> attention = BiAttention(latent_dim=32, token_dim=16, num_heads=4)
        >>> latents, tokens = attention(torch.rand(2, 8, 32), torch.rand(2, 128, 16))
        >>> latents.shape, tokens.shape
        (torch.Size([2, 8, 32]), torch.Size([2, 128, 16]))
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
        projections = self.latent_ref_value(latents), self.token_ref_value(tokens)
        latents, tokens = bi_attention_projected(
            *(projection.unflatten(-1, (2, -1, self.head_dim)) for projection in projections), self.backend
        )
        return self.latent_out(latents), self.token_out(tokens)


class CrossAttention(nn.Module):
    """Multi-head cross-attention: queries from the reader, keys and values from the source.

    ``inner_dim``: width of all heads together; None: ``reader_dim``.
    """

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
        projections = self.query_key_value(feats).unflatten(-1, (3, -1, self.head_dim)).unbind(-3)
        query, key, value = (projection.transpose(1, 2) for projection in projections)
        return self.out(scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
