"""``bixt3d compare``: runs of one task in one table and one picture."""

import csv
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from written_runs import write_run_folder, write_seeds

from bixt3d.cli.compare import main
from bixt3d.cli.comparison import costs_of, distinct
from bixt3d.cli.cost_tables import describe
from bixt3d.cli.info import main as info
from bixt3d.io.bounds import listed
from bixt3d.types import InputError
from bixt3d.viz.comparison import cost_png


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    return [
        write_run_folder(tmp_path / "one", [0.5, 0.9, 0.8]),
        write_run_folder(tmp_path / "stop|ped", [0.5, 0.6], seed=3),
        write_seeds(tmp_path / "both", [0.1, 0.2, 0.5], [0.1, 0.4, 0.7]),
    ]


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").replace("\\|", "/").split("|")] for line in lines]


def test_folders_in_a_message_are_whole_and_other_names_are_cut():
    assert listed([Path("a" * 100), "b" * 100]) == f"{'a' * 100}, {'b' * 77}..."


def test_runs_stand_in_one_table_in_markdown(runs, capsys):
    main([*map(str, runs)])
    said = capsys.readouterr().out
    head, rule, one, stopped, both = cells(said)
    scores = ["overall accuracy", "mean accuracy", "best on test*"]
    assert head == ["run", "model", "parameters", "FLOPs", "epochs", *scores, "time", "clouds/s", "seed", "commit"]
    assert set("".join(rule)) == {"-"}
    parameters = f"{json.loads((runs[0] / 'result.json').read_text())['parameters']:,}"
    flops = describe([str(runs[0] / "config.yaml")], None, 3)["flops"]
    own = ["BixtClassifier", parameters, f"{flops * 1e-6:,.4g} M"]
    assert one[1:] == [*own, "3", "80.00%", "40.00%", "90.00%", "100 s", "50", "0", "abc1234"]
    assert stopped[4:8] == ["2 of 3, unfinished", "60.00% (epoch 2)", "30.00% (epoch 2)", "-"]
    assert both[5:8] == ["60.00% +- 14.14%", "30.00% +- 7.07%", "60.00%"]
    assert both[8:] == ["110 s", "50", "0 1", "abc1234"]
    assert len({len(line) for line in said.splitlines() if line.startswith("|")}) == 1
    assert (
        "of the best epoch on the test set, which is too optimistic" in said
        and f"Unfinished, scores of the last evaluated epoch: {listed([runs[1]])}." in said
    )


def test_a_run_that_was_resumed_has_no_figures_of_its_earlier_end(runs, capsys):
    with (runs[0] / "metrics.csv").open("a") as file:
        file.write("4,0.3,0.2\n")
    main([str(runs[0])])
    head, _, row = cells(capsys.readouterr().out)
    shown = dict(zip(head, row, strict=True))
    assert [shown[name] for name in ("overall accuracy", "best on test*", "time")] == ["30.00% (epoch 4)", "-", "-"]
    info([str(runs[0])])
    assert "100 s" not in capsys.readouterr().out


