"""`bixt3d test`: evaluate a trained run again."""

import json
import sys
from argparse import ArgumentError, ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import nn

from bixt3d.config import SettingsParser
from bixt3d.datasets.transforms.feature_augment import without_features
from bixt3d.engine.fabric import Fabric
from bixt3d.engine.folder import shown_weights, weights_file, words_of
from bixt3d.engine.loop import Examples
from bixt3d.engine.report import read_rows
from bixt3d.engine.runtime import finish, rank_zero_first, start
from bixt3d.inference.runs import newest_of, read_run
from bixt3d.io.error_messages import enough_memory
from bixt3d.io.known_classes import command_line
from bixt3d.io.pretrained import name_of, results_folder, shown
from bixt3d.io.untrusted import read_yaml
from bixt3d.models.described import without_pretrained
from bixt3d.tasks.backends import choose_backends
from bixt3d.tasks.finishing import read_result
from bixt3d.tasks.inputs import check_features
from bixt3d.tasks.sets import load_sets
from bixt3d.tasks.settings import Run, make_run
from bixt3d.tasks.task import Task
from bixt3d.types import CloudSet, Features, InputError

WITHOUT = "features to leave out, such as rgb,intensity, of a model trained with --augment.feature_dropout"
BASELINE = "with --corrupted: run of a baseline, tested so too; its errors divide those of this run (mCE of ModelNet-C)"

RUNTIME = ("accelerator", "precision", "attention", "points", "deterministic")
"""Runtime settings that testing takes from a run's file: not the number of processes or threads."""


