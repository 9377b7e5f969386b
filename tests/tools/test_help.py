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
