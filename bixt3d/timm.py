"""Register the image classifiers with timm: after ``import bixt3d.timm``, timm.create_model builds them by name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from timm.layers import to_2tuple
from timm.models import adapt_input_conv, generate_default_cfgs, register_model, resolve_pretrained_cfg
from timm.models._features import FeatureGetterNet, feature_take_indices
from torch import Tensor, nn

from bixt3d.models.encoder import BixtEncoder, EncoderLayer
from bixt3d.models.image_preset_table import PRESETS
from bixt3d.models.image_presets import BixtPreset
from bixt3d.models.image_segmenter import grid_feats
from bixt3d.models.official import load_official_weights
from bixt3d.models.released import fetch_released
from bixt3d.nn.blocks import FeedForwardUnit
from bixt3d.types import InputError

NAMES = [name for name, preset in PRESETS.items() if preset.head == "classes"]

default_cfgs = generate_default_cfgs(
    {
        name: {
            "url": "",  # the released files are zips, which timm does not unpack: see fetch_released
            "input_size": (3, PRESETS[name].size, PRESETS[name].size),
            "interpolation": "bicubic",
            "crop_pct": 0.875,
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "num_classes": 1000,
            "first_conv": "tokenizer.project.0.0" if PRESETS[name].tokenizer == "conv" else "tokenizer.project",
            "classifier": "head",
            "license": "apache-2.0",
        }
        for name in NAMES
    }
)
"""Preprocessing and metadata of each model; timm's register_model reads it."""


