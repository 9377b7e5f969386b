"""Release the weights of a run: a folder of bixt3d/pretrained/ with weights, settings, result and model card.

    python benchmarks/release.py NAME RUN [--verify | --test]

NAME has an entry in benchmarks/releases.yaml: what it was trained on and its licence, what it is for, and its limits;
all else on the card is taken from the run. Weights are stored as they were evaluated (float32; those of the exponential
moving average, if the run has one); paths of this machine are replaced by those of the config. The table of
docs/pretrained.md is written anew. --verify runs the command on the card that reproduces the figures, and compares
them; --test takes the figures from it, for weights older than a change of the test. A release is a run too.
"""

import argparse
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from bixt3d.cli.choice import TASKS
from bixt3d.cli.main import call
from bixt3d.cli.runs import RunFolder, duration, read_folder
from bixt3d.errors import InputError
from bixt3d.inference.runs import read_run
from bixt3d.io.bounds import listed
from bixt3d.io.named_configs import config_file
from bixt3d.io.pretrained import WEIGHTS
from bixt3d.io.weights import load_weights, save_weights

ROOT = Path(__file__).parents[1]
PRETRAINED = ROOT / "bixt3d" / "pretrained"
PAGE = ROOT / "docs" / "pretrained.md"
COPIED = ("metrics.csv", "result.json", "run.json")
OF_A_MACHINE = re.compile(r"(?<![\w.])/(root|home|work|tmp|mnt|Users)/")
OF_TRAINING = ("commit", "torch", "version", "device", "seed", "weights", "epochs", "seconds", "peak_memory")
"""What the result of a test says of itself, and not of the scores."""
IN_ALL = 25_000_000
"""Bytes of all weights together, at most: they are part of the wheel."""
HUB_TASKS = {"imgcls": "image-classification"}
CONVENTIONS = {
    "cls": "share of the test clouds whose likeliest class is the true one; mean over the classes of the same",
    "imgcls": "share of the test images whose true class is the likeliest one, or one of the five likeliest",
}
CARD = (ROOT / "benchmarks" / "release_card.md").read_text(encoding="utf-8")
"""The text of a card."""


def release(name: str, run: Path, verify: bool = False, test: bool = False) -> Path:
    """Write the folder of a release; return it. Raises InputError, and writes nothing, for a run that cannot be one.

    ``verify``: compare the figures of the run with those of its weights, tested again; ``test``: take the latter.
    """
    entries = yaml.safe_load((ROOT / "benchmarks" / "releases.yaml").read_text(encoding="utf-8"))
    if name not in entries:
        raise InputError(f"benchmarks/releases.yaml has no entry '{name}': it has {', '.join(entries)}")
    found = read_folder(run)
    if not found.finished:
        raise InputError(f"{run} is {found.state}: a release is a finished run of one seed")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name
        folder.mkdir()
        write_release(folder, name, entries[name], found)
        check_release(folder)
        tested = call(["test", str(folder), f"--out={folder.parent / 'test'}"]) if verify or test else {}
        if verify:
            check_figures(tested, found)
        if test:
            use_figures(folder, name, entries[name], found, tested)
        shutil.rmtree(PRETRAINED / name, ignore_errors=True)
        shutil.copytree(folder, PRETRAINED / name)
    write_table(entries)
    return PRETRAINED / name


def write_release(folder: Path, name: str, entry: Mapping[str, Any], run: RunFolder) -> None:
    """Write weights, settings, result and card."""
    weights, metadata = load_weights(run.folder / WEIGHTS)
    public = yaml.safe_load(config_file(entry["config"]).read_text(encoding="utf-8"))
    settings = dict(run.settings)
    root = (public["data"].get("init_args") or {}).get("root")
    if root is not None:
        settings["data"]["init_args"]["root"] = root
    settings["train"].pop("init", None)
    config = yaml.safe_dump(settings, sort_keys=False)
    save_weights(folder / WEIGHTS, weights, metadata | {"config": config})
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    for one in COPIED:
        shutil.copyfile(run.folder / one, folder / one)
    (folder / "README.md").write_text(card(name, entry, run, folder), encoding="utf-8")


def card(name: str, entry: Mapping[str, Any], run: RunFolder, folder: Path) -> str:
    """Return the model card: yaml for the Hugging Face hub, and text."""
    saved, result = read_run(folder), run.result
    program, names = saved.task.program, saved.names["class_names"]
    average = float((run.settings.get("optim") or {}).get("ema") or 0)
    rows = [
        f"| {words_of(key)} | {100 * result[key]:.2f} |"
        for key in (*run.headline, "accuracy", "expected_calibration_error")
        if key in result
    ]
    parts = saved.names.get("part_names")
    values = {
        "name": name,
        "program": program,
        "task": saved.task.name,
        "model": str(saved.model["class_path"]).rpartition(".")[2],
        "classes": f"{len(names)}: {listed(names, 100)}" + (f"; {len(parts)} parts" if parts else ""),
        "reads": "; ".join(f"{key.replace('_', ' ')} {value}" for key, value in saved.input.items() if value != ""),
        "time": duration(result["seconds"]),
        "weights": f"exponential moving average of the parameters, decay {average}"
        if average
        else "of the last update",
        "figures": "\n".join(rows),
        "convention": result.get("convention") or CONVENTIONS[program],
        "tested": f" (tested at commit {result['tested_at']})" if "tested_at" in result else "",
        "changes": f" with {entry['changes']}" if entry.get("changes") else "",
        **{key: result[key] for key in ("parameters", "commit", "torch", "seed", "device", "epochs")},
        **{key: entry[key] for key in ("title", "config", "data", "page", "licence", "split", "selection", "needs")},
        **{key: entry[key] for key in ("use", "limits", "weights_licence")},
    }
    return f"---\n{front_matter(name, entry, run, program)}\n---\n\n{CARD.format(**values)}"


