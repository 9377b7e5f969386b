"""``bixt3d list configs|models|runs``, and ``bixt3d list models --pretrained``."""

import re
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bixt3d.cli.choice import TASKS
from bixt3d.cli.download import SETS
from bixt3d.cli.parser import Parser
from bixt3d.io.named_configs import known_configs

SELF_MADE = ("Shapes", "Rooms", "Tiles")
"""Procedural data sets, which need no files."""
DEFAULT_SETS = {"ShapeNetPart": "shapenetpart"}
"""The data set that a class reads by default."""


class Config(NamedTuple):
    """A config of the package."""

    name: str
    task: str
    about: str
    data: str
    model: str


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("list", "List the configs and models of bixt3d, or your runs.")
    parser.add_argument("what", choices=("configs", "models", "runs"), help="what to list")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs"), help="where runs are (default: runs)")
    parser.add_argument("--pretrained", action="store_true", help="list the trained weights that come with bixt3d")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print a list."""
    arguments = make_parser().parse_args(argv)
    if arguments.pretrained:
        print(pretrained_text(arguments.what))
    elif arguments.what == "runs":
        print(runs_text(arguments.folder))
    else:
        print({"configs": configs_text, "models": models_text}[arguments.what]())


def read_configs() -> list[Config]:
    """Return all configs with their descriptions."""
    import yaml

    return [read_config(name, text, yaml.safe_load(text)) for name, text in _texts().items()]


def _texts() -> dict[str, str]:
    return {name: path.read_text(encoding="utf-8") for name, path in known_configs().items()}


def read_config(name: str, text: str, settings: dict[str, Any]) -> Config:
    """Return a config: the comment above its command as description, its task, data set and model."""
    comment = [line[1:] for line in text.splitlines() if line.startswith("#")]
    about = []
    for line in comment:
        if line.startswith("   "):  # the command
            break
        about.append(line.strip())
    task = re.search(r"train[_ ](cls|partseg|scenes|imgcls|imgseg)\b", "\n".join(comment))
    model = settings["model"]["class_path"]
    return Config(name, task[1] if task else "?", " ".join(about), data_words(settings.get("data")), model)


def data_words(data: dict[str, Any] | None) -> str:
    """Return the folder of a config's data, and the command that downloads it; the config before it without class."""
    if "class_path" not in (data or {}):
        return "the data of the config before it"
    root = (data.get("init_args") or {}).get("root", "")
    if data["class_path"] in SELF_MADE:
        return "no data: a procedural set, generated in memory"
    known = DEFAULT_SETS.get(data["class_path"]) if not root else None
    known = known or next((name for name, one in SETS.items() if Path(root).name == Path(one.folder).name), None)
    place = root or f"data/{SETS[known].folder}" if known else root
    return f"{place}: " + (f"bixt3d download {known}" if known else "by hand, see data/README.md")


def configs_text() -> str:
    """Return the configs by task: name, description and data set."""
    lines, width = [], min(120, shutil.get_terminal_size((100, 24)).columns)
    configs = read_configs()
    for task in TASKS:
        lines += ["", f"bixt3d train {task} --cfg NAME", ""]
        for config in (one for one in configs if one.task == task):
            lines.append(f"  {config.name}")
            for words in (config.about, f"needs {config.data}"):
                lines += textwrap.wrap(words, width, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines[1:])


def models_text() -> str:
    """Return the models of `create_model`: cloud models of the configs, and image presets of the paper's tables."""
    from bixt3d.cli.runs import table
    from bixt3d.models.image_preset_table import PRESETS

    clouds = [["NAME", "CLASS"], *([c.name, c.model] for c in read_configs() if c.task in ("cls", "partseg", "scenes"))]
    heads = {"classes": "classifier", "linear": "segmenter, linear", "fpn": "segmenter, Semantic FPN"}
    images = [["NAME", "WHAT", "ENCODER", "TOKENS", "PIXELS", "REPORTED TOP-1", "WEIGHTS"]]
    for name, preset in PRESETS.items():
        tokens = (preset.size // preset.stride) ** 2
        top1 = f"{preset.top1:.2f} %" if preset.top1 else "-"
        released = "released" if preset.figshare else "-"
        images.append([name, heads[preset.head], preset.encoder, str(tokens), str(preset.size), top1, released])
    return "\n".join(
        [
            "clouds: bixt3d.create_model(NAME, num_classes); part segmenters: also num_categories",
            "",
            table(clouds),
            "",
            "images: bixt3d.create_model(NAME, num_classes, pretrained=True) for released weights",
            "",
            table(images),
        ]
    )


def pretrained_text(what: str) -> str:
    """Return the trained weights that come with bixt3d. Raises InputError if others than models are to be listed."""
    from bixt3d.cli.runs import read_folder, table
    from bixt3d.errors import InputError
    from bixt3d.inference.runs import read_run
    from bixt3d.io.bounds import listed
    from bixt3d.io.pretrained import known_pretrained

    if what != "models":
        raise InputError(f"--pretrained is for models: bixt3d list models --pretrained, not {what}")
    rows = [["NAME", "TASK", "SCORE ON TEST", "CLASSES"]]
    for name, folder in known_pretrained().items():
        run, names = read_folder(folder), read_run(folder).names["class_names"]
        score = next(iter(run.headline))
        words = f"{score.replace('_', ' ')} {run.score_words(score)}"
        rows.append([name, run.task, words, f"{len(names)}: {listed(names, 5)}"])
    lines = ["bixt3d predict FILE --checkpoint NAME, load_pretrained(NAME); bixt3d info NAME describes them", ""]
    return "\n".join([*lines, table(rows)])


def runs_text(root: Path) -> str:
    """Return the runs below a folder, oldest first. Raises InputError if there are none."""
    from bixt3d.cli.runs import duration, find_runs, read_folder, table
    from bixt3d.errors import InputError
    from bixt3d.io.bounds import printable

    runs, faults = [], []
    for folder in find_runs(root):
        try:
            runs.append(read_folder(folder))
        except InputError as error:
            faults.append(f"not read: {printable(error)}")
    if not runs and not faults:
        raise InputError(
            f"there are no runs below {printable(root)}: train one with `bixt3d train cls --cfg shapes_cls`"
        )
    rows = [["RUN", "TASK", "STATE", "SCORE ON TEST", "TIME"]]
    for run in sorted(runs, key=lambda run: run.began):
        name = next(iter(run.headline), None)
        score = f"{name.replace('_', ' ')} {run.score_words(name)}" if name and run.score(name) is not None else "-"
        rows.append([str(run.folder), run.task, run.state, score, duration(run.last_result.get("seconds"))])
    return "\n".join([table(rows), *faults] if runs else faults)
