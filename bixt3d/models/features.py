"""Base class of all models: features before the head (`forward_features`), and a replaceable head."""

import inspect
from typing import Any, ClassVar, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from bixt3d.errors import check_whole
from bixt3d.models.sharing import SharedModel
from bixt3d.types import InputError, Tokens


class ModelFeatures(NamedTuple):
    """The features of a model before its head.

    ``latents`` (B, L, D): latents after the last layer; None for a model without latents, such as PointMLP.
    ``tokens``: tokens of the last layer and coarsest level: ``tokens.feats`` (B, T, D), positions ``tokens.pos``
    (B, T, P), and for images ``tokens.grid``, the number of rows and columns.
    ``pooled`` (B, D): one vector for each cloud or image: the input of a classifier's head, or the mean of a
    segmenter's tokens.
    """

    latents: Float[Tensor, "B L D"] | None
    tokens: Tokens
    pooled: Float[Tensor, "B D"]


class FeatureModel(SharedModel):
    """Base class of models: `forward_features` returns features, `reset_classifier` replaces the head.

    `SharedModel` loads, saves and shares its weights. ``head_name``: path of the module that `reset_classifier`
    replaces; ``num_classes``: number of its outputs (for a part segmenter, the parts of all categories).

    With 0 classes the head is `nn.Identity`, and ``forward`` returns the features that a head would read: (B, D) for
    classifiers, (B, N, D), one vector for each point, for part segmenters, and (B, D, X, Y) for image segmenters.
    """

    head_name: str = "head"
    num_classes: int
    protocol: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        """Let a plain nn.Module count as a subclass if its forward has the arguments of ``protocol``."""
        names = vars(cls).get("protocol")  # of this class, not inherited
        plain = issubclass(other, nn.Module) and not issubclass(other, FeatureModel)
        return True if names and plain and _takes(other.forward, names) else NotImplemented

    def forward_features(self, *inputs: Any) -> ModelFeatures:
        """Return the features before the head; takes the inputs of `forward`.

        Raises InputError as `forward` does, and for a model class that does not define this method.
        """
        raise InputError(f"{type(self).__name__} gives no features: its class must define forward_features")

    def make_head(self, num_classes: int) -> nn.Module:
        """Return a new head for ``num_classes`` (at least 1), initialized for training."""
        raise InputError(f"{type(self).__name__} has a fixed head: its class must define make_head")

    def new_head(self, num_classes: int) -> nn.Module:
        """Return a new head, `nn.Identity` for 0 classes. Raises InputError for a negative number."""
        check_whole(num_classes=num_classes)
        if num_classes < 0:
            raise InputError(f"a model has at least 0 classes, not {num_classes}")
        self.num_classes = num_classes
        return self.make_head(num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the head."""
        return self.get_submodule(self.head_name)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a new one, on the device of the model; 0 classes: the model returns features."""
        like = next(self.parameters())
        owner, _, name = self.head_name.rpartition(".")
        head = self.new_head(num_classes).to(like.device, like.dtype).train(self.training)
        setattr(self.get_submodule(owner), name, head)


def _takes(forward: Any, names: tuple[str, ...]) -> bool:
    """Return whether a method takes these arguments, in this order, and requires no other."""
    given = list(inspect.signature(forward).parameters.values())[1:]
    more = [one for one in given[len(names) :] if one.default is one.empty or one.name == "category"]
    return [one.name for one in given[: len(names)]] == list(names) and not more


def zero_linear(dim: int, num_classes: int) -> nn.Linear:
    """Return a linear layer initialized to zero, so that all classes are equally likely at first."""
    linear = nn.Linear(dim, num_classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def head_input(model: FeatureModel, *inputs: Tensor) -> Float[Tensor, "..."]:
    """Return the features that the head of a model reads: (B, D), or (B, N, D) for part segmenters."""
    recorded: list[Tensor] = []
    hook = model.get_classifier().register_forward_pre_hook(lambda _, args: recorded.append(args[0]))
    try:
        model(*inputs)
    finally:
        hook.remove()
    return recorded[0]
