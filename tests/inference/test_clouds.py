"""A trained run predicts on raw clouds in three lines."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from written_runs import write_run

from bixt3d import load_run
from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.transforms.normals import estimate_normals
from bixt3d.inference.clouds import PartPredictor, Predictor
from bixt3d.io.weights import save_weights
from bixt3d.models.create import create_model
from bixt3d.models.segmenter import CloudSegmenter
from bixt3d.types import Features, InputError

NAMES = ["bed", "car", "mug"]
CONFIG = """
data: {class_path: Shapes, init_args: {num_points: 32, features: 'FEATURES'}}
model:
  class_path: BixtClassifier
  init_args:
    tokenizer: {class_path: PointTokenizer, init_args: {dim: 16, features: 'FEATURES'}}
    encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 1, num_heads: 2, num_latents: 4}}
"""

MakeRun = Callable[..., Path]


def keep_classifier(folder: Path, model: torch.nn.Module, config: str, names: list[str]) -> None:
    write_run(folder / "model.safetensors", model, "classification", config, class_names=names)


@pytest.fixture
def make_run(tmp_path) -> MakeRun:
    """Return a function that writes a run with random weights."""

    def make(features: str = "") -> Path:
        config = CONFIG.replace("FEATURES", features)
        torch.manual_seed(0)
        model = create_model(config, len(NAMES))
        torch.nn.init.normal_(model.head.weight)  # a new head says nothing
        keep_classifier(tmp_path, model, config, NAMES)
        return tmp_path

    return make


@pytest.fixture
def predictor(make_run) -> Predictor:
    return load_run(make_run())


def cloud(num_points: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_points, 3)).astype(np.float32)


def close(first, second) -> bool:
    return first.name == second.name and first.probabilities == pytest.approx(second.probabilities, abs=1e-5)


def test_three_lines_classify_a_cloud(make_run):
    model = load_run(make_run())
    prediction = model.predict(cloud())
    assert prediction.name in NAMES
    assert prediction.confidence == prediction.probabilities[prediction.name] == max(prediction.probabilities.values())
    assert sorted(prediction.probabilities) == NAMES
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert list(prediction.probabilities.values()) == sorted(prediction.probabilities.values(), reverse=True)


def test_a_prediction_repeats_itself_and_leaves_randomness_alone(predictor):
    state = torch.get_rng_state()
    assert predictor.predict(cloud(100)) == predictor.predict(cloud(100))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_prediction_is_that_of_the_model_on_the_normalized_cloud(predictor):
    xyz = torch.from_numpy(cloud())
    xyz = xyz - xyz.mean(0)
    xyz = (xyz / xyz.norm(dim=1).max())[None]
    probability = predictor.model(xyz, xyz[..., :0]).softmax(1)[0]  # the order of points does not matter
    found = predictor.predict(cloud()).probabilities
    assert [found[name] for name in NAMES] == pytest.approx(probability.tolist(), abs=1e-5)


@pytest.mark.parametrize("make", [np.float64, torch.from_numpy, lambda a: torch.from_numpy(a).double()])
def test_arrays_and_tensors_of_any_precision_are_taken(predictor, make):
    assert close(predictor.predict(make(cloud())), predictor.predict(cloud()))


def test_a_batch_and_a_list_are_predicted_cloud_by_cloud(predictor):
    clouds = [cloud(seed=seed) for seed in range(3)]
    expected = [predictor.predict(one) for one in clouds]
    assert all(map(close, predictor.predict(np.stack(clouds)), expected))
    assert all(map(close, predictor.predict(clouds), expected))
    assert len(predictor.predict([cloud(10), cloud(1000)])) == 2
    assert predictor.predict([]) == []


def test_pyg_data_and_batches_are_taken(predictor):
    from torch_geometric.data import Batch, Data

    graphs = [Data(pos=torch.from_numpy(cloud(size, size))) for size in (32, 40)]
    expected = [predictor.predict(cloud(size, size)) for size in (32, 40)]
    assert close(predictor.predict(graphs[0]), expected[0])
    assert all(map(close, predictor.predict(Batch.from_data_list(graphs)), expected))
    assert all(map(close, predictor.predict(graphs), expected))


def test_a_pyg_data_set_is_predicted_as_a_whole(predictor, tmp_path):
    from torch_geometric.data import Data, InMemoryDataset

    class Clouds(InMemoryDataset):
        def __init__(self):
            super().__init__(str(tmp_path / "pyg"))
            self.data, self.slices = self.collate([Data(pos=torch.from_numpy(cloud(seed=seed))) for seed in range(3)])

    expected = [predictor.predict(cloud(seed=seed)) for seed in range(3)]
    assert all(map(close, predictor.predict(Clouds()), expected))


def test_normals_of_pyg_data_are_read(make_run):
    from torch_geometric.data import Data

    predictor = load_run(make_run("normal"))
    expected = predictor.predict(cloud(), {"normal": cloud(seed=1)})
    graph = Data(pos=torch.from_numpy(cloud()), normal=torch.from_numpy(cloud(seed=1)))
    assert close(predictor.predict(graph), expected)
    other = predictor.predict(Data(pos=torch.from_numpy(cloud()), x=torch.from_numpy(cloud(seed=1))))
    assert "normals estimated" in other.notes and "x not read" in other.notes and not close(other, expected)
    assert not close(predictor.predict(cloud(), {"normal": cloud(seed=2)}), expected)


@pytest.mark.parametrize("num_points", [2, 31, 33, 500])
def test_a_cloud_may_have_any_number_of_points(predictor, num_points):
    assert predictor.predict(cloud(num_points)).name in NAMES


def test_position_and_size_of_a_cloud_do_not_matter(predictor):
    for moved in (cloud() + np.float32([5, -3, 2]), cloud() * 100, cloud() * 0.01 + 1):
        found, expected = predictor.predict(moved), predictor.predict(cloud())
        assert found.name == expected.name
        assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-3)


def with_nan() -> np.ndarray:
    xyz = cloud()
    xyz[3, 1] = np.nan
    return xyz


@pytest.mark.parametrize(
    ("clouds", "sentence"),
    [
        (cloud() * np.float32(np.inf), "has 32 points, all of them NaN, infinite"),
        ([cloud(), cloud() * np.float32(np.nan)], "entry 1 of the list: .* all of them NaN, infinite"),
        (np.ones((32, 3), np.float32), "all its points in one place"),
        (cloud(1), "has 1 point: a cloud takes many"),
        (np.zeros((0, 3), np.float32), "has 0 points"),
        (np.zeros((0, 32, 3), np.float32), "has 0 points"),
        (cloud()[:, :2], "shape"),
        (cloud().T, "shape"),
        (cloud()[0], "shape"),
        (cloud()[None, None], "shape"),
        ("chair.ply", "there is no file chair.ply"),
        ((cloud(), cloud(seed=1)), "expected .* or features="),
        (None, "expected"),
        ([cloud()[:, :2]], "shape"),
        (np.full((4, 3), "x"), "numbers"),
    ],
    ids=str,
)
def test_what_is_no_cloud_is_refused_with_one_sentence(predictor, clouds, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        predictor.predict(clouds)
    assert "\n" not in str(caught.value)


def test_a_model_that_reads_normals_estimates_those_that_are_missing(make_run):
    predictor = load_run(make_run("normal"))
    found, normals = predictor.predict(cloud()), estimate_normals(torch.from_numpy(cloud()).double())
    assert found.notes == ("y taken for up", "normals estimated")
    assert close(found, predictor.predict(cloud(), {"normal": normals}))
    with pytest.raises(InputError, match=r"normal of shape \(31, 3\) does not fit points of shape \(32, 3\)"):
        predictor.predict(cloud(), {"normal": cloud(31)})
    with pytest.raises(InputError, match="features and batch are for arrays"):
        predictor.predict([cloud(), cloud()], {"normal": cloud()})


def test_features_that_the_model_does_not_read_are_refused_by_name(predictor):
    with pytest.raises(InputError, match="this model reads no features, not normal: leave it out"):
        predictor.predict(cloud(), {"normal": cloud(seed=1)})


def test_the_file_of_weights_alone_is_enough(make_run, tmp_path_factory):
    folder = make_run()
    expected = load_run(folder).predict(cloud())
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "renamed.safetensors"
    shutil.move(folder / "model.safetensors", elsewhere)
    assert load_run(elsewhere).predict(cloud()) == expected
    assert load_run(str(elsewhere)).predict(cloud()) == expected


def test_what_is_no_run_is_refused_with_one_sentence(tmp_path):
    with pytest.raises(InputError, match="there (are no weights|is no run folder or weights file)"):
        load_run(tmp_path)
    with pytest.raises(InputError, match="there (are no weights|is no run folder or weights file)"):
        load_run(tmp_path / "nowhere")
    save_weights(tmp_path / "model.safetensors", {"w": torch.zeros(1)}, {"task": "poetry"})
    with pytest.raises(InputError, match="does not come from a run of bixt3d"):
        load_run(tmp_path)
    keep_classifier(tmp_path, torch.nn.Linear(1, 1), CONFIG.replace("FEATURES", ""), NAMES)
    with pytest.raises(InputError, match="contains the weights of another model"):
        load_run(tmp_path)


def lying(upright: np.ndarray) -> np.ndarray:
    """Return a cloud whose y is up so that its z is."""
    x, y, z = upright.T
    return np.stack([x, -z, y], axis=1)


def test_a_cloud_with_another_up_axis_is_turned_upright(make_run):
    for features in ("", "normal"):
        predictor, normal = load_run(make_run(features)), {"normal": cloud(seed=1)} if features else None
        turned = None if normal is None else {"normal": lying(normal["normal"])}
        expected = predictor.predict(cloud(), normal)
        assert close(predictor.predict(cloud(), normal, up="y"), expected)
        assert close(predictor.predict(lying(cloud()), turned, up="z"), expected)
        assert not close(predictor.predict(lying(cloud()), turned), expected)


@pytest.mark.parametrize("up", ["y", "z"])
def test_the_axis_that_points_up_is_that_of_the_training_set(tmp_path, up):
    config = CONFIG.replace("FEATURES", "").replace("num_points: 32", f"num_points: 32, up: {up}")
    keep_classifier(tmp_path, create_model(config, len(NAMES)), config, NAMES)
    assert load_run(tmp_path).up == up


PARTS = ("table/top", "table/leg", "mug/body", "mug/handle", "mug/lid")
CLASS_PARTS = {"table": (0, 1), "mug": (2, 3, 4)}
PART_CONFIG = """
data: {class_path: Shapes, init_args: {num_points: 32}}
model:
  class_path: TokenSegmenter
  init_args:
    tokenizer: {class_path: PointTokenizer, init_args: {dim: 16}}
    encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 1, num_heads: 2, num_latents: 4, reads: tokens}}
    use_category: USE