def test(task: Task, description: str | None, argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Evaluate a run, write result.json and report again; return the content of result.json."""
    parser = task.make_parser(description)
    parser.prog = task.command("test")
    where, rest = parse_place(parser, sys.argv[1:] if argv is None else argv, task)
    checkpoint = weights_file(where.checkpoint or newest_of(task), where.weights)
    rows = read_rows(checkpoint.parent / "metrics.csv")
    trained = open_run(task, parser, checkpoint, rest, where.without)
    path, run, fabric, model, examples = trained.path, trained.run, trained.fabric, trained.model, trained.test
    relate = task.relative_to(where.baseline, examples, run) if where.baseline else None
    evaluate = task.evaluate_more if where.more else task.evaluate
    with enough_memory(task.less_evaluation.format(batch=run.train.eval_batch_size)):
        evaluation = evaluate(model, examples, run, fabric, where.votes)
    facts = {"checkpoint": shown(path), "weights": words_of(path)}
    overrides = [word for word in rest if word != "--trust"]
    if overrides:
        facts["overrides"] = overrides
    if where.without:
        facts["without"] = where.without
    if task.votes:
        facts["votes"] = where.votes
    if task.more:
        facts[task.more[0]] = where.more
    result = task.describe_result(evaluation, model, fabric, facts)
    if relate:
        result |= {"baseline": str(where.baseline), **relate(result)}
    if fabric.is_global_zero:
        best = path.stem == "best_on_val"
        options = ["--weights", "best"] if best else []
        options += ["--votes", str(where.votes)] if task.votes else []
        options += [f"--{task.more[0]}"] if where.more else []
        options += ["--baseline", str(where.baseline)] if relate else []
        options += ["--without", where.without] if where.without else []
        options += overrides
        page = {
            "title": " ".join([f"{Path(name_of(path)).name}, evaluated", *options]),
            "result": result,
            "rows": rows,
            "command": command_line(task.command("test"), name_of(path), *options, trust=parser.trust),
            "settings": trained.config,
        }
        name = "_".join(["test", *["best"] * best, *Features.parse(where.without).names])
        out = where.out or results_folder(path) / name
        task.write_results(out, evaluation, examples, run, page, facts_of_training(path, task))
        print(evaluation.text())
        if relate:
            print(f"mean corruption error {result['mean_corruption_error']:.3f} (1: that of {where.baseline})")
        print(f"checkpoint: {shown_weights(path)}{f', votes: {where.votes}' if task.votes else ''}")
        print(f"report: {out / 'report.html'}")
    finish(fabric)
    return result


def facts_of_training(path: Path, task: Task) -> dict[str, Any]:
    """Return what a page says of the training of weights, as far as result.json beside them has it."""
    names = ("epochs", "seconds", "seed", f"{task.unit}_per_second")
    found = read_result(path.parent / "result.json") or {}
    return {name: found[name] for name in names if isinstance(found.get(name), int | float)}


def parse_place(parser: SettingsParser, argv: Sequence[str], task: Task) -> tuple[Namespace, list[str]]:
    """Split the command line into the options of testing, and overrides of the run's settings.

    ``--checkpoint`` may be left out if the run is the first argument.
    """
    if argv and not argv[0].startswith("-"):
        argv = ["--checkpoint", *argv]
    place = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    add_options(place, parser, task)
    try:
        where, rest = place.parse_known_args(argv)
    except ArgumentError as error:
        raise InputError(str(error)) from error
    if "--help" in rest or "-h" in rest:
        parser.parse_args(["--help"])
    if where.votes < 1:
        raise InputError(f"--votes must be at least 1, not {where.votes}")
    if where.baseline and not where.more:
        raise InputError(f"--baseline is for --{task.more[0]}: give both")
    return where, rest


def add_options(place: ArgumentParser, parser: SettingsParser, task: Task) -> None:
    """Add the options of testing to the parser that reads them, and to the one that prints the help."""
    place.add_argument("--checkpoint", type=Path)
    place.add_argument("--out", type=Path)
    place.add_argument("--weights", choices=("last", "best"), default="last")
    place.set_defaults(votes=1, more=False, without="", baseline=None)
    parser.add_argument("--checkpoint", help="RUN: run folder, or its model.safetensors (default: the newest run)")
    place_of = "test/ in the run folder, or in runs/NAME of pretrained weights"
    parser.add_argument("--out", help=f"folder for the results (default: {place_of})")
    parser.add_argument("--weights", help="last: of the last epoch (default); best: of the best epoch on validation")
    if task.votes:
        place.add_argument("--votes", type=int, default=1)
        parser.add_argument(
            "--votes", help="test-time augmentation: predictions to average for each cloud (default: 1)"
        )
    if task.unit == "clouds":
        place.add_argument("--without", default="")
        parser.add_argument("--without", help=WITHOUT)
    if task.more:
        option, words = task.more
        place.add_argument(f"--{option}", dest="more", action="store_true")
        parser.add_argument(f"--{option}", help=words)
    if task.has_baseline:
        place.add_argument("--baseline", type=Path)
        parser.add_argument("--baseline", help=BASELINE)


@dataclass
class TrainedRun:
    """A trained model on its device, with the test set, and the settings in use: those of its training, overridden."""

    path: Path
    config: str
    run: Run
    fabric: Fabric
    model: nn.Module
    test: Examples


def open_run(
    task: Task, parser: SettingsParser, checkpoint: Path, overrides: Sequence[str], without: str = ""
) -> TrainedRun:
    """Load a run folder, or its weights file; ``overrides`` change its settings, such as ``--data.root=FOLDER``.

    ``without``: features of the test set that are filled, as if they were missing. Raises InputError if the run is
    missing or of another task, if the data set has other classes or parts, or if the run was trained without feature
    dropout.
    """
    saved = read_run(checkpoint, task.name, "--trust" in overrides)
    path = saved.path
    config = json.dumps(own_settings(saved.config, f"config of {shown(path)}"))
    settings = parser.parse_args([f"--cfg={config}", *overrides])  # JSON, not the name of a file
    for name in vars(settings).keys() - {field.name for field in fields(Run)}:  # options of the program
        settings.pop(name)
    text = parser.dump(settings, skip_unset=False)
    run = make_run(parser, settings, model=False)
    described = read_yaml(text, "the settings")["model"]
    keep = run.runtime.keep_freed_memory or False  # by default only training keeps freed memory
    fabric = start(replace(run.runtime, keep_freed_memory=keep))
    test = rank_zero_first(fabric, lambda: load_sets(task, run))[1].to(fabric.device)
    check_names(path, task.names(test), saved.names)
    test = leave_out(test, without, saved.input.get("fill"), path) if without else test
    model = check_features(replace(saved, model=described, trust=parser.trust).load_model(), test)
    choose_backends(model, run.runtime)
    return TrainedRun(path, text, run, fabric, model.to(fabric.device), test)


def leave_out(test: CloudSet, without: str, fill: dict[str, list[float]] | None, path: Path) -> CloudSet:
    """Return the test set with some features filled as in feature dropout."""
    if not fill:
        raise InputError(f"{shown(path)} was not trained with --augment.feature_dropout: it needs all its features")
    names = Features.parse(without).names
    if unknown := [name for name in names if name not in test.features.names]:
        raise InputError(f"--without {unknown[0]}: the model reads {test.features}")
    return replace(test, feats=without_features(test.feats, test.features, names, fill))


def own_settings(config: str, source: str) -> dict[str, Any]:
    """Return the settings of a run without those that a file must not decide: processes, initial weights, workers."""
    settings = read_yaml(config, source)
    if not isinstance(settings, dict):
        raise InputError(f"{source} contains no settings")
    settings = without_pretrained(settings)
    runtime, train = (settings.get(group) or {} for group in ("runtime", "train"))
    if not (isinstance(runtime, dict) and isinstance(train, dict)):
        raise InputError(f"{source} contains no settings")
    settings["runtime"] = {name: value for name, value in runtime.items() if name in RUNTIME}
    settings["train"] = {name: value for name, value in train.items() if name != "init"}
    data = settings.get("data")
    for group in (data, data.get("init_args")) if isinstance(data, dict) else ():
        if isinstance(group, dict):
            group.pop("workers", None)
    return settings


def check_names(path: Path, given: dict[str, Any], kept: dict[str, Any]) -> None:
    """Raise InputError if the data set has other classes or parts than the weights were trained for."""
    for key, names in given.items():
        known = kept[key]
        if known != json.loads(json.dumps(names)):
            kind = {"class_names": "classes", "part_names": "parts"}.get(key, key.replace("_", " "))
            raise InputError(
                f"{shown(path)} was trained on {len(known)} {kind} ({_first(known)}), but the data set has "
                f"{len(names)} ({_first(names)}): give the data set of its training"
            )


def _first(names: Sequence[str]) -> str:
    return ", ".join(list(names)[:3]) + ", ..."
