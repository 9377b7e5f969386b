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


def read_model_config(config: str | Path) -> dict[str, Any]:
    """Return the settings of a config: its name, the path of a yaml file, or its text. Raises InputError."""
    text = str(config)
    if not is_text(text):
        text = str(find_config(text))
    settings = read_config(text)
    if not isinstance(settings, dict) or "model" not in settings:
        raise InputError(f"{'the config' if text is config else printable(text)} has no section 'model'")
    return settings


def make_described(settings: dict[str, Any], kind: Any) -> Any:
    """Return the function that builds the model of a config's settings, given its number of outputs."""
    parser = SettingsParser()
    parser.add_argument("--model", type=kind)
    parsed = parser.parse_object({"model": settings["model"]})
    follow_features(parsed.model, settings.get("data"))
    return parser.instantiate(parsed).model
