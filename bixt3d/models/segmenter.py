"""Part segmenters: with one token for each point, and with a decoder."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn

from bixt3d.errors import check_tensors
from bixt3d.models.decoder import PointMLPDecoder
from bixt3d.models.encoder import Encoder, check_fit
from bixt3d.models.features import FeatureModel, ModelFeatures, zero_linear
from bixt3d.tokenizers import Tokenizer
from bixt3d.types import Features, InputError, Tokens

MakeDecoder = Callable[[int, int, Sequence[int]], PointMLPDecoder]
"""Builds a decoder from the number of parts, the number of categories, and the widths of the levels."""


class CloudSegmenter(FeatureModel, ABC):
    """A model that labels every point with a part. Built as ``Model(num_parts, num_categories, ...)``.

    ``reads_category``: whether it reads the category of each cloud; if not, ``category`` is ignored.
    ``features``: the point features that it reads besides the coordinates, in the order of the columns of ``feats``.

    A plain `nn.Module` counts as a subclass if its ``forward(self, xyz, feats=None, category=None)`` returns logits
    (B, N, C). It reads no features, unless it names them in its ``features``, and it reads the category, unless its
    ``reads_category`` is False.
    """

    protocol = ("xyz", "feats", "category")
    reads_category: bool
    features: Features = Features()

    @abstractmethod
    def forward(
        self, xyz: Tensor, feats: Tensor | None = None, category: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B N C"]:
        """Return the logits of every part, of all categories, for every point of clouds ``xyz`` (B, N, 3).

        Raises InputError for other shapes, for ``feats`` (B, N, F) that are not the features that the model reads, and
        where a category is needed but not given.
        """

    def check(self, xyz: Tensor, feats: Tensor | None, category: Tensor | None) -> Tensor:
        """Return the checked ``feats``; raises InputError as `forward` does."""
        if category is not None:
            check_tensors(category=category)
        if self.reads_category and (category is None or category.shape != xyz.shape[:1]):
            raise InputError("this model needs the category of each cloud, as indices of shape (B,)")
        return self.features.check(xyz, feats)


def _check_fit(tokenizer: Tokenizer, encoder: Encoder) -> None:
    check_fit(tokenizer, encoder)
    if encoder.reads == "latents":
        raise InputError(
            "a part segmenter reads tokens, but the last layer of this encoder updates latents only: take a "
            "BixtEncoder with reads: tokens"
        )


class TokenSegmenter(CloudSegmenter):
    """BiXT part segmenter with one token for each point and a linear head on tokens ("naive", section 3.4).

    The paper does not say how this model reads the category: here an embedding of it, initialized to zero, is added to
    the tokens.

    Args:
        num_parts: number of parts, over all categories; 0: `forward` returns features of every point (B, N, D).
        num_categories: number of categories.
        tokenizer: turns clouds into tokens, one for each point.
        encoder: refines tokens and latents; it must return tokens (``reads: tokens`` or ``both``).
        use_category: whether the model reads the category of each cloud.
        dropout: dropout rate before the linear layer.

    Example:
        >>> encoder = BixtEncoder(dim=32, depth=2, num_heads=2, num_latents=8, reads="tokens")
        >>> model = TokenSegmenter(50, 16, PointTokenizer(dim=32), encoder)
        >>> model(torch.rand(2, 128, 3), category=torch.tensor([0, 3])).shape
        torch.Size([2, 128, 50])
    """

    def __init__(
        self,
        num_parts: int,
        num_categories: int,
        tokenizer: Tokenizer,
        encoder: Encoder,
        use_category: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__()
        _check_fit(tokenizer, encoder)
        self.reads_category, self.features = use_category, tokenizer.features
        self.tokenizer, self.encoder = tokenizer, encoder
        if use_category:
            self.category = nn.Embedding(num_categories, tokenizer.dim)
            nn.init.zeros_(self.category.weight)
        self.norm = nn.LayerNorm(encoder.token_dims[-1], eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        self.head = self.new_head(num_parts)

    def make_head(self, num_classes: int) -> nn.Module:
        return zero_linear(self.encoder.token_dims[-1], num_classes)

    def forward(
        self, xyz: Tensor, feats: Tensor | None = None, category: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B N C"]:
        _, tokens = self._encode(xyz, feats, category)
        if tokens.feats.shape[1] != xyz.shape[1]:
            raise InputError(
                f"{tokens.feats.shape[1]} tokens cannot label {xyz.shape[1]} points: this model takes a tokenizer and "
                "refinements that keep every point, a DecoderSegmenter takes any"
            )
        return self.head(self.dropout(self.norm(tokens.feats)))

    def forward_features(
        self, xyz: Tensor, feats: Tensor | None = None, category: Int[Tensor, " B"] | None = None
    ) -> ModelFeatures:
        """Return latents, tokens (one for each point) and their mean, of clouds ``xyz`` (B, N, 3) with ``feats``."""
        latents, tokens = self._encode(xyz, feats, category)
        return ModelFeatures(latents, tokens, tokens.feats.mean(1))

    def _encode(self, xyz: Tensor, feats: Tensor | None, category: Tensor | None) -> tuple[Tensor, Tokens]:
        *_, tokens = self.tokenizer(xyz, self.check(xyz, feats, category))
        if self.reads_category:
            tokens = Tokens(tokens.feats + self.category(category)[:, None], tokens.pos, tokens.neighbor_index)
        latents, (*_, tokens) = self.encoder((tokens,))
        return latents, tokens


class DecoderSegmenter(CloudSegmenter):
    """BiXT part segmenter with fewer tokens in each layer and PointMLP's decoder ("EncDec", section 3.4).

    Args:
        num_parts: number of parts, over all categories; 0: `forward` returns features of every point (B, N, D).
        num_categories: number of categories.
        tokenizer: turns clouds into tokens; its first level must contain every point.
        encoder: refines tokens and latents; it must return tokens (``reads: tokens`` or ``both``).
        decoder: labels the points from all levels.
    """

    head_name = "decoder.head.3"

    def __init__(
        self, num_parts: int, num_categories: int, tokenizer: Tokenizer, encoder: Encoder, decoder: MakeDecoder
    ):
        super().__init__()
        _check_fit(tokenizer, encoder)
        self.num_classes = num_parts
        self.tokenizer, self.encoder = tokenizer, encoder
        self.decoder = decoder(num_parts, num_categories, [*tokenizer.level_dims[:-1], *encoder.level_dims])
        self.reads_category, self.features = self.decoder.reads_category, tokenizer.features

    def forward(
        self, xyz: Tensor, feats: Tensor | None = None, category: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B N C"]:
        _, pyramid = self.encoder(self.tokenizer(xyz, self.check(xyz, feats, category)))
        return self.decoder(pyramid, category)

    def make_head(self, num_classes: int) -> nn.Module:
        return self.decoder.make_head(num_classes)

    def forward_features(
        self, xyz: Tensor, feats: Tensor | None = None, category: Int[Tensor, " B"] | None = None
    ) -> ModelFeatures:
        """Return latents, tokens of the coarsest level and their mean, of clouds ``xyz`` (B, N, 3) with ``feats``.

        ``category`` is ignored: only the decoder reads it.
        """
        latents, (*_, tokens) = self.encoder(self.tokenizer(xyz, self.features.check(xyz, feats)))
        return ModelFeatures(latents, tokens, tokens.feats.mean(1))
