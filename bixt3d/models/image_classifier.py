"""Image classifiers: the tokens are patches, the encoder is the same as for clouds."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from bixt3d.models.classifier import LatentHead
from bixt3d.models.encoder import Encoder, check_fit
from bixt3d.models.features import FeatureModel, ModelFeatures
from bixt3d.tokenizers import ImageTokenizer


class ImageClassifier(FeatureModel, ABC):
    """A model that classifies images. Built as ``Model(num_classes, ...)``.

    A plain `nn.Module` counts as a subclass if its ``forward(self, image)`` returns logits (B, C).
    """

    protocol = ("image",)

    @abstractmethod
    def forward(self, image: Float[Tensor, "B I X Y"]) -> Float[Tensor, "B C"]:
        """Return the logits of every class."""


class BixtImageClassifier(LatentHead, ImageClassifier):
    """BiXT classifier of images: patches and latents refine each other, a head reads the mean of the latents.

    Args:
        num_classes: number of classes; 0: `forward` returns the pooled features (B, D).
        tokenizer: turns images into tokens.
        encoder: refines tokens and latents.
        dropout: dropout rate before the last linear layer.

    Example:
        >>> encoder = BixtEncoder(dim=32, depth=2, num_heads=2, num_latents=8)
        >>> model = BixtImageClassifier(10, PatchTokenizer(dim=32, kernel=8), encoder)
        >>> model(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, num_classes: int, tokenizer: ImageTokenizer, encoder: Encoder, dropout: float = 0.0):
        check_fit(tokenizer, encoder)
        super().__init__(num_classes, tokenizer, encoder, dropout)

    def forward(self, image: Float[Tensor, "B I X Y"]) -> Float[Tensor, "B C"]:
        return self.classify(self.forward_features(image))

    def forward_features(self, image: Float[Tensor, "B I X Y"]) -> ModelFeatures:
        """Return latents, tokens (one for each patch) and pooled features of images."""
        return self.encode(self.tokenizer(image))