def test_the_table_and_the_picture_are_written(runs, tmp_path, capsys):
    out = tmp_path / "a/b"
    main([*map(str, runs), "--out", str(out)])
    assert sorted(path.name for path in out.iterdir()) == ["cost.png", "curves.png", "table.csv", "table.md"]
    assert (out / "table.md").read_text() in capsys.readouterr().out
    with (out / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == [str(run) for run in runs]
    assert float(rows[2]["overall_accuracy"]) == pytest.approx(0.6)
    assert float(rows[2]["overall_accuracy_deviation"]) == pytest.approx(0.1414, abs=1e-4)
    pixels = np.asarray(Image.open(out / "curves.png").convert("RGB")).reshape(-1, 3)
    for color in ((0, 114, 178), (194, 85, 0), (17, 119, 51)):  # a line for each run
        assert (pixels == color).all(axis=1).sum() > 200


def test_runs_whose_names_are_alike_for_long_have_a_line_each(tmp_path, capsys):
    first = write_run_folder(tmp_path / "modelnet40_pointmlp_elite_of_november-20261130-1101", [0.5, 0.9, 0.8])
    for folder in ("modelnet40_pointmlp_elite_of_november-20261130-1102", "b"):
        name = first.name if folder == "b" else ""
        other = write_run_folder(tmp_path / folder / name, [0.3, 0.4, 0.4], seed=1)
        main([str(first), str(other), "--out", str(tmp_path / "out")])
        pixels = np.asarray(Image.open(tmp_path / "out/curves.png").convert("RGB")).reshape(-1, 3)
        for color in ((0, 114, 178), (194, 85, 0)):
            assert (pixels == color).all(axis=1).sum() > 200
    assert distinct(["a", "b", "a"]) == ["a (1)", "b", "a (2)"]


def test_runs_of_different_tasks_are_refused(runs, tmp_path):
    other = write_run_folder(tmp_path / "parts", [0.5])
    (other / "run.json").write_text((other / "run.json").read_text().replace("classification", "part segmentation"))
    with pytest.raises(
        InputError, match="runs of one task can be compared, but .*one does classification, .*parts does"
    ):
        main([str(runs[0]), str(other)])


def test_runs_on_other_data_are_named(runs, tmp_path, capsys):
    other = write_run_folder(tmp_path / "other", [0.5, 0.6, 0.7], features="normal")
    main([str(runs[0]), str(other)])
    assert f"Other settings of data than {runs[0]}: {other}; compare with care." in capsys.readouterr().out


def test_weights_by_name_stand_there_by_name(capsys):
    main(["shapes-cls", "modelnet10-small"])
    said = capsys.readouterr().out
    assert [row[0] for row in cells(said)[2:]] == ["shapes-cls", "modelnet10-small"]
    assert "Other settings of data than shapes-cls: modelnet10-small; compare with care." in said


def test_a_result_whose_numbers_are_none_is_refused(runs):
    written = json.loads((runs[0] / "result.json").read_text())
    (runs[0] / "result.json").write_text(json.dumps(written | {"seconds": "many"}))
    with pytest.raises(InputError, match="one/result.json is damaged: seconds is no number"):
        main([str(runs[0])])
    (runs[0] / "result.json").write_text(json.dumps(written | {"seconds": None}))
    main([str(runs[0])])


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"overall_accuracy": "high"}, "overall_accuracy is no number from 0 to 1"),
        ({"overall_accuracy": 7.5}, "overall_accuracy is no number from 0 to 1"),
        ({"overall_accuracy": {"mean": 0.5}}, "overall_accuracy is no number from 0 to 1"),
        ({"best_on_test": {"mean_accuracy": {"value": None, "epoch": 1}}}, "mean_accuracy is no number from 0 to 1"),
        ({"best_on_test": {"overall_accuracy": 0.5}}, "overall_accuracy is no number from 0 to 1"),
        ({"best_on_test": "none"}, "best_on_test has no scores"),
        ({"epochs": "three"}, "epochs is no number"),
        ({"clouds_per_second": [50]}, "clouds_per_second is no number"),
    ],
)
def test_a_result_whose_scores_cannot_be_is_refused(tmp_path, capsys, more, fault):
    run = write_run_folder(tmp_path / "one", [0.5, 0.9, 0.8], **more)
    with pytest.raises(InputError, match=f"one/result.json is damaged: {fault}"):
        main([str(run)])
    assert info([str(run)]) == 2 and f"result.json is damaged: {fault}" in capsys.readouterr().err


def test_a_folder_of_runs_stands_for_the_runs_below_it(runs, tmp_path, capsys):
    main(["show", str(tmp_path), str(runs[0])])
    said = capsys.readouterr()
    assert [row[0].replace("/ped", "|ped") for row in cells(said.out)[2:]] == sorted(map(str, runs))
    assert f"{tmp_path} is no run itself: 3 runs below it" in said.err


def test_a_damaged_run_below_a_folder_is_left_out_and_named(runs, tmp_path, capsys):
    (tmp_path / "one" / "metrics.csv").write_text("epoch\nx,y,z\n")
    main([str(tmp_path)])
    said = capsys.readouterr()
    assert len(cells(said.out)) == 4 and f"not in the table: {tmp_path}/one/metrics.csv" in said.err
    (tmp_path / "both" / "seed1" / "metrics.csv").write_text("epoch\nx,y,z\n")
    main([str(tmp_path)])
    assert len(cells(capsys.readouterr().out)) == 3
    with pytest.raises(InputError, match=r"one/metrics\.csv"):
        main([str(tmp_path / "one"), str(tmp_path / "both")])


def test_flops_that_cannot_be_counted_are_a_line_beside_the_table(runs, capsys):
    for path in [runs[0] / "config.yaml", *runs[2].glob("seed*/config.yaml")]:
        path.write_text("model: {class_path: NoSuchModel}\n")
    main([str(runs[0]), str(runs[1])])
    said = capsys.readouterr()
    assert said.err.startswith(f"the FLOPs of {runs[0]} cannot be counted: ") and said.out.startswith("|")


def test_costs_that_no_run_has_are_no_panel():
    costs = costs_of({"one": {"flops": 5e6, "inference_clouds_per_second": None}})
    assert costs == {"FLOPs of one example in millions": {"one": 5}}


def test_a_run_has_one_color_in_all_panels_of_costs():
    scores = {"one": (0.5, 0.1), "two": (0.6, 0.1)}
    picture = Image.open(
        BytesIO(cost_png({"all": {"one": 1.0, "two": 2.0}, "two alone": {"two": 3.0}}, scores, "score"))
    )
    pixels = np.asarray(picture.convert("RGB"))
    right = pixels[:, pixels.shape[1] // 2 :]
    assert (right == (194, 85, 0)).all(axis=2).any() and not (right == (0, 114, 178)).all(axis=2).any()


def test_what_is_no_run_is_a_sentence(runs, tmp_path):
    with pytest.raises(InputError, match="shapes-clss is no folder; did you mean 'shapes-cls'"):
        main(["show", "shapes-clss", "shapes-cls"])
    with pytest.raises(InputError, match="is no folder"):
        main([str(runs[0]), str(tmp_path / "missing")])


def test_a_folder_that_cannot_be_written_is_a_sentence(runs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="could not write"):
        main([str(runs[0]), "--out", str(tmp_path / "file/below")])
