"""Load the image checkpoints that BiXT's authors released: rename their parameters, keep their values."""

import argparse
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn

from bixt3d.io.bounds import printable
from bixt3d.io.untrusted import load_tensors
from bixt3d.models.image_segmenter import ImageSegmenter
from bixt3d.types import InputError

OUR_NAMES = (
    (r"^module\.", ""),  # saved from DataParallel
    (r"^patch_embed\.proj\.", "tokenizer.project."),
    (r"^fourier_pos_encode\.token_projection\.", "tokenizer.position."),
    (r"^latents$", "encoder.latents"),
    (r"^fc_norm\.", "norm."),
    (r"^blocks\.(\d+)\.cross_attention_latents_token\.", r"encoder.layers.\1.cross."),
    (r"^blocks\.(\d+)\.self_attention_latents\.", r"encoder.layers.\1.latents."),
    (r"\.attn\.rv_latents\.", ".attention.latent_ref_value."),
    (r"\.attn\.rv_patches\.", ".attention.token_ref_value."),
    (r"\.attn\.r_latents\.", ".attention.query."),
    (r"\.attn\.qkv\.", ".attention.query_key_value."),
    (r"\.attn\.proj\.", ".attention.out."),
    (r"\.attn\.proj_lat\.", ".attention.latent_out."),
    (r"\.attn\.proj_pat\.", ".attention.token_out."),
    (r"\.(norm[12]|mlp|ls[12])_lat\.", r".latent_\1."),
    (r"\.(norm[12]|mlp|ls[12])_pat\.", r".token_\1."),
    (r"([._])norm1\.", r"\1norm."),
    (r"([._])norm2\.", r"\1ffn.norm."),
    (r"([._])mlp\.fc1\.", r"\1ffn.ffn.0."),
    (r"([._])mlp\.fc2\.", r"\1ffn.ffn.2."),
    (r"([._])ls1\.gamma$", r"\1residual.scale.factor"),
    (r"([._])ls2\.gamma$", r"\1ffn.residual.scale.factor"),
)
"""Patterns of the authors' parameter names and our names for them, applied in this order."""

NO_WEIGHTS = ("fourier_pos_encode.pos",)
"""Buffers of the checkpoints that our models compute themselves, for images of any size."""

MAX_NAMES = 12
"""The most names of a kind that an error lists; the rest is counted."""

MAX_BYTES = 2**31
"""The largest file that is extracted from a zip."""


