"""Evaluating a part segmenter again: the same figures, every point, votes that repeat, the newest run of its task."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from bixt3d.cli import test as test_command
from bixt3d.datasets.clouds.shapenetpart import ShapeNetPart
from bixt3d.datasets.shapes.shapes import CLASS_NAMES, CLASS_PARTS
from bixt3d.io.weights import load_weights, save_weights
from bixt3d.tasks import part_segmentation
from bixt3d.tasks.part_segmentation import PartEvaluation
from bixt3d.types import InputError

CAPS = Path(__file__).parents[3] / "shared/data/shapenetcore_partanno_segmentation_benchmark_v0_normal"
SCORES = ("convention", "instance_miou", "class_miou", "accuracy", "per_category", "pointmlp", "parameters")


@pytest.fixture(autouse=True)
def seen(monkeypatch) -> list[tuple[Path, PartEvaluation]]:
    """Draw no report, but return a list that fills with the folders and evaluations to report on."""
    seen = []
    monkeypatch.setattr(
        part_segmentation.PartSegmentation,
        "write_report",
        lambda *given: seen.append(given[1:3]),
    )
    return seen


def scores_of(result: dict) -> dict:
    return {name: result[name] for name in SCORES}


def trained(run: Path) -> dict:
    return json.loads((run / "result.json").read_text())


def test_the_figures_are_those_that_training_wrote(tiny_part_run, capsys):
    result = test_command.main(["partseg", f"--checkpoint={tiny_part_run}"])
    assert scores_of(result) == scores_of(trained(tiny_part_run))
    assert (result["votes"], result["full"]) == (1, False)
    said = capsys.readouterr().out
    assert f"instance mIoU {result['instance_miou']:.2%}" in said and "airplane" in said
    assert f"report: {tiny_part_run / 'test' / 'report.html'}" in said


def test_the_newest_run_of_this_task_is_taken_where_none_is_named(tiny_part_run, tiny_run, tmp_path, monkeypatch, seen):
    monkeypatch.chdir(tmp_path)
    for place, (name, run) in enumerate({"older": tiny_part_run, "newer": tiny_part_run, "other": tiny_run}.items()):
        shutil.copytree(run, Path("runs") / name)
        record = Path("runs") / name / "run.json"
        record.write_text(
            json.dumps(json.loads(record.read_text()) | {"began": f"2026-01-0{place + 1}T00:00:00+00:00"})
        )
    result = test_command.main(["partseg"])
    assert result["checkpoint"] == str(Path("runs/newer/model.safetensors"))
    assert scores_of(result) == scores_of(trained(tiny_part_run))
    assert seen[0][0] == Path("runs/newer/test")


def test_where_there_is_no_run_of_this_task_one_learns_how_to_make_one(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run, "runs/classifier")
    sentence = "no part segmentation run under runs/ yet: make one with `bixt3d train partseg --cfg shapes_partseg"
    with pytest.raises(InputError, match=sentence):
        test_command.main(["partseg"])


def test_a_checkpoint_of_the_other_task_is_refused(tiny_part_run, tiny_run):
    with pytest.raises(InputError, match="comes from a classification run, but a part segmentation run is needed here"):
        test_command.main(["partseg", f"--checkpoint={tiny_run}"])
    with pytest.raises(InputError, match="comes from a part segmentation run, but a classification run is needed here"):
        test_command.main(["cls", f"--checkpoint={tiny_part_run}"])


def test_votes_repeat_themselves_and_differ_from_one_look(tiny_part_run, seen):
    results = [test_command.main(["partseg", str(tiny_part_run), f"--votes={votes}"]) for votes in (1, 3, 3)]
    one, three, again = (torch.stack(evaluation.predicted) for _, evaluation in seen)
    assert [result["votes"] for result in results] == [1, 3, 3]
    assert three.equal(again) and not three.equal(one)
    assert scores_of(results[1]) == scores_of(results[2]) != scores_of(results[0])
    assert seen[1][1].loss == seen[2][1].loss


def test_no_figure_depends_on_how_many_clouds_are_evaluated_at_a_time(tiny_part_run):
    run = [f"--checkpoint={tiny_part_run}", "--votes=2"]
    one, other = (test_command.main(["partseg", *run, f"--train.eval_batch_size={size}"]) for size in (5, 64))
    assert scores_of(one) == scores_of(other)


@pytest.mark.parametrize("votes", ["--votes=1", "--votes=3"])
def test_all_points_are_those_that_the_model_sees_where_it_sees_all(tiny_part_run, seen, votes: str):
    run = [f"--checkpoint={tiny_part_run}", votes]
    some, full = test_command.main(["partseg", *run]), test_command.main(["partseg", *run, "--full"])
    assert scores_of(full) == scores_of(some)
    assert (some["full"], full["full"]) == (False, True)
    assert torch.stack(seen[1][1].predicted).equal(torch.stack(seen[0][1].predicted))


def test_all_points_are_scored_even_if_the_model_sees_fewer(train_parts, tiny_part_run, tmp_path, seen):
    """The caps of a set like ShapeNetPart's: each shape has its own number of points, and the model sees 24."""
    root = write_caps(tmp_path / "caps", sizes=(40, 60, 90))
    data = ["--data=ShapeNetPart", f"--data.root={root}", "--data.num_points=24", "--data.stored_points=32"]
    run = train_parts(tmp_path / "run", *data, "--data.features=", "--train.batch_size=2", "--train.epochs=1")
    some, full = (test_command.main(["partseg", f"--checkpoint={run}", *more]) for more in ([], ["--full"]))
    (_, few), (_, every) = seen
    assert [len(parts) for parts in few.predicted] == [24] * 2
    assert [len(parts) for parts in every.predicted] == [60, 90]
    assert scores_of(full) != scores_of(some) == scores_of(trained(run))
    originals = list(ShapeNetPart(str(root), features="").full_clouds())
    for (xyz, _, parts), place, truth in zip(originals, every.xyz, every.truth, strict=True):
        assert place.equal(xyz) and truth.equal(parts)
    right = [int((one == other).sum()) for one, other in zip(every.predicted, every.truth, strict=True)]
    assert full["accuracy"] == pytest.approx(sum(right) / 150)
    for xyz, parts, whole, all_parts in zip(few.xyz, few.predicted, every.xyz, every.predicted, strict=True):
        index = (whole[:, None] == xyz).all(2).int().argmax(0)  # where a point was seen, it keeps its part
        assert all_parts[index].equal(parts)


