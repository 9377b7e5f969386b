"""``bixt3d list``: configs, models and runs."""

import subprocess
import sys
from pathlib import Path

import pytest
from written_runs import write_run_folder, write_seeds

from bixt3d.cli.choice import TASKS
from bixt3d.cli.list import main, read_configs
from bixt3d.io.named_configs import config_file, known_configs
from bixt3d.models.image_preset_table import PRESETS
from bixt3d.types import InputError

ROOT = Path(__file__).parents[2]


def test_every_config_says_its_task_what_it_is_and_how_its_data_come():
    configs = {config.name: config for config in read_configs()}
    assert set(configs) == {path.stem for path in (ROOT / "cfgs").glob("*.yaml")}
    assert len(configs) > 20
    for config in configs.values():
        assert config.task in tuple(TASKS), config.name
        assert config.about and "train" not in config.about.split()[0]
    assert configs["modelnet10_small"].data == "data/modelnet10_ply_hdf5_1024: bixt3d download modelnet10"
    assert configs["psb_encdec"].data == "data/psb_partseg: bixt3d download psb"
    assert configs["psb_encdec"].about.endswith("a small BiXT with PointMLP's decoder, for 2 CPU cores")
    assert configs["shapenetpart_naive"].data.endswith("bixt3d download shapenetpart")
    assert configs["shapes_cls"].data == "no data: a procedural set, generated in memory"
    assert configs["imagenet_ti16"].data == "data/imagenet: by hand, see data/README.md"


def test_configs_are_printed_by_task_and_torch_is_not_imported():
    code = "import sys; from bixt3d.cli.list import main; main(['configs']); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "  modelnet10_grouping\n" in done.stdout.partition("bixt3d train partseg --cfg NAME")[0]
    assert "  psb_encdec\n" in done.stdout.partition("bixt3d train partseg --cfg NAME")[2]


def test_the_list_knows_the_configs_that_a_name_finds():
    assert all(config_file(name) == path for name, path in known_configs().items())


def test_models_are_listed_with_the_function_that_builds_them(capsys):
    main(["models"])
    lines = capsys.readouterr().out.splitlines()
    for name in (*PRESETS, "modelnet40_naive", "psb_encdec"):
        assert [line for line in lines if line.startswith(f"{name} ")], name
    assert [line for line in lines if line.split()[:1] == ["bixt_ti_l64_p16"] and "80.10 %" in line]
    assert "create_model(NAME, num_classes, pretrained=True)" in "\n".join(lines)


def test_runs_say_how_far_and_how_good_they_are(tmp_path, capsys):
    write_run_folder(tmp_path / "done", [0.5, 0.9, 0.8], seed=1)
    write_run_folder(tmp_path / "deep/stopped", [0.5, 0.7], seed=0)
    write_run_folder(tmp_path / "begun", [], seed=2)
    write_seeds(tmp_path / "both", [0.1, 0.2, 0.5], [0.1, 0.2, 0.7])
    main(["runs", str(tmp_path)])
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        "RUN TASK STATE SCORE ON TEST TIME",
        f"{tmp_path}/deep/stopped classification unfinished, epoch 2 of 3 overall accuracy 70.00% (epoch 2) -",
        f"{tmp_path}/done classification finished overall accuracy 80.00% 2 min",
        f"{tmp_path}/begun classification unfinished, epoch 0 of 3 - -",
        f"{tmp_path}/both classification finished, 2 seeds overall accuracy 60.00% +- 14.14% -",
    ]


def test_a_damaged_run_is_named_and_the_others_are_listed(tmp_path, capsys):
    write_run_folder(tmp_path / "good", [0.5, 0.9, 0.8])
    bad = write_run_folder(tmp_path / "bad", [0.5, 0.9, 0.8])
    (bad / "result.json").write_text("{")
    main(["runs", str(tmp_path)])
    said = capsys.readouterr().out
    assert f"{tmp_path}/good " in said and f"not read: {bad / 'result.json'} is not JSON" in said


def test_where_there_are_no_runs_a_sentence_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match="there are no runs below .*: train one with `bixt3d train cls"):
        main(["runs", str(tmp_path)])


@pytest.mark.parametrize("command", ["info", "list", "compare", "download"])
def test_help_imports_no_torch(command):
    code = f"import sys, bixt3d.cli.{command} as one\ntry: one.main(['--help'])\n"
    code += "finally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: bixt3d {command} "), done.stderr
