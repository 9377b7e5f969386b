"""The options that every program has stand in its --help."""

from importlib import import_module

import pytest

PROGRAMS = ("predict", "visualize", "export")
PROGRAMS += tuple(f"{verb}_{task}" for verb in ("train", "test") for task in ("cls", "partseg", "imgcls", "imgseg"))


@pytest.mark.parametrize("program", [*PROGRAMS, "cost"])
def test_trust_and_offline_stand_in_the_help_of_a_program(program, capsys):
    with pytest.raises(SystemExit) as caught:
        import_module(program).main(["--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0 and "--offline: fetch nothing" in words
    assert ("--trust: import classes" in words) == (program in PROGRAMS)  # cost.py imports no class, and refuses it
