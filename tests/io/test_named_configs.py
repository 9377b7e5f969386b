"""Configs by name or path; an unknown one is refused with the nearest name."""

from pathlib import Path

import pytest

from bixt3d.config import SettingsParser, make_settings_parser
from bixt3d.errors import InputError
from bixt3d.io.named_configs import find_config, known_configs


def test_every_config_of_the_checkout_is_known_by_its_name():
    files = sorted((Path(__file__).parents[2] / "cfgs").glob("*.yaml"))
    assert len(files) > 20 and known_configs() == {path.stem: path for path in files}


def test_a_name_and_a_path_lead_to_the_same_file(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    by_name = find_config("shapes_cls")
    assert by_name.is_file() and find_config(str(by_name)) == by_name


def test_a_file_of_that_name_comes_first(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("shapes_cls").write_text("seed: 3")
    assert find_config("shapes_cls") == Path("shapes_cls")


def test_a_folder_of_that_name_does_not_hide_a_config(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("shapes_cls").mkdir()
    assert find_config("shapes_cls").is_file()


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("shapes_clss", "there is no config 'shapes_clss'; did you mean 'shapes_cls'?"),
        ("cfgs/shapes_cls.yaml", "there is no config file cfgs/shapes_cls.yaml; did you mean 'shapes_cls'?"),
        ("elsewhere/run.yaml", "there is no config file elsewhere/run.yaml$"),
        ("\x1b[31m", "there is no config '.x1b"),
    ],
)
def test_an_unknown_config_is_refused_with_the_nearest_name(place, sentence, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # no checkout
    with pytest.raises(InputError, match=sentence.replace("?", r"\?")):
        find_config(place)


@pytest.mark.parametrize("arguments", [["--cfg", "ours"], ["--cfg=ours"], ["--cfg=ours", "--seed=3"]])
def test_settings_are_read_by_the_name_of_their_config(arguments, monkeypatch, tmp_path):
    (tmp_path / "ours.yaml").write_text("seed: 3")
    monkeypatch.setattr("bixt3d.io.named_configs.known_configs", lambda: {"ours": tmp_path / "ours.yaml"})
    parser: SettingsParser = make_settings_parser("a test")
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args(arguments)
    assert settings.seed == 3 and str(settings.cfg[-1]) == str(tmp_path / "ours.yaml")
