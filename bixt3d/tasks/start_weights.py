"""Initial weights for fine-tuning: from an earlier run, or from a checkpoint of the authors."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor, nn

from bixt3d.engine.folder import weights_file
from bixt3d.io.bounds import printable
from bixt3d.io.pretrained import shown
from bixt3d.io.untrusted import read_json
from bixt3d.io.weights import alike, load_weights
from bixt3d.models.image_classifier import ImageClassifier
from bixt3d.models.image_segmenter import ImageSegmenter
from bixt3d.nn.feature_scale import FeatureScale
from bixt3d.types import Features, InputError

MAX_NAMES = 8
"""Number of tensor names that a message lists; it counts the rest."""


def start_from(module: nn.Module, path: Path, up: str = "") -> str:
    """Load the weights of an earlier run (folder or .safetensors file), or of the authors (.pth), into a model.

    Takes every tensor of the same name and shape, with two exceptions: mean and deviation of features, which are those
    of the new training set; and one-sided cross-attention of the other direction in the last layer (a classifier's
    latents read the tokens, a segmenter's tokens read the latents). Returns in words what was taken and what was not,
    and whether the run read other features, or clouds with another axis ``up``.
    Raises InputError if nothing fits tokenizer and encoder (in a model without them: nothing but the head).
    """
    path = weights_file(path)
    if path.suffix != ".safetensors":
        return _start_from_authors(module, path)
    weights, metadata = load_weights(path)
    own = module.state_dict()
    halves, scales = token_halves(weights, own), _scales(module)
    theirs = _of_same_direction(weights | halves, own)
    fitting = {
        name: theirs[name] for name in own if name in theirs and alike(own[name], theirs[name]) and name not in scales
    }
    if not _body(module) & fitting.keys():
        raise InputError(
            f"{shown(path)} does not fit this model: no weight of tokenizer or encoder has the same shape here"
        )
    module.load_state_dict(own | fitting)
    lines = [f"started from {shown(path)}: {len(fitting)} of {len(own)} tensors"]
    shapes = [name for name in own if name in theirs and name not in fitting.keys() | scales]
    kinds = {
        "of another shape": [f"{name}: {_size(theirs[name])} there, {_size(own[name])} here" for name in shapes],
        "new": own.keys() - theirs.keys() - scales,
        "not taken": {name for name in weights.keys() - own.keys() - scales if not _halved(name, halves)},
        "of this training set": scales & own.keys(),
    }
    lines += [f"  {kind}: {_listed(names)}" for kind, names in kinds.items() if names]
    return "\n".join([*lines, *_read_otherwise(module, metadata, path, up)])


def _start_from_authors(module: nn.Module, path: Path) -> str:
    if not path.is_file():
        raise InputError(f"there are no weights {path}")
    if not isinstance(module, ImageClassifier | ImageSegmenter):
        raise InputError(f"train.init should be the folder of a run, or its model.safetensors, not {path}")
    from bixt3d.models.official import load_official_weights

    load_official_weights(path, module, new_head=getattr(module, "num_classes", 0) != 1000)
    return f"started from the authors' weights {path}"


def token_halves(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights for one-sided cross-attention (tokens read) from a two-sided layer in the same place.

    The refs of tokens become queries; the refs and values of latents become keys and values.
    """
    halves = {}
    for name in own.keys() - weights.keys():
        place, _, end = name.partition(".cross.attention.")
        layer, kind = f"{place}.cross.attention.", end.rpartition(".")[2]
        whole = f"{layer}token_ref_value.{kind}"
        if end.startswith("query.") and whole in weights:
            halves[name] = weights[whole][: len(weights[whole]) // 2]
        elif end.startswith("key_value.") and whole in weights:
            halves[name] = weights[f"{layer}latent_ref_value.{kind}"]
        elif end.startswith("out.") and whole in weights:
            halves[name] = weights[f"{layer}token_out.{kind}"]
    return halves


def _halved(name: str, halves: Mapping[str, Tensor]) -> bool:
    layer, _, end = name.partition("cross.attention.")
    whole = ("token_ref_value.", "latent_ref_value.", "token_out.")
    return end.startswith(whole) and f"{layer}cross.attention.query.weight" in halves


def _of_same_direction(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop one-sided cross-attention of the other direction, which has the same names and shapes."""

    def write_tokens(names: Iterable[str]) -> set[str]:
        return {name.partition(".cross.")[0] for name in names if ".cross.token_ffn." in name}

    def read_tokens(names: Iterable[str]) -> set[str]:
        return {name.partition(".cross.")[0] for name in names if ".cross.latent_ffn." in name}

    turned = (read_tokens(weights) - write_tokens(weights)) & (write_tokens(own) - read_tokens(own))
    turned |= (write_tokens(weights) - read_tokens(weights)) & (read_tokens(own) - write_tokens(own))
    return {
        name: value
        for name, value in weights.items()
        if not (".cross." in name and name.partition(".cross.")[0] in turned)
    }


def _scales(module: nn.Module) -> set[str]:
    """Return the names of the buffers with mean and deviation of features."""
    places = [name for name, layer in module.named_modules() if isinstance(layer, FeatureScale)]
    return {name for name, _ in module.named_buffers() if name.rpartition(".")[0] in places}


def _body(module: nn.Module) -> set[str]:
    """Return the names of the parameters of tokenizer and encoder; if there are none, of all but the head."""
    names = {name for name, _ in module.named_parameters()}
    body = {name for name in names if name.startswith(("tokenizer.", "encoder."))}
    return body or {name for name in names if not name.startswith((getattr(module, "head_name", "head"), "decoder."))}


def _read_otherwise(module: nn.Module, metadata: Mapping[str, str], path: Path, up: str) -> list[str]:
    """Return a warning if the run read other features than this model, even if of the same width, or turned clouds."""
    given = read_json(metadata.get("input", "{}"), f"input of {shown(path)}")
    given = given if isinstance(given, dict) else {}
    text, its_up, own, lines = given.get("features"), given.get("up"), str(Features.of(module)), []
    if isinstance(text, str) and text != own:
        there = printable(text)[:80] or "no features"
        lines.append(f"  the run read {there}, this model {own or 'none'}: what fits in shape was trained on others")
    if up and its_up in ("y", "z") and its_up != up:
        there = f"the run read clouds with {its_up} up, this data set has {up} up"
        lines.append(f"  {there}: to its weights every cloud lies on its side")
    return lines


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "1"


def _listed(names: Iterable[str]) -> str:
    shown = [printable(name)[:120] for name in sorted(names)]
    more = f" and {len(shown) - MAX_NAMES} more" if len(shown) > MAX_NAMES else ""
    return ", ".join(shown[:MAX_NAMES]) + more
