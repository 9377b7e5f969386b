"""Evaluate a classifier on its test set: python tools/test_cls.py [--checkpoint RUN] [--votes 10]"""

import json
import sys
from argparse import ArgumentError, ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bixt3d.classification import (
    HOW_TO_TRAIN,
    TASK,
    class_logits,
    describe_result,
    make_parser,
    show_scores,
    write_results,
)
from bixt3d.config import run_program
from bixt3d.engine.checkpoint import fit_weights
from bixt3d.engine.metrics import score_classes
from bixt3d.engine.report import newest_run, read_rows
from bixt3d.engine.runtime import start
from bixt3d.predictor import read_run
from bixt3d.types import InputError


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Evaluate a run and write its files anew; returns what result.json holds."""
    place = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    place.add_argument("--checkpoint", type=Path)
    place.add_argument("--votes", type=int, default=1)
    place.add_argument("--out", type=Path)
    try:
        where, rest = place.parse_known_args(sys.argv[1:] if argv is None else argv)
    except ArgumentError as error:
        raise InputError(str(error)) from error
    parser = make_parser(__doc__)
    parser.add_argument("--checkpoint", help="run folder, or its model.safetensors (default: the newest run)")
    parser.add_argument("--votes", help="average the prediction over so many scalings of each cloud (default: 1)")
    parser.add_argument("--out", help="folder for the results (default: test/ in the run folder)")
    if "--help" in rest or "-h" in rest:
        parser.parse_args(["--help"])
    if where.votes < 1:
        raise InputError(f"--votes must be at least 1, not {where.votes}")
    path, weights, metadata = read_run(where.checkpoint or newest_run(Path("runs"), TASK, HOW_TO_TRAIN))
    settings = parser.parse_args([f"--cfg={_as_argument(metadata['config'])}", *rest])
    run = parser.instantiate(settings)
    fabric = start(run.runtime)
    _, test = run.data.load()
    test = test.to(fabric.device)
    class_names = tuple(json.loads(metadata["class_names"]))
    if test.class_names != class_names:
        raise InputError(
            f"{path} knows {len(class_names)} classes ({', '.join(class_names[:3])}, ...), but the data set has "
            f"{len(test.class_names)} ({', '.join(test.class_names[:3])}, ...): give the data it was trained on"
        )
    model = run.model(len(class_names))
    fit_weights(model, weights, str(path))
    logits = class_logits(model.to(fabric.device), test, run, fabric, where.votes)
    scores = score_classes(logits, test.label, class_names)
    result = describe_result(scores, model, fabric, {"checkpoint": str(path), "votes": where.votes})
    if fabric.is_global_zero:
        page = {
            "title": f"{path.parent.name}, evaluated with {where.votes} votes",
            "rows": read_rows(path.parent / "metrics.csv"),
            "command": f"python tools/test_cls.py --checkpoint {path.parent} --votes {where.votes}",
            "settings": metadata["config"],
            "up": run.data.up,
        }
        out = where.out or path.parent / "test"
        write_results(out, result, scores, logits, test, page)
        print(show_scores(scores))
        print(f"checkpoint: {path}, votes: {where.votes}\nreport: {out / 'report.html'}")
    return result


def _as_argument(config: str) -> str:
    """Return a config as one line, which ``--cfg`` takes in place of a file."""
    return json.dumps(yaml.safe_load(config))


if __name__ == "__main__":
    run_program(main)
