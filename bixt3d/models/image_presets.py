"""The paper's image models, built by name."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bixt3d.models.baselines import IterativeEncoder, SequentialEncoder
from bixt3d.models.encoder import BixtEncoder, Encoder
from bixt3d.models.image_classifier import BixtImageClassifier, ImageClassifier
from bixt3d.models.image_preset_table import PRESETS, ImagePreset, find_preset
from bixt3d.models.image_segmenter import ImageSegmenter, LinearSegmenter, SemanticFPNSegmenter
from bixt3d.nn.local_patch import LocalPatchRefinement
from bixt3d.tokenizers import ConvTokenizer, ImageTokenizer, PatchTokenizer
from bixt3d.types import InputError

MakeImageClassifier = Callable[[int], ImageClassifier]
MakeImageSegmenter = Callable[[int], ImageSegmenter]


def make_tokenizer(preset: ImagePreset) -> ImageTokenizer:
    """Return the tokenizer of a preset, with random weights."""
    if preset.tokenizer == "conv":
        return ConvTokenizer(preset.dim, preset.stride, preset.position)
    return PatchTokenizer(preset.dim, preset.kernel, preset.stride, preset.position)


def make_encoder(preset: ImagePreset, drop_path_cross: float = 0.0, drop_path_self: float = 0.0) -> Encoder:
    """Return the encoder of a preset, with random weights."""
    sizes = {name: getattr(preset, name) for name in ("dim", "depth", "num_heads", "num_latents")}
    drop = {"drop_path_cross": drop_path_cross, "drop_path_self": drop_path_self}
    if preset.encoder == "iterative":
        return IterativeEncoder(**sizes, num_self=preset.num_self, share=preset.share, **drop)
    return {"bixt": BixtEncoder, "sequential": SequentialEncoder}[preset.encoder](
        **sizes,
        reads="latents" if preset.head == "classes" else "tokens",
        keep_layers=[4, 6, 8] if preset.head == "fpn" else None,
        refine=LocalPatchRefinement if preset.refine == "lpi" else None,
        layer_scale=preset.layer_scale,
        **drop,
    )


class BixtPreset(BixtImageClassifier):
    """An image classifier of the paper by name: a preset (see `list_models`).

    Args:
        num_classes: number of classes; 0: `forward` returns the pooled features (B, D).
        name: name of the preset, such as bixt_ti_l64_p16.
        drop_path_cross: stochastic depth rate of the last layer's cross-attention; linear from 0 at the first layer.
        drop_path_self: the same for latent self-attention.
        pretrained: load the weights that the authors released (ImageNet), downloaded once; the head stays random unless
            there are 1000 classes.
    """

    def __init__(
        self,
        num_classes: int,
        name: str,
        drop_path_cross: float = 0.0,
        drop_path_self: float = 0.0,
        pretrained: bool = False,
    ):
        preset = find_preset(name)
        if preset.head != "classes":
            raise InputError(f"'{name}' is a segmenter: build it with build_image_segmenter")
        super().__init__(num_classes, make_tokenizer(preset), make_encoder(preset, drop_path_cross, drop_path_self))
        if pretrained:
            from bixt3d.models.official import load_official_weights  # lazy: only pretrained weights need it
            from bixt3d.models.released import fetch_released

            load_official_weights(fetch_released(name), self, new_head=num_classes != 1000)


def build_image_classifier(config: str | Path, num_classes: int) -> ImageClassifier:
    """Build an image classifier from the name of a preset or config, the path of a yaml file, or its text.

    The weights are random unless the config sets ``pretrained``. Raises InputError for an unknown name or settings
    that do not fit.
    """
    if _names_preset(config):
        return BixtPreset(num_classes, str(config))
    return _from_yaml(config, MakeImageClassifier, num_classes)


def build_image_segmenter(config: str | Path, num_classes: int) -> ImageSegmenter:
    """Build an image segmenter from the name of a preset or config, the path of a yaml file, or its text.

    The weights are random. Raises InputError for an unknown name or settings that do not fit.
    """
    if not _names_preset(config):
        return _from_yaml(config, MakeImageSegmenter, num_classes)
    if find_preset(str(config)).head == "classes":
        names = [name for name, one in PRESETS.items() if one.head != "classes"]
        raise InputError(f"'{config}' is a classifier; segmenters are: {', '.join(names)}")
    return make_preset(str(config), num_classes)


def make_preset(
    name: str, num_classes: int, pretrained: bool = False, **changes: Any
) -> ImageClassifier | ImageSegmenter:
    """Build the image classifier or segmenter of a preset; ``changes``: other settings of its class.

    Raises InputError for an unknown name, and for ``pretrained`` weights that were not released.
    """
    preset = find_preset(name)
    if preset.head == "classes":
        return BixtPreset(num_classes, name, pretrained=pretrained, **changes)
    if pretrained:
        raise InputError(f"no weights of '{name}' were released: start its training from a classifier's (train.init)")
    make = {"linear": LinearSegmenter, "fpn": SemanticFPNSegmenter}[preset.head]
    return make(num_classes, make_tokenizer(preset), make_encoder(preset), **changes)


def _names_preset(config: str | Path) -> bool:
    return re.fullmatch(r"(bixt|sequential|iterative)_\w+", str(config)) is not None


def _from_yaml(config: str | Path, kind: Any, num_classes: int) -> Any:
    from bixt3d.models.presets import _make  # lazy: it imports jsonargparse

    return _make(config, kind)(num_classes)
