"""Weights to start a run from: an earlier run of ours, or a checkpoint of the authors."""

from pathlib import Path

from torch import Tensor, nn

from bixt3d.engine.checkpoint import load_weights
from bixt3d.engine.folder import weights_file
from bixt3d.types import InputError


def start_from(module: nn.Module, path: Path) -> str:
    """Give a model the weights of an earlier run (its folder, or a .safetensors file) or of the authors' (.pth).

    Tokenizer and encoder must be the same, but for refinements, and layers that the model has no more; heads may
    differ. Returns in words what was taken. Raises InputError for weights that do not fit.
    """
    path = weights_file(path)
    if path.suffix != ".safetensors":
        from bixt3d.models.official import load_official_weights

        load_official_weights(path, module, new_head=len(module.head.weight) != 1000)
        return f"started from the authors' weights {path}"
    weights, _ = load_weights(path)
    own = module.state_dict()
    weights = weights | token_halves(weights, own)
    fitting = {name: weights[name] for name in own if name in weights and weights[name].shape == own[name].shape}
    needed = [name for name in own if name.startswith(("tokenizer.", "encoder.")) and ".refine." not in name]
    if missing := [name for name in needed if name not in fitting]:
        raise InputError(
            f"{path} does not fit this model: it lacks {len(missing)} of the {len(needed)} tensors of tokenizer and "
            f"encoder, or has them in another shape (such as {missing[0]})"
        )
    module.load_state_dict(own | fitting)
    return f"started from {path}: {len(fitting)} of {len(own)} tensors, the others are new"


def token_halves(weights: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what a last layer that only writes tokens takes from a two-sided one of the same place.

    Refs of tokens become its queries; refs and values of latents its keys and values.
    """
    halves = {}
    for name in own.keys() - weights.keys():
        place, _, part = name.partition(".cross.attention.")
        layer, kind = f"{place}.cross.attention.", part.rpartition(".")[2]
        whole = f"{layer}token_ref_value.{kind}"
        if part.startswith("query.") and whole in weights:
            halves[name] = weights[whole][: len(weights[whole]) // 2]
        elif part.startswith("key_value.") and whole in weights:
            halves[name] = weights[f"{layer}latent_ref_value.{kind}"]
        elif part.startswith("out.") and whole in weights:
            halves[name] = weights[f"{layer}token_out.{kind}"]
    return halves
