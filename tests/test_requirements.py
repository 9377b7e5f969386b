"""What is installed: two files name bounds, and they must not drift apart."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_requirements_repeat_every_dependency_of_the_package_with_its_bound():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[(.*?)^\]", text, flags=re.DOTALL | re.MULTILINE)[1]
    core = re.findall(r'"([^"]+)"', block)
    listed = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert len(core) > 10
    assert not [dependency for dependency in core if dependency not in listed]


def test_what_must_be_compiled_is_in_a_file_of_its_own_and_named_in_the_other():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if line.startswith("torch-cluster")]
    assert [line for line in lines if line.startswith("#") and "requirements-cluster.txt" in line]
    assert "torch-cluster>=" in (ROOT / "requirements-cluster.txt").read_text(encoding="utf-8")
