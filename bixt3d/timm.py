"""Registers our image classifiers with timm: after ``import bixt3d.timm``, timm.create_model knows them by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxtyping import Float
from timm.models import generate_default_cfgs, register_model, resolve_pretrained_cfg
from torch import Tensor, nn

from bixt3d.models.image_preset_table import PRESETS
from bixt3d.models.image_presets import BixtPreset
from bixt3d.models.official import load_official_weights
from bixt3d.models.released import fetch_released
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
"""Read by timm's register_model: how images are prepared for a model."""


class TimmBixt(BixtPreset):
    """A preset with the attributes and methods that timm's programs expect of a model.

    Args:
        num_classes: number of classes; 0: the model returns features, the normalized mean of the latents.
        name: name of the preset.
        drop_rate: dropout rate before the last linear layer.
        drop_path_rate: stochastic depth rate of both attentions of the last layer.
        in_chans: channels of an image: 3.
        global_pool: how latents become one vector: avg.
    """

    def __init__(
        self,
        num_classes: int,
        name: str,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        in_chans: int = 3,
        global_pool: str = "avg",
    ):
        if in_chans != 3 or global_pool != "avg":
            raise InputError(f"{name} reads 3 channels and pools by avg, not {in_chans} and {global_pool}")
        super().__init__(num_classes or 1, name, drop_path_rate, drop_path_rate)
        self.num_features = self.head_hidden_size = self.embed_dim = self.encoder.dim
        self.dropout.p = drop_rate
        self.num_classes = num_classes
        if not num_classes:
            self.head = nn.Identity()

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head by a new one, zero as at the start of training."""
        self.num_classes, self.head = num_classes, nn.Identity()
        if num_classes:
            self.head = nn.Linear(self.num_features, num_classes)
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def no_weight_decay(self) -> set[str]:
        return {"encoder.latents"}

    def forward_features(self, image: Float[Tensor, "B 3 X Y"]) -> Float[Tensor, "B L D"]:
        """Return the latents."""
        return self.encoder(self.tokenizer(image))[0]

    def forward_head(self, latents: Float[Tensor, "B L D"], pre_logits: bool = False) -> Float[Tensor, "B C"]:
        """Return logits, or with ``pre_logits`` what the last layer would read."""
        feats = self.dropout(self.norm(latents.mean(1)))
        return feats if pre_logits else self.head(feats)


def _entry_point(name: str) -> Callable[..., TimmBixt]:
    def make(
        pretrained: bool = False,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: dict[str, Any] | None = None,
        cache_dir: Any = None,
        num_classes: int | None = None,
        **settings: Any,
    ) -> TimmBixt:
        cfg = resolve_pretrained_cfg(name, pretrained_cfg, pretrained_cfg_overlay).to_dict()
        model = TimmBixt(cfg["num_classes"] if num_classes is None else num_classes, name, **settings)
        if pretrained:
            path = cfg.get("file") or fetch_released(name, Path(cache_dir) if cache_dir else None)
            load_official_weights(path, model, new_head=model.num_classes != cfg["num_classes"])
        model.pretrained_cfg = model.default_cfg = cfg
        return model

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"Return {name}; see TimmBixt."
    return make


for _name in NAMES:
    globals()[_name] = register_model(_entry_point(_name))