def load_official_weights(path: str | Path, model: nn.Module, new_head: bool = False) -> None:
    """Load a checkpoint that the authors released into a model of the same size.

    ``path``: a .pth, .pt or .safetensors file, or a zip with one of them; no code in it is executed. ``new_head``: keep
    the model's own head. A segmenter always keeps its own head, decoder and refinements; it takes a classifier with one
    more layer, whose last, one-sided layer is dropped. Raises InputError, and leaves the model unchanged, if a
    parameter is missing, unexpected or of another shape.
    """
    theirs, ours = convert(read_checkpoint(path)), model.state_dict()
    stays_new: tuple[str, ...] = ("head.",) if new_head else ()
    if isinstance(model, ImageSegmenter):
        theirs = _for_tokens(theirs, ours)
        stays_new = tuple(
            name for name in ours if not name.startswith(("tokenizer.", "encoder.")) or ".refine." in name
        )
    theirs, needed = (
        {name: value for name, value in state.items() if not name.startswith(stays_new)} for state in (theirs, ours)
    )
    if problems := _problems(theirs, needed):
        raise InputError(f"{path} does not fit this {type(model).__name__}, it is of another variant: {problems}")
    model.load_state_dict(ours | theirs)


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a checkpoint of the authors with our parameter names and layout; unknown names stay."""
    converted = {}
    for name, value in state.items():
        new = name
        for pattern, replacement in OUR_NAMES:
            new = re.sub(pattern, replacement, new)
        if new not in NO_WEIGHTS:
            converted[new] = value.flatten(1) if new == "tokenizer.position.weight" else value
    one_sided = {
        name.removesuffix("query.weight") for name in converted if name.endswith(".cross.attention.query.weight")
    }
    for name in list(converted):
        prefix, _, suffix = name.rpartition("attention.")
        if f"{prefix}attention." in one_sided:  # latents read tokens: keys and values of tokens, one output
            suffix = suffix.replace("token_ref_value", "key_value").replace("latent_out", "out")
            converted[f"{prefix}attention.{suffix}"] = converted.pop(name)
    return converted


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Return the state_dict in a file (see `load_official_weights`). Raises InputError if there is none."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there are no weights {path}")
    name, content = _extract(path)
    try:
        if name.endswith(".safetensors"):
            found: Any = load(content)
        else:
            found = load_tensors(content, argparse.Namespace)  # the training settings stored with the weights
    except Exception as error:  # junk makes torch.load raise almost anything
        reason = printable(next(iter(str(error).splitlines()), type(error).__name__))[:300]
        raise InputError(f"{path} has no weights that can be read safely: {reason}") from error
    for key in ("model", "state_dict"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not (isinstance(found, Mapping) and found and all(map(_is_weight, found.items()))):
        raise InputError(f"{path} has no state_dict, neither at the top level nor under 'model' or 'state_dict'")
    if broken := [name for name, value in found.items() if not torch.isfinite(value).all()]:
        raise InputError(f"{path} is damaged: '{printable(broken[0])[:200]}' has values that are not finite numbers")
    return dict(found)


def _is_weight(entry: tuple[Any, Any]) -> bool:
    name, value = entry
    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)
    return isinstance(name, str) and isinstance(value, Tensor) and value.dtype in kinds


def _extract(path: Path) -> tuple[str, bytes]:
    """Return name and content of a file of weights, or of the only file of weights in a zip."""
    try:
        if not zipfile.is_zipfile(path):
            return path.name, path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            files = [file for file in archive.infolist() if not file.filename.startswith("__MACOSX/")]
            if any(file.filename.endswith("/data.pkl") for file in files):  # torch.save writes a zip itself
                return path.name, path.read_bytes()
            weights = [file for file in files if file.filename.endswith((".pth", ".pt", ".pth.tar", ".safetensors"))]
            if len(weights) != 1:
                raise InputError(
                    f"{path} must contain one file of weights (.pth, .pt or .safetensors), not {len(weights)}"
                )
            size, packed = weights[0].file_size, weights[0].compress_size
            if size > MAX_BYTES or size > max(2**24, 8 * packed):  # weights hardly compress
                raise InputError(f"{weights[0].filename} in {path} is too large: {weights[0].file_size / 1e9:.1f} GB")
            return weights[0].filename, archive.read(weights[0])
    except InputError:
        raise
    except Exception as error:  # RuntimeError: a password is needed; broken zips raise almost anything
        raise InputError(f"{path} cannot be read: {printable(str(error))[:200]}") from error


def _for_tokens(theirs: dict[str, Tensor], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters of a classifier that a segmenter takes: all but the head and the one-sided last layer.

    If the segmenter's last layer updates tokens only, the refs of tokens become its queries, and refs and values of
    latents its keys and values.
    """
    one_sided = {name.split(".cross.")[0] for name in theirs if name.endswith("cross.attention.query.weight")}
    kept = {
        name: value
        for name, value in theirs.items()
        if not name.startswith(("norm.", "head.")) and ".".join(name.split(".")[:3]) not in one_sided
    }
    tokens_only = {name.split(".cross.")[0] for name in ours if name.endswith("cross.attention.query.weight")}
    for layer in tokens_only:
        suffixes = {name.removeprefix(f"{layer}."): name for name in kept if name.startswith(f"{layer}.")}
        for suffix, name in suffixes.items():
            value = kept.pop(name)
            if suffix.startswith("cross.attention."):
                suffix = _TOKENS_READ.get(suffix.rsplit(".", 1)[0], "") + suffix[suffix.rindex(".") :]
                value = value[: len(value) // 2] if suffix.startswith("cross.attention.query") else value
            if f"{layer}.{suffix}" in ours:
                kept[f"{layer}.{suffix}"] = value
    return kept


_TOKENS_READ = {
    "cross.attention.token_ref_value": "cross.attention.query",
    "cross.attention.latent_ref_value": "cross.attention.key_value",
    "cross.attention.token_out": "cross.attention.out",
}


def _problems(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> str:
    shapes = [
        f"{name} {tuple(value.shape)} for {tuple(ours[name].shape)}"
        for name, value in theirs.items()
        if name in ours and value.shape != ours[name].shape
    ]
    problems = {
        "missing": [name for name in ours if name not in theirs],
        "unexpected": [name for name in theirs if name not in ours],
        "of another shape": shapes,
    }
    return "; ".join(
        f"{kind}: {_list([printable(name)[:200] for name in names])}" for kind, names in problems.items() if names
    )


def _list(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
