"""What every model offers beside its logits: features before the head, and a head that can be replaced."""

import inspect
from typing import Any, ClassVar, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from bixt3d.types import InputError, Tokens


class ModelFeatures(NamedTuple):
    """What a model knows before its head.

    ``latents`` (B, L, D): after the last layer; None of a model without latents, such as PointMLP.
    ``tokens``: those of the last layer and level, ``tokens.feats`` (B, T, D) at ``tokens.pos`` (B, T, P); of images
    ``tokens.grid`` says how many rows and columns they are.
    ``pooled`` (B, D): one vector for each cloud or image. Of a classifier that is what its head reads; of a segmenter,
    the mean of its tokens.
    """

    latents: Float[Tensor, "B L D"] | None
    tokens: Tokens
    pooled: Float[Tensor, "B D"]


class FeatureModel(nn.Module):
    """A model whose features can be had, and whose head can be replaced.

    ``head_name``: the path of the module that `reset_classifier` replaces; ``num_classes``: its outputs (of a part
    segmenter: the parts of all categories).

    A model for 0 classes has `nn.Identity` as its head: ``forward`` returns what the head would read. That is one
    vector for each cloud or image (B, D) of classifiers, for each point (B, N, D) of part segmenters, and for each
    pixel (B, D, X, Y) of image segmenters.
    """

    head_name: str = "head"
    num_classes: int
    protocol: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        """Let a plain nn.Module count as the abstract class whose ``protocol`` its forward follows."""
        names = vars(cls).get("protocol")  # of this very class, not of one that it is derived from
        plain = issubclass(other, nn.Module) and not issubclass(other, FeatureModel)
        return True if names and plain and _takes(other.forward, names) else NotImplemented

    def forward_features(self, *inputs: Any) -> ModelFeatures:
        """Return the features of what `forward` takes, without the head.

        Raises InputError as `forward` does, and for a model class that does not define it.
        """
        raise InputError(f"{type(self).__name__} gives no features: its class would have to define forward_features")

    def make_head(self, num_classes: int) -> nn.Module:
        """Return a new head for so many classes, at least 1, with the weights that training starts with."""
        raise InputError(f"{type(self).__name__} has a fixed head: its class would have to define make_head")

    def new_head(self, num_classes: int) -> nn.Module:
        """Return a new head, `nn.Identity` for 0 classes. Raises InputError for a negative number."""
        if num_classes < 0:
            raise InputError(f"a model has at least 0 classes, not {num_classes}")
        self.num_classes = num_classes
        return self.make_head(num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the head."""
        return self.get_submodule(self.head_name)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a new one, where the model lies; 0 classes: the model returns features."""
        like = next(self.parameters())
        owner, _, name = self.head_name.rpartition(".")
        head = self.new_head(num_classes).to(like.device, like.dtype).train(self.training)
        setattr(self.get_submodule(owner), name, head)


def _takes(forward: Any, names: tuple[str, ...]) -> bool:
    """Say whether a function takes self and these arguments by name and place, and needs no other."""
    given = list(inspect.signature(forward).parameters.values())[1:]
    more = [one for one in given[len(names) :] if one.default is one.empty or one.name == "category"]
    return [one.name for one in given[: len(names)]] == list(names) and not more


def zero_linear(dim: int, num_classes: int) -> nn.Linear:
    """Return a linear layer that is zero: at first all classes are equally likely."""
    linear = nn.Linear(dim, num_classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def head_input(model: FeatureModel, *given: Tensor) -> Float[Tensor, "..."]:
    """Return what the head of a model reads of some inputs: (B, D), or of each point (B, N, D)."""
    seen: list[Tensor] = []
    hook = model.get_classifier().register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        model(*given)
    finally:
        hook.remove()
    return seen[0]
