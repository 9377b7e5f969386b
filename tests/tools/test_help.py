"""The options that every command has stand in its --help."""

import pytest

from bixt3d.cli.main import call

COMMANDS = [["predict"], ["visualize"], ["export"]]
COMMANDS += [[verb, task] for verb in ("train", "test") for task in ("cls", "partseg", "imgcls", "imgseg")]


@pytest.mark.parametrize("command", [*COMMANDS, ["cost"]], ids=" ".join)
def test_trust_and_offline_stand_in_the_help_of_a_command(command, capsys):
    with pytest.raises(SystemExit) as caught:
        call([*command, "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0 and "--offline: fetch nothing" in words
    assert ("--trust: import classes" in words) == (command in COMMANDS)  # cost imports no class, and refuses it


@pytest.mark.parametrize("command", [["train", "cls"], ["test", "cls"]], ids=" ".join)
def test_the_help_of_all_settings_is_one_option_further(command, capsys):
    with pytest.raises(SystemExit) as caught:
        call([*command, "--help_settings"])
    said = capsys.readouterr().out
    assert caught.value.code == 0 and said.startswith(f"usage: bixt3d {' '.join(command)} ")
    assert "--optim.lr" in said and "--runtime.precision" in said