def write_caps(root: Path, sizes: tuple[int, ...]) -> Path:
    """Write random caps in the layout of ShapeNetPart: the first is there to train on (twice), the others to test."""
    (root / "train_test_split").mkdir(parents=True)
    (root / "02954340").mkdir()
    (root / "synsetoffset2category.txt").write_text("Cap\t02954340\n")
    test = [f"02954340/{i}" for i in range(1, len(sizes))]
    names = {"train": ["02954340/0", "02954340/again"], "val": [], "test": test}
    for split, shapes in names.items():
        (root / f"train_test_split/shuffled_{split}_file_list.json").write_text(
            json.dumps([f"shape_data/{shape}" for shape in shapes])
        )
    for i, size in enumerate(sizes):
        xyz = torch.randn(size, 3, generator=torch.Generator().manual_seed(i))
        lines = [f"{x:.6f} {y:.6f} {z:.6f} 0 1 0 {6 + (y < 0)}\n" for x, y, z in xyz.tolist()]
        (root / f"02954340/{i}.txt").write_text("".join(lines))
    shutil.copy(root / "02954340/0.txt", root / "02954340/again.txt")
    return root


def test_a_part_of_the_category_is_chosen_even_by_a_model_that_is_sure_of_another(tiny_part_run, tmp_path, seen):
    weights, metadata = load_weights(tiny_part_run / "model.safetensors")
    weights["decoder.head.3.bias"] = weights["decoder.head.3.bias"].clone()
    weights["decoder.head.3.bias"][0] = 500.0  # of the first part of the airplane; all others have probability 0
    save_weights(tmp_path / "model.safetensors", weights, metadata)
    result = test_command.main(["partseg", f"--checkpoint={tmp_path}"])
    for parts, category in zip(seen[0][1].predicted, torch.arange(16).repeat_interleave(2), strict=True):
        assert set(parts.tolist()) <= set(CLASS_PARTS[CLASS_NAMES[int(category)]])
    assert seen[0][1].loss == pytest.approx(500, rel=0.1)
    before = trained(tiny_part_run)["per_category"]
    assert result["per_category"] == pytest.approx(before | {"airplane": result["per_category"]["airplane"]})


def test_clouds_of_other_parts_are_refused(tiny_part_run, tmp_path):
    root = write_caps(tmp_path / "caps", sizes=(70, 70))
    with pytest.raises(
        InputError, match=r"was trained on 16 classes \(airplane, .*\), but the data set has 16 \(Airplane, B"
    ):
        test_command.main(["partseg", f"--checkpoint={tiny_part_run}", "--data=ShapeNetPart", f"--data.root={root}"])


def test_the_genuine_caps_are_tested_with_all_their_points(train_parts, tmp_path, monkeypatch, seen):
    if not CAPS.is_dir():
        pytest.skip(f"real data are absent: {CAPS}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = ["--data=ShapeNetPart", f"--data.root={CAPS}", "--data.num_points=256", "--data.features="]
    run = train_parts(tmp_path / "run", *data, "--train.batch_size=4", "--train.epochs=1")
    full = test_command.main(["partseg", f"--checkpoint={run}", "--full", "--votes=2"])
    assert sum(len(parts) for parts in seen[0][1].predicted) == 27812
    assert set(torch.cat(seen[0][1].predicted).tolist()) <= {6, 7}
    assert list(full["per_category"]) == ["Cap"] and 0 < full["instance_miou"] < 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--votes=0"], "--votes must be at least 1"),
        (["--fulll"], "unknown setting 'fulll'; did you mean 'full'"),
        (["--full=yes"], "--full: ignored explicit argument 'yes'"),
        (["--model.decoder.num_blocks=[2]"], "contains the weights of another model"),
        (["--data.num_points=0"], "num_points must be positive"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_nonsense_is_refused_with_one_sentence(tiny_part_run, arguments, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        test_command.main(["partseg", f"--checkpoint={tiny_part_run}", *arguments])
    assert "\n" not in str(caught.value)
