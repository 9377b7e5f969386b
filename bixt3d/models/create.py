"""Create and list models by name: those of the config files, and the paper's image models (presets)."""

from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from bixt3d.config import follow_features, is_text
from bixt3d.errors import check_path
from bixt3d.io.known_classes import known_classes
from bixt3d.io.named_configs import known_configs, nearest
from bixt3d.io.pretrained import known_pretrained
from bixt3d.models.classifier import CloudClassifier
from bixt3d.models.features import FeatureModel
from bixt3d.models.image_classifier import ImageClassifier
from bixt3d.models.image_preset_table import PRESETS, find_preset
from bixt3d.models.image_presets import MakeImageClassifier, MakeImageSegmenter, make_preset
from bixt3d.models.image_segmenter import ImageSegmenter
from bixt3d.models.presets import MakeClassifier, MakeSegmenter, make_described, read_model_config
from bixt3d.models.segmenter import CloudSegmenter
from bixt3d.types import InputError

Kind = Literal["cls", "partseg", "scenes", "imgcls", "imgseg"]
KINDS: dict[Kind, tuple[type, Any]] = {
    "cls": (CloudClassifier, MakeClassifier),
    "partseg": (CloudSegmenter, MakeSegmenter),
    "scenes": (CloudSegmenter, MakeSegmenter),
    "imgcls": (ImageClassifier, MakeImageClassifier),
    "imgseg": (ImageSegmenter, MakeImageSegmenter),
}
"""Each kind of model, named as in the commands: its base class, and the type of the function that builds it."""


def create_model(
    name: str | Path,
    num_classes: int | None = None,
    *,
    num_categories: int | None = None,
    pretrained: bool = False,
    features: str | None = None,
    **changes: Any,
) -> FeatureModel:
    """Build the model of a config or an image preset, with random weights unless ``pretrained`` is set.

    Args:
        name: name of a config (``modelnet40_grouping``) or preset (``bixt_ti_l64_p16``), see `list_models`; or a yaml
            file: its path, or its text.
        num_classes: number of classes, or of parts over all categories; 0: the model returns features. None: 1000,
            for image classifiers only.
        num_categories: number of categories of clouds; part segmenters need it, others refuse it.
        pretrained: load the weights that the authors released, for image classifiers only; the head stays random unless
            there are 1000 classes.
        features: point features that the model reads besides the coordinates, such as ``normal,rgb``; None: those that
            the config names.
        changes: other settings of the model's class, such as ``dropout=0.1``; nested ones in a dict, such as
            ``encoder={"depth": 4}``.

    Raises InputError for an unknown name (it suggests the nearest one) and for settings that do not fit.

    Example:
        >>> model = create_model("modelnet40_grouping", num_classes=40, encoder={"depth": 2})
        >>> model(torch.rand(2, 1024, 3)).shape
        torch.Size([2, 40])
        >>> model = create_model("shapenetpart_naive", num_classes=50, num_categories=16, encoder={"depth": 2})
        >>> model(torch.rand(2, 256, 3), torch.rand(2, 256, 3), torch.tensor([0, 15])).shape
        torch.Size([2, 256, 50])
    """
    _check_numbers(num_classes, num_categories)
    check_path(name=name)
    text = str(name)
    if text in PRESETS:
        for what, value in {"num_categories": num_categories, "features": features}.items():
            if value is not None:
                raise InputError(f"'{text}' is a model of images, which has no {what}: leave it out")
        return _create_preset(text, num_classes, pretrained, changes)
    shown = "the model of this config" if is_text(text) else f"'{text}'"
    if text in known_pretrained():
        raise InputError(f"{shown} names trained weights: load them with load_pretrained({shown})")
    if shown.startswith("'") and "/" not in text and Path(text).suffix == "" and text not in known_configs():
        raise InputError(f"there is no model {shown}" + nearest(text, list_models()))
    if pretrained:
        raise InputError(f"no weights of {shown} were released: train it, and load your own with load_run")
    settings = read_model_config(name)
    kind = kind_of(settings)
    outputs = _outputs(shown, kind, num_classes, num_categories)
    settings["model"] = _changed(settings["model"], changes)
    if features is not None:
        settings["data"] = {"init_args": {"features": features}}
        follow_features(settings["model"], settings["data"])
    return make_described(settings, KINDS[kind][1])(*outputs)


def _check_numbers(num_classes: Any, num_categories: Any) -> None:
    for name, number, least in (("num_classes", num_classes, 0), ("num_categories", num_categories, 1)):
        if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < least):
            raise InputError(f"{name} is a whole number, at least {least}, not {number!r}")