class TimmBixt(BixtPreset):
    """An image preset with the attributes and methods that timm expects of a model.

    Args:
        num_classes: number of classes; 0: the model returns features, the normalized mean of the latents.
        name: name of the preset.
        drop_rate: dropout rate before the last linear layer.
        drop_path_rate: stochastic depth rate of both attentions of the last layer; linear from 0 at the first one.
        img_size: side of the images, or rows and columns, in pixels; None: that of the preset. Positional encodings are
            computed for any size; the size is checked and passed to timm's transforms.
        in_chans: number of image channels. Released weights are for 3: their sum is used for 1 channel, and they are
            repeated and scaled for other numbers, as timm does.
        global_pool: pooling of the latents: avg.
    """

    def __init__(  # noqa: PLR0913 (timm's settings)
        self,
        num_classes: int,
        name: str,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        *,
        img_size: int | tuple[int, int] | None = None,
        in_chans: int = 3,
        global_pool: str = "avg",
    ):
        if global_pool != "avg":
            raise InputError(f"{name} pools by avg, not {global_pool}")
        super().__init__(num_classes, name, drop_path_rate, drop_path_rate)
        self.num_features = self.head_hidden_size = self.embed_dim = self.encoder.dim
        self.dropout.p, self.in_chans = drop_rate, 3
        self.img_size = to_2tuple(img_size or PRESETS[name].size)
        if any(side < 1 or side % self.tokenizer.stride for side in self.img_size):
            raise InputError(f"img_size of {name} must be multiples of {self.tokenizer.stride}, not {self.img_size}")
        self.feature_info = [
            {"num_chs": width, "reduction": self.tokenizer.stride, "module": f"encoder.layers.{i}"}
            for i, width in enumerate(self.encoder.token_dims[:-1])  # the last layer leaves the tokens as they are
        ]
        self.take_channels(in_chans)

    def take_channels(self, in_chans: int) -> None:
        """Change the number of input channels of the first convolution; timm adapts its weights."""
        if in_chans < 1:
            raise InputError(f"an image has at least 1 channel, not {in_chans}")
        old = self.first_conv
        if in_chans != old.in_channels:
            with torch.no_grad():
                weight = adapt_input_conv(in_chans, old.weight, old.in_channels)
            old.weight, old.in_channels, self.in_chans = nn.Parameter(weight.clone()), in_chans, in_chans

    @property
    def first_conv(self) -> nn.Conv2d:
        """The convolution that reads the image."""
        return next(module for module in self.tokenizer.modules() if isinstance(module, nn.Conv2d))

    def get_classifier(self) -> nn.Module:
        """Return the head."""
        return super().get_classifier()

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head by a new one, initialized to zero; 0 classes: no head."""
        if global_pool not in (None, "avg"):
            raise InputError(f"latents are pooled by avg, not {global_pool}")
        super().reset_classifier(num_classes)

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters without weight decay (timm adds biases and norms itself)."""
        return {"encoder.latents"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Set activation checkpointing: training stores only the input of every layer and recomputes the rest."""
        for module in self.modules():
            if isinstance(module, EncoderLayer | FeedForwardUnit):
                module.checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's grouping of parameters for layer-wise learning rate decay: stem, then layers."""
        return {
            "stem": r"^tokenizer|^encoder\.latents",
            "blocks": [(r"^encoder\.layers\.(\d+)", None), (r"^norm", (99999,))],
        }

    def forward(self, image: Float[Tensor, "B I X Y"]) -> Float[Tensor, "B C"]:
        return self.forward_head(self.forward_features(image))

    def forward_features(self, image: Float[Tensor, "B I X Y"]) -> Float[Tensor, "B L D"]:
        """Return the latents of the last layer as a tensor, as timm's models do."""
        return super().forward_features(image).latents

    def forward_intermediates(
        self,
        image: Float[Tensor, "B I X Y"],
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return latents (B, L, D) and the tokens of some layers: (B, D, R, C), or (B, T, D) for ``NLC``.

        ``indices``: layers, counted from 0, or negative from the end of the layers that update tokens (all but the
        last); a number n: the last n of these; None: all of these. ``intermediates_only``: return no latents.
        ``stop_early``: skip the layers after the last of ``indices``; the latents are those of that layer. Raises
        InputError for ``norm`` (tokens have none), another format, and an encoder that does not update tokens.
        """
        if norm or output_fmt not in ("NCHW", "NLC") or not isinstance(self.encoder, BixtEncoder):
            raise InputError(
                f"{type(self.encoder).__name__} gives tokens without norm, in NCHW or NLC, if it updates them"
            )
        layers = self.encoder.layers
        taken, last = feature_take_indices(len(self.feature_info), indices)
        latents, (tokens,), found = self.encoder.latents, self.tokenizer(image), []
        for i, layer in enumerate(layers[: last + 1] if stop_early else layers):
            latents, kept, tokens = layer(latents, tokens)
            if i in taken:
                found.append(kept.feats if output_fmt == "NLC" else grid_feats(kept))
        return found if intermediates_only else (latents, found)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the modules that `forward_intermediates` of these layers does not need; return the layers' indices."""
        taken, last = feature_take_indices(len(self.feature_info), indices)
        self.encoder.layers = self.encoder.layers[: last + 1]
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0)
        return taken

    def forward_head(self, latents: Float[Tensor, "B L D"], pre_logits: bool = False) -> Float[Tensor, "B C"]:
        """Return the logits, or with ``pre_logits`` the input of the last layer."""
        feats = self.dropout(self.norm(latents.mean(1)))
        return feats if pre_logits else self.head(feats)


def _entry_point(name: str) -> Callable[..., TimmBixt]:
    def make(
        pretrained: bool = False,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: dict[str, Any] | None = None,
        cache_dir: Any = None,
        num_classes: int | None = None,
        *,
        in_chans: int = 3,
        features_only: bool = False,
        out_indices: int | Sequence[int] | None = None,
        **settings: Any,
    ) -> TimmBixt | FeatureGetterNet:
        cfg = resolve_pretrained_cfg(name, pretrained_cfg, pretrained_cfg_overlay).to_dict()
        model = TimmBixt(cfg["num_classes"] if num_classes is None else num_classes, name, **settings)
        if pretrained:
            path = cfg.get("file") or fetch_released(name, Path(cache_dir) if cache_dir else None)
            load_official_weights(path, model, new_head=model.num_classes != cfg["num_classes"])
        model.take_channels(in_chans)
        cfg["input_size"] = (in_chans, *model.img_size)
        model.pretrained_cfg = model.default_cfg = cfg
        if not features_only:
            return model
        net = FeatureGetterNet(model, min(4, len(model.feature_info)) if out_indices is None else out_indices)
        net.pretrained_cfg = net.default_cfg = cfg
        return net

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"""Build {name}; see TimmBixt. ``features_only``: it returns a list of feature maps (B, D, R, C).

    ``out_indices``: their layers, see forward_intermediates; by default the last four that update tokens.
    """
    return make


for _name in NAMES:
    globals()[_name] = register_model(_entry_point(_name))