def words_of(score: str) -> str:
    """Return the name of a score as text."""
    return score.replace("_", " ").replace("miou", "mIoU").replace("top", "top-")


def front_matter(name: str, entry: Mapping[str, Any], run: RunFolder, program: str) -> str:
    """Return the yaml at the head of the card, with the figures as evaluation results."""
    from huggingface_hub import EvalResult, ModelCardData

    what = HUB_TASKS.get(program, f"point-cloud-{TASKS[program].task.replace(' ', '-')}")
    results = [
        EvalResult(
            task_type=what,
            dataset_type=entry["data_type"],
            dataset_name=entry["data_name"],
            dataset_split="test",
            metric_type="accuracy" if "accuracy" in key or key.startswith("top") else "mean_iou",
            metric_name=words_of(key),
            metric_value=round(float(run.result[key]), 6),
        )
        for key in run.headline
    ]
    data = ModelCardData(
        model_name=name,
        eval_results=results,
        library_name="bixt3d",
        license=entry["license"],
        license_name=entry.get("license_name"),
        license_link=entry.get("license_link"),
        tags=["bixt", "image" if program.startswith("img") else "point-cloud", what],
        metrics=sorted({one.metric_type for one in results}),
        pipeline_tag=HUB_TASKS.get(program),
    )
    return data.to_yaml()


def write_table(entries: Mapping[str, Any]) -> None:
    """Write the table of all released weights into the page on them."""
    rows = []
    for name in (one for one in entries if (PRETRAINED / one).is_dir()):
        run = read_folder(PRETRAINED / name)
        score = next(iter(run.headline))
        words = f"{words_of(score)} {100 * run.result[score]:.2f}"
        rows.append(f"| `{name}` | {entries[name]['tells']} | {entries[name]['data_name']} | {words} |\n")
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(
        re.sub(r"(?<=\|---\|---\|---\|---\|\n)(\| `.*\n)+", lambda _: "".join(rows), text), encoding="utf-8"
    )


def check_release(folder: Path) -> None:
    """Raise InputError for text that names places of this machine, for weights that do not load, or too many bytes."""
    for path in folder.iterdir():
        content = path.read_bytes()
        text = content.decode("utf-8", errors="ignore") if path.suffix != ".safetensors" else header_of(content)
        if found := OF_A_MACHINE.search(text):
            raise InputError(f"{path.name} names a place of this machine: {text[found.start() : found.start() + 60]}")
    read_run(folder).load()
    others = [path for path in PRETRAINED.rglob("*") if path.is_file() and path.parent.name != folder.name]
    size = sum(path.stat().st_size for path in (*others, *folder.iterdir()))
    if size > IN_ALL:
        raise InputError(f"all released weights would have {size:,} bytes, and at most {IN_ALL:,} are released")


def header_of(content: bytes) -> str:
    """Return the header of a safetensors file, which has the metadata."""
    return content[8 : 8 + int.from_bytes(content[:8], "little")].decode("utf-8")


def check_figures(tested: Mapping[str, Any], run: RunFolder) -> None:
    """Raise InputError if the released weights, tested again, have other figures than the run."""
    for key in run.headline:
        if round(tested[key], 4) != round(run.result[key], 4):
            raise InputError(f"{key} is {tested[key]:.4%} from the released weights, {run.result[key]:.4%} in the run")


def use_figures(folder: Path, name: str, entry: Mapping[str, Any], run: RunFolder, tested: Mapping[str, Any]) -> None:
    """Write the figures of a test in place of those of the run, and the commit at which they were tested."""
    scores = {key: value for key, value in tested.items() if key in run.result and key not in OF_TRAINING}
    result = {key: value for key, value in run.result.items() if key != "best_on_test"}
    result |= scores | {"tested_at": tested["commit"]}
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card(name, entry, replace(run, result=result), folder), encoding="utf-8")


def main() -> None:
    """Release a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the release, of benchmarks/releases.yaml")
    parser.add_argument("run", type=Path, help="run folder")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--verify", action="store_true", help="reproduce the figures with the released weights")
    how.add_argument("--test", action="store_true", help="take the figures from a test of the released weights")
    given = parser.parse_args()
    try:
        folder = release(given.name, given.run, given.verify, given.test)
    except InputError as error:
        parser.exit(2, f"error: {error}\n")
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size / 1e6:.2f} MB; see its README.md")


if __name__ == "__main__":
    main()
