"""Every example does what its docstring says: these commands run, and print these lines."""

import ast
import re
import runpy
import shlex
from pathlib import Path

import pytest

from bixt3d.cli.main import call
from bixt3d.datasets.shapes.shapes import CLASS_NAMES
from bixt3d.tasks.classification import Classification

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


def commands(name: str) -> list[tuple[str, list[str]]]:
    """Return the commands in the docstring of an example, each with the lines that it prints."""
    text = ast.get_docstring(ast.parse((ROOT / "examples" / name).read_text(encoding="utf-8"))) or ""
    found: list[tuple[str, list[str]]] = []
    for line in re.sub(r"\\\n *", "", text).splitlines():
        if line.startswith("    $ "):
            found.append((line.removeprefix("    $ "), []))
        elif line.startswith("    ") and found:
            found[-1][1].append(line)
    return found


def pattern(lines: list[str]) -> str:
    """Return what output must match: numbers, names of classes and spaces may differ, ``...`` is any lines."""
    found = []
    for line in lines:
        text = re.escape(" ".join(line.split()))
        text = re.sub(r"\d+", r"\\d+", text)
        text = re.sub(rf"\b({'|'.join(CLASS_NAMES)})\b", r"\\w+", text)
        found.append(r"(?:.*\n)*?" if text == re.escape("...") else text + r"\n")
    return "".join(found)


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command in this process."""
    program, *arguments = shlex.split(command)
    if program == "bixt3d":
        call(arguments)
        return
    assert program == "python" and arguments[0].startswith("examples/")
    monkeypatch.setattr("sys.argv", arguments)
    runpy.run_path(arguments[0], run_name="__main__")


def test_output_is_compared_but_for_numbers_names_and_spaces():
    lines = ["epoch 1: loss 2.60", "...", "  89.5%  chair"]
    assert re.fullmatch(pattern(lines), "epoch 2: loss 13.1\nx\ny\n100.0% bottle\n")
    assert not re.fullmatch(pattern(lines), "epoch 2: loss nan\nx\n100.0% bottle\n")
    assert not re.fullmatch(pattern(lines), "epoch 2: loss 13.1\n100.0% bottle\nz\n")


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_prints_what_its_docstring_says(name, tmp_path, monkeypatch, capsys):
    (tmp_path / "examples").symlink_to(ROOT / "examples", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Classification, "write_report", lambda *_: None)  # pictures take longer than all the rest
    assert commands(name)
    for command, lines in commands(name):
        capsys.readouterr()
        run(command, monkeypatch)
        printed = "".join(" ".join(line.split()) + "\n" for line in capsys.readouterr().out.splitlines())
        assert re.fullmatch(pattern(lines), printed), f"{command} printed\n{printed}"


def test_the_table_of_examples_names_each_one():
    table = re.findall(r"^\| \[(\w+\.py)\]\((\w+\.py)\)", (ROOT / "examples/README.md").read_text(), flags=re.MULTILINE)
    assert EXAMPLES and sorted(name for name, _ in table) == EXAMPLES
    assert all(name == link for name, link in table)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short_enough_to_copy(name):
    assert 30 < len((ROOT / "examples" / name).read_text().splitlines()) <= 110
