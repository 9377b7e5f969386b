"""Build models from the ``model`` section of config files, the same that training reads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bixt3d.models.baselines  # noqa: F401 (classes that a config may name)
import bixt3d.models.classifier
import bixt3d.nn.refinement
import bixt3d.tokenizers  # noqa: F401
from bixt3d.config import SettingsParser, follow_features, is_text, read_config
from bixt3d.io.bounds import printable
from bixt3d.io.named_configs import find_config
from bixt3d.models.classifier import CloudClassifier
from bixt3d.models.segmenter import CloudSegmenter
from bixt3d.types import InputError

MakeClassifier = Callable[[int], CloudClassifier]
MakeSegmenter = Callable[[int, int], CloudSegmenter]


def build_model(config: str | Path, num_classes: int) -> CloudClassifier:
    """Build the classifier of a config: its name (``modelnet40_grouping``), the path of a yaml file, or its text.

    Unless the model's settings name the point features that it reads, they are ``data.init_args.features`` of the
    config, or none. The weights are random. Raises InputError for an unknown name or settings that do not fit.
    """
    return _make(config, MakeClassifier)(num_classes)


def build_segmenter(config: str | Path, num_parts: int, num_categories: int) -> CloudSegmenter:
    """Build the part segmenter of a config (``shapenetpart_encdec``); see `build_model`."""
    return _make(config, MakeSegmenter)(num_parts, num_categories)


def read_model_config(config: str | Path) -> dict[str, Any]:
    """Return the settings of a config: its name, the path of a yaml file, or its text. Raises InputError."""
    text = str(config)
    if not is_text(text):
        text = str(find_config(text))
    settings = read_config(text)
    if not isinstance(settings, dict) or "model" not in settings:
        raise InputError(f"{'the config' if text is config else printable(text)} has no section 'model'")
    return settings


def _make(config: str | Path, kind: Any) -> Any:
    return make_described(read_model_config(config), kind)


def make_described(settings: dict[str, Any], kind: Any) -> Any:
    """Return the function that builds the model of a config's settings, given its number of outputs."""
    parser = SettingsParser()
    parser.add_argument("--model", type=kind)
    parsed = parser.parse_object({"model": settings["model"]})
    follow_features(parsed.model, settings.get("data"))
    return parser.instantiate(parsed).model
