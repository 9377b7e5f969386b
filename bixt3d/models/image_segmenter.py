"""Image segmenters (semantic segmentation): a linear head, and Semantic FPN."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from bixt3d.models.encoder import Encoder, check_fit
from bixt3d.models.features import FeatureModel, ModelFeatures
from bixt3d.nn.batch_norm import ImageBatchNorm
from bixt3d.tokenizers import ImageTokenizer
from bixt3d.types import InputError, Tokens


class ImageSegmenter(FeatureModel, ABC):
    """A model that labels every pixel with a class. Built as ``Model(num_classes, ...)``.

    ``stride``: the sides of images must be multiples of it.

    A plain `nn.Module` counts as a subclass if its ``forward(self, image)`` returns logits (B, C, X, Y); its stride is
    1, unless it has a ``stride``.
    """

    protocol = ("image",)
    stride: int

    @abstractmethod
    def forward(self, image: Float[Tensor, "B 3 X Y"]) -> Float[Tensor, "B C X Y"]:
        """Return the logits of every class for every pixel."""


def grid_feats(tokens: Tokens) -> Float[Tensor, "B D R C"]:
    """Return the features of patches as a feature map: D channels, R rows, C columns."""
    return tokens.feats.transpose(1, 2).unflatten(2, tokens.grid)


def upsample(feats: Float[Tensor, "B D R C"], size: Sequence[int | torch.SymInt]) -> Float[Tensor, "B D X Y"]:
    """Resize features by bilinear interpolation."""
    return interpolate(feats, size, mode="bilinear", align_corners=False)


class PatchSegmenter(ImageSegmenter):
    """Base class of image segmenters: tokenizer and encoder, checked to fit each other."""

    def __init__(self, tokenizer: ImageTokenizer, encoder: Encoder):
        super().__init__()
        check_fit(tokenizer, encoder)
        if encoder.reads == "latents":
            raise InputError(
                "an image segmenter reads tokens, but the last layer of this encoder updates latents only: take a "
                "BixtEncoder with reads: tokens"
            )
        self.stride = tokenizer.stride
        self.tokenizer, self.encoder = tokenizer, encoder

    def forward_features(self, image: Float[Tensor, "B 3 X Y"]) -> ModelFeatures:
        """Return latents, tokens (one for each patch) and their mean, of images."""
        latents, (*_, tokens) = self.encoder(self.tokenizer(image))
        return ModelFeatures(latents, tokens, tokens.feats.mean(1))


class LinearSegmenter(PatchSegmenter):
    """One linear layer on the tokens of the last layer, then bilinear upsampling ("linear predictor", table 3).

    Args:
        num_classes: number of classes; 0: `forward` returns features of every pixel (B, D, X, Y).
        tokenizer: turns images into tokens.
        encoder: refines tokens and latents; it must return tokens (``reads: tokens``).
        dropout: dropout rate before the linear layer.
    """

    def __init__(self, num_classes: int, tokenizer: ImageTokenizer, encoder: Encoder, dropout: float = 0.0):
        super().__init__(tokenizer, encoder)
        self.dropout = nn.Dropout(dropout)
        self.head = self.new_head(num_classes)

    def make_head(self, num_classes: int) -> nn.Module:
        return nn.Linear(self.encoder.token_dims[-1], num_classes)

    def forward(self, image: Float[Tensor, "B 3 X Y"]) -> Float[Tensor, "B C X Y"]:
        _, (*_, tokens) = self.encoder(self.tokenizer(image))
        logits = self.head(self.dropout(tokens.feats))
        return upsample(grid_feats(Tokens(logits, tokens.pos, grid=tokens.grid)), image.shape[-2:])


class SemanticFPNSegmenter(PatchSegmenter):
    """Semantic FPN (Kirillov et al. 2019) on the tokens of four layers, resized to a feature pyramid (table 3).

    The first is enlarged 4 times by two transposed convolutions, the second 2 times by one, the third stays, the
    fourth is halved by max pooling: strides 4, 8, 16 and 32 for patches with stride 16.

    Args:
        num_classes: number of classes; 0: `forward` returns features of every pixel (B, D, X, Y).
        tokenizer: turns images into tokens.
        encoder: it must return four levels of tokens of the same width: ``keep_layers`` names the first three.
        dim: width of the feature pyramid.
        head_dim: width of the head.
        dropout: dropout rate before the last layer.
    """

    def __init__(
        self,
        num_classes: int,
        tokenizer: ImageTokenizer,
        encoder: Encoder,
        dim: int = 256,
        head_dim: int = 128,
        dropout: float = 0.1,
    ):
        super().__init__(tokenizer, encoder)
        if len(encoder.level_dims) != 4:
            raise InputError(
                f"Semantic FPN reads the tokens of four layers, but this encoder returns {len(encoder.level_dims)}: "
                "name three in its keep_layers, such as [4, 6, 8] of 12"
            )
        widths = encoder.level_dims
        self.resize = nn.ModuleList(
            [
                nn.Sequential(_enlarge(widths[0]), ImageBatchNorm(widths[0]), nn.GELU(), _enlarge(widths[0])),
                _enlarge(widths[1]),
                nn.Identity(),
                nn.MaxPool2d(2),
            ]
        )
        self.lateral = nn.ModuleList(nn.Conv2d(width, dim, 1) for width in widths)
        self.smooth = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1) for _ in widths)
        self.scales = nn.ModuleList(
            nn.ModuleList(_conv_norm(dim if i == 0 else head_dim, head_dim) for i in range(max(1, level)))
            for level in range(4)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.head_dim = head_dim
        self.head = self.new_head(num_classes)

    def make_head(self, num_classes: int) -> nn.Module:
        return nn.Conv2d(self.head_dim, num_classes, 1)

    def forward(self, image: Float[Tensor, "B 3 X Y"]) -> Float[Tensor, "B C X Y"]:
        _, levels = self.encoder(self.tokenizer(image))
        feats = [resize(grid_feats(level)) for resize, level in zip(self.resize, levels, strict=True)]
        feats = [lateral(level) for lateral, level in zip(self.lateral, feats, strict=True)]
        for i in (2, 1, 0):
            feats[i] = feats[i] + interpolate(feats[i + 1], feats[i].shape[-2:], mode="nearest")
        feats = [smooth(level) for smooth, level in zip(self.smooth, feats, strict=True)]
        total = sum(self._to_finest(i, level, feats[0]) for i, level in enumerate(feats))
        return upsample(self.head(self.dropout(total)), image.shape[-2:])

    def _to_finest(self, level: int, feats: Tensor, finest: Tensor) -> Tensor:
        """Return a level at the size of the finest one: convolutions, each followed by 2x upsampling."""
        for i, conv in enumerate(self.scales[level]):
            feats = conv(feats)
            if level:
                last = i == len(self.scales[level]) - 1
                size = finest.shape[-2:] if last else (2 * feats.shape[-2], 2 * feats.shape[-1])
                feats = upsample(feats, size)
        return feats


def _enlarge(dim: int) -> nn.Module:
    return nn.ConvTranspose2d(dim, dim, 2, 2)


def _conv_norm(dim: int, out_dim: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(dim, out_dim, 3, padding=1, bias=False), ImageBatchNorm(out_dim), nn.ReLU(inplace=True)
    )
