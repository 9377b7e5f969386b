"""Whole classifiers of clouds: tokenizer, encoder, head."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from bixt3d.models.encoder import Encoder, check_fit
from bixt3d.tokenizers import Tokenizer


class CloudClassifier(nn.Module, ABC):
    """A model that says what a cloud is. Built as ``Model(num_classes, ...)``."""

    @abstractmethod
    def forward(self, xyz: Float[Tensor, "B N 3"], feats: Float[Tensor, "B N F"]) -> Float[Tensor, "B C"]:
        """Return the logits of every class."""


class BixtClassifier(CloudClassifier):
    """Tokens and latents refine each other; the mean of the latents says the class (paper, section 2.3).

    Args:
        num_classes: number of classes.
        tokenizer: how a cloud becomes tokens.
        encoder: how tokens and latents refine each other.
        dropout: dropout rate before the last linear layer.
    """

    def __init__(self, num_classes: int, tokenizer: Tokenizer, encoder: Encoder, dropout: float = 0.0):
        super().__init__()
        check_fit(tokenizer, encoder)
        self.tokenizer, self.encoder = tokenizer, encoder
        self.norm = nn.LayerNorm(encoder.dim, eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.dim, num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, xyz: Float[Tensor, "B N 3"], feats: Float[Tensor, "B N F"]) -> Float[Tensor, "B C"]:
        latents, _ = self.encoder(self.tokenizer(xyz, feats))
        return self.head(self.dropout(self.norm(latents.mean(1))))
