"""Point cloud classifiers: tokenizer, encoder and classification head."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from bixt3d.models.encoder import Encoder, check_fit
from bixt3d.models.features import FeatureModel, ModelFeatures, zero_linear
from bixt3d.tokenizers import Tokenizer
from bixt3d.types import Features, Pyramid


class CloudClassifier(FeatureModel, ABC):
    """A model that classifies clouds. Built as ``Model(num_classes, ...)``.

    ``features``: the point features that it reads besides the coordinates, in the order of the columns of ``feats``.

    A plain `nn.Module` counts as a subclass if its ``forward(self, xyz, feats=None)`` returns logits (B, C). It reads
    no features, unless it names them in its ``features``, as in ``features = "normal,rgb"``.
    """

    protocol = ("xyz", "feats")
    features: Features = Features()

    @abstractmethod
    def forward(self, xyz: Tensor, feats: Tensor | None = None) -> Float[Tensor, "B C"]:
        """Return the logits of every class for clouds ``xyz`` (B, N, 3) and their ``feats`` (B, N, F).

        Raises InputError for other shapes, and for feats that are not the features that the model reads.
        """


class LatentHead(FeatureModel):
    """Tokenizer, encoder, and a head on the mean of the latents: base class of cloud and image classifiers."""

    def __init__(self, num_classes: int, tokenizer: nn.Module, encoder: Encoder, dropout: float):
        super().__init__()
        self.tokenizer, self.encoder = tokenizer, encoder
        self.norm = nn.LayerNorm(encoder.dim, eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        self.head = self.new_head(num_classes)

    def make_head(self, num_classes: int) -> nn.Module:
        return zero_linear(self.encoder.dim, num_classes)

    def encode(self, pyramid: Pyramid) -> ModelFeatures:
        """Return the features of tokenized clouds or images; ``pooled``: their normalized mean latent."""
        latents, (*_, tokens) = self.encoder(pyramid)
        return ModelFeatures(latents, tokens, self.norm(latents.mean(1)))

    def classify(self, features: ModelFeatures) -> Float[Tensor, "B C"]:
        """Return the logits of the pooled features."""
        return self.head(self.dropout(features.pooled))


class BixtClassifier(LatentHead, CloudClassifier):
    """BiXT classifier: tokens and latents refine each other, a head reads the mean of the latents (section 2.3).

    Args:
        num_classes: number of classes; 0: `forward` returns the pooled features (B, D).
        tokenizer: turns clouds into tokens.
        encoder: refines tokens and latents.
        dropout: dropout rate before the last linear layer.

    Example:
        >>> encoder = BixtEncoder(dim=32, depth=2, num_heads=2, num_latents=8)
        >>> model = BixtClassifier(40, PointTokenizer(dim=32), encoder)
        >>> model(torch.rand(2, 128, 3)).shape
        torch.Size([2, 40])
    """

    def __init__(self, num_classes: int, tokenizer: Tokenizer, encoder: Encoder, dropout: float = 0.0):
        check_fit(tokenizer, encoder)
        super().__init__(num_classes, tokenizer, encoder, dropout)
        self.features = tokenizer.features

    def forward(self, xyz: Tensor, feats: Tensor | None = None) -> Float[Tensor, "B C"]:
        return self.classify(self.forward_features(xyz, feats))

    def forward_features(self, xyz: Tensor, feats: Tensor | None = None) -> ModelFeatures:
        """Return latents, tokens and pooled features of clouds ``xyz`` (B, N, 3) with ``feats`` (B, N, F)."""
        return self.encode(self.tokenizer(xyz, self.features.check(xyz, feats)))
