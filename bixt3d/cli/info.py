"""``bixt3d info RUN|FILE ...``: describe runs, and files of clouds, meshes or images."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bixt3d.cli.parser import Parser
from bixt3d.errors import InputError
from bixt3d.io.bounds import printable
from bixt3d.io.offline import OFFLINE

Facts = dict[str, Any]


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("info", "Describe runs, and files of clouds, meshes or images.", OFFLINE)
    parser.add_argument(
        "places",
        nargs="+",
        metavar="RUN_OR_FILE",
        help="run folder, its model.safetensors, name of pretrained weights, or a file",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one line of JSON for each, with numbers under details"
    )
    parser.add_argument("--trust", action="store_true", help="import classes that are not bixt3d's: runs their code")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Describe all places; returns the exit code: 0, 1 if some could not be read, 2 if none could."""
    arguments = make_parser().parse_args(argv)
    faults = 0
    for number, place in enumerate(arguments.places):
        try:
            facts = facts_of(Path(place), arguments.trust)
        except InputError as error:
            faults += 1
            print(f"error: {printable(error)}", file=sys.stderr)
            continue
        if arguments.json:
            print(json.dumps(facts))
        else:
            print(f"\n{text_of(facts)}" if number else text_of(facts))
    return 0 if not faults else 2 if faults == len(arguments.places) else 1


def facts_of(place: Path, trust: bool = False) -> Facts:
    """Return the facts about a run or a file, in JSON types. Raises InputError if it is neither."""
    from bixt3d.io.pretrained import find_run

    run = find_run(place)
    if run != place:
        from bixt3d.cli.info_runs import run_facts

        return {"place": str(place)} | run_facts(run, trust, str(place))
    if place.is_dir() or place.suffix.lower() == ".safetensors":
        from bixt3d.cli.info_runs import run_facts

        return {"place": str(place)} | run_facts(place, trust)
    if not place.exists():
        from bixt3d.engine.folder import near_run

        raise InputError(f"there is no run or file {printable(place)}" + near_run(place))
    from bixt3d.cli.info_files import file_facts

    return {"place": str(place)} | file_facts(place)


def text_of(facts: Mapping[str, Any]) -> str:
    """Return the facts as text: a title, and a line for each."""
    rest = {
        name: value
        for name, value in facts.items()
        if name not in ("place", "what", "details") and value not in (None, [], {})
    }
    width = max(map(len, rest))
    lines = [printable(f"{facts['place']}: {facts['what']}")]
    for name, value in rest.items():
        for number, line in enumerate(value if isinstance(value, list) else [words_of(value)]):
            lines.append(printable(f"  {'' if number else name.replace('_', ' '):<{width}}  {words_of(line)}"))
    return "\n".join(lines)


def words_of(value: Any) -> str:
    """Return a fact as text; entries of a dict are joined by commas."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {words_of(one)}" for name, one in value.items())
    if isinstance(value, list):
        return " ".join(map(words_of, value))
    if isinstance(value, float):
        return f"{value:.10g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
