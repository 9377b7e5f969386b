"""SECURITY.md: every test that it names exists."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TEXT = (TESTS.parent / "SECURITY.md").read_text(encoding="utf-8")


def named_tests() -> list[tuple[str, str]]:
    """Return file and function of every test that SECURITY.md names; ``::name`` is in the file named before it."""
    file, found = "", []
    for path, name in re.findall(r"`([\w/]+\.py)?(?:::(\w+))?`", TEXT):
        file = path or file
        if path or name:
            found.append((file, name))
    return found


NAMED = named_tests()


def functions(path: Path) -> set[str]:
    return {
        node.name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)
    }


def test_each_promise_names_a_test():
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert len(rows) > 15 and len(NAMED) > 30
    assert not [row for row in rows if not re.search(r"test_\w+|the same", row.rsplit(" | ", 1)[1])]


@pytest.mark.parametrize(("file", "name"), NAMED, ids=["::".join(one) for one in NAMED])
def test_a_test_that_is_named_exists(file, name):
    assert (TESTS / file).is_file()
    assert not name or name in functions(TESTS / file)
