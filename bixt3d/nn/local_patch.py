"""Local patch interaction (LPI): depthwise convolutions on the grid of image tokens (paper, appendix B.4)."""

from dataclasses import replace

from torch import nn

from bixt3d.nn.refinement import Refinement
from bixt3d.types import InputError, Tokens


class LocalPatchRefinement(Refinement):
    """Add to image tokens: depthwise convolution, GELU, layer normalization, depthwise convolution.

    As in XCiT (El-Nouby et al. 2021), with layer instead of batch normalization.

    Args:
        dim: width of the tokens.
        out_dim: width of the refined tokens; must equal ``dim``.
        kernel: size of the convolutions, in patches; odd.
    """

    def __init__(self, dim: int, out_dim: int, kernel: int = 3):
        super().__init__()
        if dim != out_dim:
            raise InputError(f"local patch interaction keeps the width of its tokens, {dim}: it cannot make {out_dim}")
        if kernel % 2 == 0:
            raise InputError(f"local patch interaction needs an odd kernel, not {kernel}")
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.spread = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.activation = nn.GELU()
        self.inner_norm = nn.LayerNorm(dim, eps=1e-6)
        self.gather = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)

    def forward(self, tokens: Tokens) -> Tokens:
        if tokens.grid is None:
            raise InputError("local patch interaction works on patches of images, not on points")
        feats = self.norm(tokens.feats).unflatten(1, tokens.grid).permute(0, 3, 1, 2)
        feats = self.activation(self.spread(feats)).permute(0, 2, 3, 1)
        feats = self.gather(self.inner_norm(feats).permute(0, 3, 1, 2))
        return replace(tokens, feats=tokens.feats + feats.flatten(2).transpose(1, 2))
