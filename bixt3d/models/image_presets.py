"""The paper's image models by name: every row of its tables, and every model whose weights its authors released."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bixt3d.models.baselines import IterativeEncoder, SequentialEncoder
from bixt3d.models.encoder import BixtEncoder, Encoder
from bixt3d.models.image_classifier import BixtImageClassifier, ImageClassifier
from bixt3d.models.image_segmenter import ImageSegmenter, LinearSegmenter, SemanticFPNSegmenter
from bixt3d.nn.local_patch import LocalPatchRefinement
from bixt3d.tokenizers import ConvTokenizer, ImageTokenizer, PatchTokenizer
from bixt3d.types import InputError

MakeImageClassifier = Callable[[int], ImageClassifier]
MakeImageSegmenter = Callable[[int], ImageSegmenter]


@dataclass(frozen=True)
class ImagePreset:
    """The numbers of one model; the default is BiXT-Ti/16.

    ``size``: side in pixels of the images that it was trained on; ``position``: see ImageTokenizer; ``num_self`` and
    ``share``: see IterativeEncoder. ``figshare``: number of the released file, ``top1``: its reported accuracy.
    """

    size: int = 224
    dim: int = 192
    depth: int = 12
    num_heads: int = 6
    num_latents: int = 64
    kernel: int = 16
    stride: int = 16
    tokenizer: Literal["linear", "conv"] = "linear"
    position: Literal["project", "plain"] = "project"
    layer_scale: float | None = None
    encoder: Literal["bixt", "sequential", "iterative"] = "bixt"
    num_self: int = 1
    share: Literal["none", "all", "all_but_first"] = "none"
    refine: Literal["none", "lpi"] = "none"
    head: Literal["classes", "linear", "fpn"] = "classes"
    figshare: int | None = None
    top1: float | None = None


def _released(figshare: int, top1: float | None = None, **numbers: Any) -> ImagePreset:
    return ImagePreset(figshare=figshare, top1=top1, **numbers)


def _ablation(kernel: int, stride: int, position: Literal["project", "plain"] = "project") -> ImagePreset:
    return ImagePreset(num_heads=3, kernel=kernel, stride=stride, position=position)


def _iterative(num_self: int, depth: int, share: Literal["all", "all_but_first"]) -> ImagePreset:
    return ImagePreset(num_heads=3, encoder="iterative", num_self=num_self, depth=depth, share=share)


PRESETS: dict[str, ImagePreset] = {
    "bixt_ti_l64_p16": _released(52882961, 80.10),
    "bixt_ti_l64_p16s8": _released(52882994, 81.88, stride=8),
    "bixt_ti_l64_p16s4": _released(52882982, 82.70, stride=4),
    "bixt_ti_l64_p16_ft384": _released(52882964, 81.85, size=384),
    "bixt_ti_l64_p16s8_ft384": _released(52882988, 82.77, size=384, stride=8),
    "bixt_ti_l64_p16s4_ft384": _released(52882970, 83.15, size=384, stride=4),
    "bixt_conv_ti_l64_p16": _released(52882946, 81.00, tokenizer="conv"),
    "bixt_ed256_l64_p16": _released(52882976, 81.74, dim=256, num_heads=8),
    "bixt_ed256LS_l64_p16s8": _released(52882991, 83.24, dim=256, num_heads=8, stride=8, layer_scale=1e-5),
    "bixt_ed256LS_l64_p16s8_ft384": _released(
        52882985, 83.89, size=384, dim=256, num_heads=8, stride=8, layer_scale=1e-5
    ),
    "bixt_ti_l64_d13_p16": _released(52882958, 80.44, depth=13),
    "bixt_ti_l64_d13_p16s8": _released(52882979, 82.44, depth=13, stride=8),
    "bixt_ti_l64_d13_p16s4": _released(52882967, 83.04, depth=13, stride=4),
    "bixt_ti_l64_d13_p16_ft384": _released(52882955, size=384, depth=13),
    "bixt_ti_l64_d13_p16s8_ft384": _released(52882973, size=384, depth=13, stride=8),
    "bixt_conv_ti_l64_d13_p16": _released(52882949, 80.95, depth=13, tokenizer="conv"),
    "bixt_conv_ti_l64_d13_p8": _released(52882952, 82.47, depth=13, tokenizer="conv", stride=8),
    # table 4
    "bixt_ti_l32_p16": ImagePreset(num_latents=32),
    "bixt_ti_l128_p16": ImagePreset(num_latents=128),
    "bixt_ed128_l64_p16": ImagePreset(dim=128, num_heads=4),
    "bixt_ed160_l64_p16": ImagePreset(dim=160, num_heads=5),
    "bixt_ed224_l64_p16": ImagePreset(dim=224, num_heads=7),
    # table A2: 3 heads
    "bixt_ti_l64_h3_p32s16": _ablation(32, 16),
    "bixt_ti_l64_h3_p16_plain": _ablation(16, 16, "plain"),
    "bixt_ti_l64_h3_p32s8": _ablation(32, 8),
    "bixt_ti_l64_h3_p16s8": _ablation(16, 8),
    "bixt_ti_l64_h3_p8": _ablation(8, 8),
    "bixt_ti_l64_h3_p16s4": _ablation(16, 4),
    "bixt_ti_l64_h3_p8s4": _ablation(8, 4),
    "bixt_ti_l64_h3_p4": _ablation(4, 4),
    # tables 1a and A1: the rivals; first: all readings share their block, but the first has one of its own
    "sequential_ti_l64_d11_p16": ImagePreset(encoder="sequential", depth=11),
    "sequential_ti_l64_p16": ImagePreset(encoder="sequential"),
    "iterative_ti_l64_sa5_d8_p16": _iterative(5, 8, "all"),
    "iterative_ti_l64_sa6_d7_p16": _iterative(6, 7, "all"),
    "iterative_ti_l64_sa6_d8_p16": _iterative(6, 8, "all"),
    "iterative_ti_l64_sa4_d12_p16": _iterative(4, 12, "all"),
    "iterative_ti_l64_sa5_d8_first_p16": _iterative(5, 8, "all_but_first"),
    "iterative_ti_l64_sa6_d7_first_p16": _iterative(6, 7, "all_but_first"),
    "iterative_ti_l64_sa6_d8_first_p16": _iterative(6, 8, "all_but_first"),
    "iterative_ti_l64_sa4_d12_first_p16": _iterative(4, 12, "all_but_first"),
    "iterative_ti_l64_sa1_d22_first_p16": _iterative(1, 22, "all_but_first"),
    "iterative_ti_l64_sa1_d24_first_p16": _iterative(1, 24, "all_but_first"),
    # table 3: segmenters, which start from models of depth 13
    "bixt_linear_ti_l64_p16": ImagePreset(size=512, head="linear"),
    "bixt_linear_ti_l64_p16s8": ImagePreset(size=512, head="linear", stride=8),
    "bixt_fpn_ti_l64_p16": ImagePreset(size=512, head="fpn"),
    "bixt_fpn_lpi_conv_ti_l64_p16": ImagePreset(size=512, head="fpn", refine="lpi", tokenizer="conv"),
}
"""Released models come first. ``_ft384`` models are the same networks, fine-tuned on larger images."""


def find_preset(name: str) -> ImagePreset:
    """Return the numbers of a model. Raises InputError that names the nearest one."""
    if name not in PRESETS:
        from bixt3d.config import nearest

        raise InputError(f"there is no image model '{name}'" + nearest(name, PRESETS))
    return PRESETS[name]


def make_tokenizer(preset: ImagePreset) -> ImageTokenizer:
    """Return the tokenizer of a model, with random weights."""
    if preset.tokenizer == "conv":
        return ConvTokenizer(preset.dim, preset.stride, preset.position)
    return PatchTokenizer(preset.dim, preset.kernel, preset.stride, preset.position)


def make_encoder(preset: ImagePreset, drop_path_cross: float = 0.0, drop_path_self: float = 0.0) -> Encoder:
    """Return the encoder of a model, with random weights."""
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
    """A classifier of the paper, or a released one, by its name.

    Args:
        num_classes: number of classes; 0: `forward` returns the pooled features (B, D).
        name: its name, such as bixt_ti_l64_p16.
        drop_path_cross: stochastic depth rate of the last cross-attention; earlier layers less, linearly.
        drop_path_self: the same for the latents' self-attention.
        pretrained: begin with the weights that the authors released (ImageNet), downloaded once; the head is new unless
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
            raise InputError(f"'{name}' labels pixels: build_image_segmenter makes it")
        super().__init__(num_classes, make_tokenizer(preset), make_encoder(preset, drop_path_cross, drop_path_self))
        if pretrained:
            from bixt3d.models.official import load_official_weights
            from bixt3d.models.released import fetch_released

            load_official_weights(fetch_released(name), self, new_head=num_classes != 1000)