def _outputs(shown: str, kind: Kind, num_classes: int | None, num_categories: int | None) -> list[int]:
    """Return the numbers with which a model is built. Raises InputError if one is missing, or does not apply."""
    if kind not in ("partseg", "scenes") and num_categories is not None:
        raise InputError(f"{shown} is no part segmenter, and has no num_categories: leave it out")
    if num_classes is None:
        of_parts = " (parts of all categories) and num_categories" if kind == "partseg" else ""
        raise InputError(f"say how many outputs {shown} has: num_classes{of_parts}")
    if kind == "partseg" and num_categories is None:
        raise InputError(
            f"{shown} segments the parts of several categories of clouds: give num_categories too, "
            "as in create_model('shapenetpart_encdec', num_classes=50, num_categories=16)"
        )
    if kind == "scenes":
        return [num_classes, num_categories or 1]
    return [num_classes] if num_categories is None else [num_classes, num_categories]


def list_models(pattern: str = "", kind: str | None = None, pretrained: bool = False) -> list[str]:
    """Return the names that `create_model` accepts: configs, then image presets.

    ``pretrained``: return those that `load_pretrained` accepts instead: the trained weights that come with bixt3d.

    ``pattern``: a substring of the names, or a wildcard pattern such as ``bixt_*_ft384``. ``kind``: cls, partseg
    or scenes (clouds), imgcls or imgseg (images); None: all. Raises InputError for another kind.
    """
    if not isinstance(pattern, str):
        raise InputError(f"pattern is text, such as 'modelnet', not {pattern!r:.80}")
    if kind not in (None, *KINDS):
        raise InputError(f"there is no kind of model '{kind}'" + nearest(str(kind), KINDS))
    pattern = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    files = known_configs()
    if pretrained:
        files = {name: folder / "config.yaml" for name, folder in known_pretrained().items()}
    configs = [name for name, path in files.items() if kind is None or kind_of(read_model_config(path)) == kind]
    if pretrained:
        return [name for name in configs if fnmatch(name, pattern)]
    presets = [name for name, one in PRESETS.items() if kind in (None, "imgcls" if one.head == "classes" else "imgseg")]
    return [name for name in (*configs, *presets) if fnmatch(name, pattern)]


def kind_of(settings: Mapping[str, Any]) -> Kind:
    """Return the kind of a config's model. Raises InputError for a class that bixt3d does not know."""
    model = settings["model"]
    name = str(model.get("class_path") if isinstance(model, dict) else model).rpartition(".")[2]
    for one in known_classes():
        for kind, (base, _) in KINDS.items():
            if one.__name__ == name and issubclass(one, base):
                of_scenes = getattr(one, "reads_category", None) is False or _reads_no_category(model)
                return "scenes" if kind == "partseg" and of_scenes else kind
    names = [one.__name__ for one in known_classes() if issubclass(one, tuple(base for base, _ in KINDS.values()))]
    hint = nearest(name, names)
    hint = hint if "did you mean" in hint else ": import your own class, and build it as its constructor says"
    raise InputError(f"'{name[:80]}' is no model of bixt3d{hint}")


def _reads_no_category(settings: Any) -> bool:
    """Return whether the settings of a segmenter say that it reads no category: then it is one of scenes."""
    if not isinstance(settings, dict):
        return False
    given = settings.get("init_args") or {}
    decoder = given.get("decoder") if isinstance(given.get("decoder"), dict) else {}
    return given.get("use_category") is False or (decoder.get("init_args") or {}).get("category_dim") == 0


def _create_preset(name: str, num_classes: int | None, pretrained: bool, changes: Mapping[str, Any]) -> FeatureModel:
    if num_classes is None and find_preset(name).head != "classes":
        raise InputError(f"say how many outputs '{name}' has: num_classes")
    num_classes = 1000 if num_classes is None else num_classes
    try:
        return make_preset(name, num_classes, pretrained, **changes)
    except TypeError as error:
        raise InputError(f"'{name}' does not take these settings: {error}") from error


def _changed(settings: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a class with ``changes`` applied."""
    settings = {"class_path": settings} if isinstance(settings, str) else dict(settings)
    given = dict(settings.get("init_args") or {})
    for name, value in changes.items():
        own = given.get(name)
        described = isinstance(own, dict) and "class_path" in own
        given[name] = _changed(own, value) if described and isinstance(value, dict) else value
    return settings | {"init_args": given}
