"""The paper's second baseline: Perceiver-like iterative attention, which never updates tokens (section 3.2)."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from bixt3d.models.encoder import Encoder, make_latents, stochastic_depth_rates
from bixt3d.nn.blocks import LatentsReadBlock, SelfBlock
from bixt3d.types import InputError, Pyramid


class IterativeEncoder(Encoder):
    """Perceiver-like encoder: ``depth`` times a cross-attention, then ``num_self`` self-attentions (``saX-dY``).

    Args:
        dim: width of latents and tokens.
        depth: number of cross-attentions, in which latents read tokens.
        num_self: number of latent self-attention blocks after each cross-attention.
        num_heads: number of attention heads.
        num_latents: number of latents (learned vectors).
        share: which cross-attentions share weights: none, all or all_but_first (self-attention never shares).
        token_dim: width of the tokens; None: ``dim``.
        drop_path_cross: stochastic depth rate of the last cross-attention; linear from 0 at the first one.
            A shared block keeps the rate of its first use.
        drop_path_self: the same for self-attention.
    """

    reads = "latents"

    def __init__(  # noqa: PLR0913 (a constructor is the schema of its settings)
        self,
        dim: int = 192,
        depth: int = 8,
        num_self: int = 5,
        num_heads: int = 3,
        num_latents: int = 64,
        *,
        share: Literal["none", "all", "all_but_first"] = "all",
        token_dim: int | None = None,
        drop_path_cross: float = 0.0,
        drop_path_self: float = 0.0,
    ):
        super().__init__()
        self.dim, self.token_dims, self.level_dims = dim, [token_dim or dim] * depth, [token_dim or dim]
        num_cross = {"none": depth, "all": 1, "all_but_first": min(2, depth)}.get(share)
        if num_cross is None:
            raise InputError(f"unknown share '{share}': choose none, all or all_but_first")
        self.latents = make_latents(num_latents, dim)
        cross_rates, self_rates = (
            stochastic_depth_rates(drop_path_cross, depth),
            stochastic_depth_rates(drop_path_self, depth * num_self),
        )
        self.cross = nn.ModuleList(
            LatentsReadBlock(dim, token_dim or dim, num_heads, rate) for rate in cross_rates[:num_cross]
        )
        self.selves = nn.ModuleList(
            nn.Sequential(*[SelfBlock(dim, num_heads, self_rates[i * num_self + j]) for j in range(num_self)])
            for i in range(depth)
        )

    def forward(self, pyramid: Pyramid) -> tuple[Float[Tensor, "#B L D"], Pyramid]:
        latents = self.latents
        for i, selves in enumerate(self.selves):
            cross = self.cross[min(i, len(self.cross) - 1)]
            latents = selves(cross(latents, pyramid[-1].feats)[0])
        return latents, pyramid