def build_image_classifier(config: str | Path, num_classes: int) -> ImageClassifier:
    """Build a classifier of images: by the name of a preset or of a config, the path of a yaml file, or its text.

    The weights are random, but for a config that says otherwise. Raises InputError for an unknown name or settings that
    do not fit.
    """
    if _names_preset(config):
        return BixtPreset(num_classes, str(config))
    return _from_yaml(config, MakeImageClassifier, num_classes)


def build_image_segmenter(config: str | Path, num_classes: int) -> ImageSegmenter:
    """Build a segmenter of images, as `build_image_classifier` does a classifier."""
    if not _names_preset(config):
        return _from_yaml(config, MakeImageSegmenter, num_classes)
    if find_preset(str(config)).head == "classes":
        names = [name for name, one in PRESETS.items() if one.head != "classes"]
        raise InputError(f"'{config}' is a classifier; segmenters are: {', '.join(names)}")
    return make_preset(str(config), num_classes)


def make_preset(
    name: str, num_classes: int, pretrained: bool = False, **changes: Any
) -> ImageClassifier | ImageSegmenter:
    """Return the classifier or the segmenter of a name; ``changes``: other settings of its class.

    Raises InputError for an unknown name, and for weights that were not released.
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
    from bixt3d.models.presets import _make  # not at the top: it brings jsonargparse

    return _make(config, kind)(num_classes)
