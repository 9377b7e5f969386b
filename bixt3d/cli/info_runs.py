"""``bixt3d info RUN``: the model, its input, how it was trained, its scores, and the next commands."""

import shlex
from pathlib import Path
from typing import Any

from bixt3d.cli.choice import TASKS
from bixt3d.cli.runs import RunFolder, duration, read_folder
from bixt3d.engine.folder import RECORD
from bixt3d.inference.runs import SavedRun, read_run
from bixt3d.io.bounds import listed, shortened
from bixt3d.io.known_classes import command_line
from bixt3d.nn.feature_scale import FeatureScale
from bixt3d.types import Features

NAMES_SHOWN = 8
WEIGHTS = {"model.safetensors": "the last epoch", "best_on_val.safetensors": "the epoch that was best on validation"}


def run_facts(place: Path, trust: bool = False, name: str = "") -> dict[str, Any]:
    """Return the facts about a run: a folder, or a file of weights alone. ``name``: see `next_steps`.

    Raises InputError.
    """
    folder = read_folder(place) if place.is_dir() else None
    if folder is None or not ((place / RECORD).is_file() or folder.rows or folder.result):  # as save_pretrained writes
        saved = read_run(place, trust=trust)
        return (
            {"what": "the weights of a run"}
            | model_facts(saved)
            | next_steps(place, saved.task.name, None, trust, name)
        )
    if folder.seeds:
        return several_facts(folder)
    facts = {"what": f"a run, {folder.state}", "task": folder.task}
    if (place / "model.safetensors").is_file():
        facts |= model_facts(read_run(place, trust=trust))
    facts |= training_facts(folder) | file_facts(place) | next_steps(place, folder.task, folder, trust, name)
    return facts | {"details": facts.get("details", {}) | {"epochs": folder.epochs, "result": folder.result}}


def model_facts(run: SavedRun) -> dict[str, Any]:
    """Return the facts about a model; its weights are read and checked. Raises InputError if they are damaged."""
    model = run.load_model()
    names = run.names.get("class_names") or []
    parameters = sum(parameter.numel() for parameter in model.parameters())
    facts = {
        "task": run.task.name,
        "model": f"{shortened(run.model['class_path'])}, {parameters:,} parameters",
        "classes": f"{len(names)}: {listed(names, NAMES_SHOWN)}",
    }
    if parts := run.names.get("part_names"):
        facts["parts"] = f"{len(parts)}: {listed(parts, NAMES_SHOWN)}"
    if "num_points" in run.input:
        facts["reads"] = f"{run.input['num_points']:,} points, {run.input['up']} up, scaled to the unit sphere"
        facts["features"] = feature_words(Features.parse(run.input["features"]), model) or "none: positions alone"
    else:
        facts["reads"] = {key: value for key, value in run.input.items() if value is not None}
    return facts | {"details": {"parameters": parameters, "model": run.model, "input": run.input, **run.names}}


def feature_words(features: Features, model: Any) -> list[str]:
    """Return the point features that a model reads, with the statistics of its training set."""
    scale = next((part for part in model.modules() if isinstance(part, FeatureScale) and part.scales), None)
    lines = []
    for feature, columns in zip(features.columns, features.slices(), strict=True):
        words = f"{feature.name} ({feature.kind}, width {feature.width})"
        if scale is not None and feature.kind == "scalar":
            pairs = zip(scale.mean[columns].tolist(), scale.deviation[columns].tolist(), strict=True)
            shown = [f"{mean:.4g} +- {deviation:.4g}" for mean, deviation in pairs]
            words += f", over the training set {listed(shown, NAMES_SHOWN)}"
        lines.append(words)
    return lines


