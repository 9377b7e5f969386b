"""The paper's image models by name: every row of its tables, and every model whose weights its authors released."""

from dataclasses import dataclass
from typing import Any, Literal

from bixt3d.types import InputError


@dataclass(frozen=True)
class ImagePreset:
    """The settings of one model; the defaults are those of BiXT-Ti/16.

    ``size``: side of the training images in pixels; ``position``: see ImageTokenizer; ``num_self`` and ``share``: see
    IterativeEncoder; ``figshare``: file number of the released weights at figshare; ``top1``: their reported top-1
    accuracy on ImageNet in percent.
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


def _released(figshare: int, top1: float | None = None, **settings: Any) -> ImagePreset:
    return ImagePreset(figshare=figshare, top1=top1, **settings)


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
    # tables 1a and A1: baselines; first: all cross-attentions but the first share their block
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
    # table 3: segmenters, whose training starts from classifiers of depth 13
    "bixt_linear_ti_l64_p16": ImagePreset(size=512, head="linear"),
    "bixt_linear_ti_l64_p16s8": ImagePreset(size=512, head="linear", stride=8),
    "bixt_fpn_ti_l64_p16": ImagePreset(size=512, head="fpn"),
    "bixt_fpn_lpi_conv_ti_l64_p16": ImagePreset(size=512, head="fpn", refine="lpi", tokenizer="conv"),
}
"""All presets by name, released ones first. ``_ft384``: the same network, fine-tuned on images of 384 pixels."""


def find_preset(name: str) -> ImagePreset:
    """Return the settings of a preset. Raises InputError for an unknown name and suggests the nearest one."""
    if name not in PRESETS:
        from bixt3d.io.named_configs import nearest

        raise InputError(f"there is no image model '{name}'" + nearest(name, PRESETS))
    return PRESETS[name]
