"""The front door in Python: `bixt3d` gives what one calls or derives from, and costs nothing until then."""

import ast
import doctest
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

import bixt3d

PACKAGE = Path(bixt3d.__file__).parent
ROOMS = ("datasets", "models", "ops", "tokenizers")


def imports_for_editors() -> dict[str, str]:
    """Return the module of every name that ``if TYPE_CHECKING`` imports as a public one."""
    body = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")).body
    (block,) = (node for node in body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    return {alias.asname: node.module for node in block.body for alias in node.names if alias.asname == alias.name}


def test_editors_and_python_see_the_same_names_in_the_same_modules():
    assert imports_for_editors() == bixt3d._HOMES
    assert len(bixt3d._HOMES) == len(bixt3d.__all__) - 1 > 80  # and no name is given twice
    assert {*bixt3d.__all__} <= {*dir(bixt3d)}


def test_every_public_name_is_there():
    values = {name: getattr(bixt3d, name) for name in bixt3d.__all__}
    assert all(value.__name__ == name for name, value in values.items() if isinstance(value, type))
    assert bixt3d.Features is values["Features"]
    with pytest.raises(AttributeError, match="module 'bixt3d' has no attribute 'BixtEncode'"):
        _ = bixt3d.BixtEncode


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_room_gives_is_public(room: str):
    assert {*import_module(f"bixt3d.{room}").__all__} <= {*bixt3d.__all__}


def test_the_package_is_imported_without_torch():
    code = "import sys; before = set(sys.modules); import bixt3d; assert bixt3d.__version__; dir(bixt3d)\n"
    code += "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert found.stdout.split() == ["bixt3d"]


def test_type_checkers_are_told_that_there_are_types():
    assert (PACKAGE / "py.typed").read_bytes() == b""
    assert '"bixt3d" = ["py.typed",' in (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")


def examples() -> list[doctest.DocTest]:
    """Return the examples in the docstrings of public names; each may use all of these, and torch."""
    scope = {name: getattr(bixt3d, name) for name in bixt3d.__all__} | {"torch": torch}
    finder = doctest.DocTestFinder(exclude_empty=True, recurse=False)
    tests = [test for name, one in scope.items() if name != "torch" for test in finder.find(one, name, globs=scope)]
    return sorted((test for test in tests if test.examples), key=lambda test: test.name)


EXAMPLES = examples()


def test_the_most_used_names_have_an_example():
    wanted = {"BixtClassifier", "BixtEncoder", "BixtImageClassifier", "Cloud", "CloudAugment", "CloudSet", "Features"}
    wanted |= {"GroupTokenizer", "PointMLP", "PointTokenizer", "Shapes", "bi_attention", "farthest_points", "knn"}
    assert wanted <= {test.name for test in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda test: test.name)
def test_an_example_does_what_it_says(example: doctest.DocTest):
    said: list[str] = []
    found = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=said.append)
    assert found.failed == 0, "".join(said)