def training_facts(run: RunFolder) -> dict[str, Any]:
    """Return how a run was trained, and its scores."""
    result, last, seconds = run.result, run.last_result, run.last_result.get("seconds")
    speed = next(
        (f"{value:,.0f} {key.replace('_per_second', '/s')}" for key, value in last.items() if "_per_second" in key),
        None,
    )
    trained = [f"epoch {run.progress()}", f"seed {run.settings.get('seed', '?')}"]
    trained += [duration(seconds)] if seconds is not None else []
    trained += [speed] if speed is not None else []
    facts: dict[str, Any] = {"trained": ", ".join(trained), "began": run.began, "device": result.get("device")}
    facts["scores"] = score_lines(run)
    code = {"bixt3d": "version", "torch": "torch", "commit": "commit"}
    facts["code"] = ", ".join(f"{word} {result[key]}" for word, key in code.items() if result.get(key))
    return {name: value for name, value in facts.items() if value}


def score_lines(run: RunFolder) -> list[str]:
    """Return the scores on the test set, with epoch and convention."""
    if not run.headline:
        return []
    at = "last epoch, test set" if run.finished else "test set"
    lines = [", ".join(f"{name.replace('_', ' ')} {run.score_words(name)}" for name in run.headline) + f" ({at})"]
    result = run.last_result
    best = result.get("best_on_test")
    if isinstance(best, dict):
        known = {name: one for name, one in best.items() if name in run.headline}
        words = [
            f"{name.replace('_', ' ')} {one['value']:{run.headline[name].number_format}} (epoch {one['epoch']})"
            for name, one in known.items()
        ]
        lines.append(f"best epoch on the test set, chosen on it, so do not report it: {', '.join(words)}")
    groups = [group for group in (result, *result.values()) if isinstance(group, dict) and "convention" in group]
    lines += [f"convention: {shortened(str(group['convention']), 200)}" for group in groups[:1]]
    for group in groups[1:]:
        values = [
            f"{name.replace('_', ' ')} {group[name]:{score.number_format}}"
            for name, score in run.headline.items()
            if name in group
        ]
        lines.append(f"{', '.join(values)} by {shortened(str(group['convention']), 200)}")
    return lines


def file_facts(folder: Path) -> dict[str, Any]:
    """Return the weights and other files of a run folder."""
    weights = [f"{name}: {words}" for name, words in WEIGHTS.items() if (folder / name).is_file()]
    others = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir() if not path.name.startswith("."))
    config = folder / "config.yaml"
    return {
        "config": str(config) if config.is_file() else "none: in the weights alone",
        "weights": weights or "none yet",
        "files": listed([name for name in others if name not in WEIGHTS], 20),
    }


def several_facts(run: RunFolder) -> dict[str, Any]:
    """Return the facts about a run of several seeds: mean scores, and the folder of each run."""
    seeds = [f"{one.folder}: {one.state}" for one in run.runs_of_seeds()]
    seeds += [f"{place}: no run" for place in run.unfinished_seeds() if not (place / RECORD).is_file()]
    scores = ", ".join(f"{name.replace('_', ' ')} {run.score_words(name)}" for name in run.headline)
    return {
        "what": f"a run of seeds {', '.join(map(str, run.seeds or ()))}, {run.state}",
        "task": run.task,
        "scores": f"{scores} (mean and deviation over the seeds, last epoch, test set)" if run.finished else None,
        "runs": seeds,
        "next": [f"bixt3d info {shlex.quote(str(one.folder))}" for one in run.runs_of_seeds()],
        "details": {"seeds": list(run.seeds or ()), "result": run.result},
    }


def next_steps(place: Path, task: str, run: RunFolder | None, trust: bool, name: str = "") -> dict[str, list[str]]:
    """Return the next commands; ``run`` None: a file of weights alone; ``name``: of weights by name."""
    name = name or str(place)
    short = next((word for word, choice in TASKS.items() if choice.task == task), None)
    steps = []
    if run and short and not run.finished:
        steps.append(command_line(f"bixt3d train {short}", "--resume", name, trust=trust))
    if run is None or (place / "model.safetensors").is_file():
        steps += [command_line(f"bixt3d test {short}", name, trust=trust)] if short else []
        steps += [command_line("bixt3d predict FILE --checkpoint", name, trust=trust)]
        if short != "scenes":  # they are read in windows
            steps.append(command_line("bixt3d export", name, trust=trust))
    return {"next": steps}
