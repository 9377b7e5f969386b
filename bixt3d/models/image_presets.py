"""The paper's image models, built by name."""

from collections.abc import Callable
from typing import Any

from bixt3d.models.baselines import IterativeEncoder, SequentialEncoder
from bixt3d.models.encoder import BixtEncoder, Encoder
from bixt3d.models.image_classifier import BixtImageClassifier, ImageClassifier
from bixt3d.models.image_preset_table import ImagePreset, find_preset
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
            raise InputError(f"'{name}' is a segmenter: build it with create_model")
        super().__init__(num_classes, make_tokenizer(preset), make_encoder(preset, drop_path_cross, drop_path_self))
        if pretrained:
            from bixt3d.models.official import load_official_weights  # lazy: only pretrained weights need it
            from bixt3d.models.released import fetch_released

            load_official_weights(fetch_released(name), self, new_head=num_classes != 1000)


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