"""


@pytest.fixture
def make_part_run(tmp_path) -> MakeRun:
    """Return a function that writes a part segmenter with random weights."""

    def make(use_category: bool = False) -> Path:
        config = PART_CONFIG.replace("USE", str(use_category).lower())
        model = create_model(config, len(PARTS), num_categories=len(CLASS_PARTS))
        torch.nn.init.normal_(model.head.weight)
        if use_category:
            torch.nn.init.normal_(model.category.weight)
        names = {"class_names": list(CLASS_PARTS), "part_names": PARTS, "class_parts": CLASS_PARTS}
        write_run(tmp_path / "model.safetensors", model, "part segmentation", config, **names)
        return tmp_path

    return make


class Halves(CloudSegmenter):
    """Labels points above the middle with the first part of both categories, others with the second; prefers tables."""

    reads_category = False

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(20.0))

    def forward(self, xyz: torch.Tensor, feats: torch.Tensor, category: torch.Tensor) -> torch.Tensor:
        height = xyz[..., 1] * self.scale
        table = torch.stack([height, -height], dim=-1)
        return torch.cat([table, table - 1, torch.full_like(height, -30)[..., None]], dim=-1)


def test_three_lines_segment_a_cloud_into_parts(make_part_run):
    model = load_run(make_part_run())
    assert isinstance(model, PartPredictor)
    found = model.predict(cloud(100))
    assert found.part_names == PARTS
    assert found.category in CLASS_PARTS
    assert found.parts.shape == (100,)
    assert set(found.parts.tolist()) <= set(CLASS_PARTS[found.category])
    assert list(found.shares) == sorted(found.shares, key=found.shares.get, reverse=True)
    for part in CLASS_PARTS[found.category]:
        assert found.shares[PARTS[part]] == pytest.approx(float((found.parts == part).float().mean()))


def test_each_point_has_a_confidence_and_on_request_the_probabilities_of_all_parts_of_its_category(make_part_run):
    model = load_run(make_part_run())
    plain, found = model.predict(cloud(100)), model.predict(cloud(100), probabilities=True)
    assert plain.probabilities is None and torch.equal(plain.confidence, found.confidence)
    assert found.own_parts == CLASS_PARTS[found.category]
    assert found.probabilities.shape == (100, len(found.own_parts))
    assert torch.allclose(found.probabilities.sum(1), torch.ones(100))
    assert torch.equal(found.confidence, found.probabilities.max(1).values)
    assert torch.equal(found.parts, torch.tensor(found.own_parts)[found.probabilities.argmax(1)])
    assert found.counts == {name: round(100 * share) for name, share in found.shares.items()}


def test_the_probabilities_of_points_that_the_model_sees_are_its_own_within_the_category():
    predictor = PartPredictor(Halves(), PARTS, CLASS_PARTS, num_points=50)
    xyz = torch.from_numpy(cloud(50)).double()
    view = ((xyz - xyz.mean(0)) / (xyz - xyz.mean(0)).norm(dim=1).max()).float()[None]
    logits = predictor.model(view, view[..., :0], torch.tensor([1]))[0]
    found = predictor.predict(xyz, category="mug", probabilities=True)
    expected = logits[:, list(CLASS_PARTS["mug"])].softmax(1)
    assert torch.allclose(found.probabilities, expected, atol=1e-4)  # two points of the cloud may lie close together


@pytest.mark.parametrize("num_points", [5, 64, 65, 3000])
def test_every_point_gets_its_part_however_many_the_model_sees(num_points):
    predictor = PartPredictor(Halves(), PARTS, CLASS_PARTS, num_points=64)
    xyz = torch.rand(num_points, 3) * torch.tensor([0.1, 10, 0.1])
    found = predictor.predict(xyz + 100)
    height = xyz[:, 1] - xyz[:, 1].mean()
    clear = height.abs() > 0.5  # the model's points are up to a few tenths apart
    assert found.category == "table"
    assert torch.equal(found.parts[clear], (height[clear] < 0).long())
    assert sum(found.shares.values()) == pytest.approx(1)


def test_points_are_labelled_in_chunks(monkeypatch):
    predictor = PartPredictor(Halves(), PARTS, CLASS_PARTS, num_points=64)
    whole = predictor.predict(cloud(100)).parts
    monkeypatch.setattr("bixt3d.inference.clouds.CHUNK", 7)
    assert torch.equal(predictor.predict(cloud(100)).parts, whole)


def test_the_parts_are_those_of_the_category_named():
    predictor = PartPredictor(Halves(), PARTS, CLASS_PARTS, num_points=64)
    free, table, mug = (predictor.predict(cloud(50), category=name) for name in (None, "table", "mug"))
    assert (free.category, table.category, mug.category) == ("table", "table", "mug")
    assert torch.equal(free.parts, table.parts)
    assert torch.equal(mug.parts, table.parts + 2)
    assert list(mug.shares)[-1] == "mug/lid"
    assert mug.shares["mug/lid"] == 0


def test_a_shape_is_turned_upright_before_it_is_segmented():
    predictor = PartPredictor(Halves(), PARTS, CLASS_PARTS, num_points=64)
    expected = predictor.predict(cloud(50)).parts
    assert torch.equal(predictor.predict(lying(cloud(50)), up="z").parts, expected)
    assert not torch.equal(predictor.predict(lying(cloud(50))).parts, expected)


def test_several_clouds_give_several_answers_and_repeat_themselves(make_part_run):
    model = load_run(make_part_run())
    first, second = model.predict([cloud(10), cloud(90)])
    assert (len(first.parts), len(second.parts)) == (10, 90)
    assert torch.equal(model.predict(cloud(90)).parts, second.parts)


def test_a_model_that_reads_the_category_asks_for_it(make_part_run):
    model = load_run(make_part_run(use_category=True))
    with pytest.raises(
        InputError, match="needs the category of the shape \\(--category, or category=\\): one of table, mug"
    ):
        model.predict(cloud())
    with pytest.raises(InputError, match="knows no category 'mugg'; did you mean 'mug'"):
        model.predict(cloud(), category="mugg")
    with pytest.raises(InputError, match="knows no category 'airplane'; there are: mug, table"):
        model.predict(cloud(), category="airplane")
    assert {name.split("/")[0] for name in model.predict(cloud(), category="mug").shares} == {"mug"}


def test_the_category_given_is_the_one_the_model_reads(make_part_run):
    model = load_run(make_part_run(use_category=True))
    xyz = torch.from_numpy(cloud()).double()
    xyz = ((xyz - xyz.mean(0)) / (xyz - xyz.mean(0)).norm(dim=1).max()).float()[None]
    own = torch.tensor(CLASS_PARTS["mug"])
    expected = own[model.model(xyz, xyz[..., :0], torch.tensor([1]))[0][:, own].argmax(1)]
    assert torch.equal(model.predict(cloud(), category="mug").parts, expected)


def test_normals_that_are_not_finite_are_left_out_and_estimated(make_run):
    predictor = load_run(make_run("normal"))
    found = predictor.predict(cloud(), {"normal": with_nan()}, up="y")
    assert found == replace(
        predictor.predict(cloud(), up="y"),
        notes=("its normals left out, which have no direction or are not finite", "normals estimated"),
    )


def test_points_without_a_position_change_nothing_and_are_counted(predictor):
    found, expected = predictor.predict(with_nan()), predictor.predict(np.delete(cloud(), 3, 0))
    assert found == replace(
        expected, notes=(*expected.notes, "1 of its 32 points dropped: NaN, infinite or beyond 1e+18")
    )


def test_parts_keep_the_order_and_the_number_of_the_points_that_were_given(make_part_run):
    model, xyz = load_run(make_part_run()), np.full((40, 3), np.nan, np.float32)
    xyz[::2] = cloud(20)
    xyz[1], xyz[3] = np.inf, 1e30  # absurd as well
    found, expected = (model.predict(one, probabilities=True) for one in (xyz, xyz[::2]))
    assert torch.equal(found.parts[::2], expected.parts) and (found.parts[1::2] == -1).all()
    assert found.counts == expected.counts and found.shares == expected.shares
    for name in ("confidence", "probabilities"):
        values = getattr(found, name)
        assert torch.equal(values[::2], getattr(expected, name)) and values[1::2].isnan().all()
    points = model.embed(xyz)
    assert torch.equal(points[::2], model.embed(xyz[::2])) and points[1::2].isnan().all()
    assert "20 of its 40 points dropped: NaN, infinite or beyond 1e+18" in found.notes


@pytest.mark.parametrize("features", ["Intensity", "color", "rgb,", "normal , rgb", "Normals"])
def test_a_feature_is_predicted_however_its_name_was_written_in_training(make_run, features):
    columns = {"Intensity": cloud()[:, :1], "Colors": np.full((32, 3), 0.5), "NORMALS": cloud(seed=1)}
    predictor = load_run(make_run(features))
    assert predictor.features == Features.parse(features)
    assert predictor.predict(Cloud(cloud(), columns)).name in NAMES


def test_the_lines_of_the_readme_run(make_run, tmp_path, monkeypatch, capsys):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    run = make_run()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/demo").symlink_to(run, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    exec(block, {"points": cloud(100)})
    assert capsys.readouterr().out.strip() in NAMES
