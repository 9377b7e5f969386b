"""LAS files that are read in chunks: the same points and predictions as in memory."""

import numpy as np
import pytest
import torch

laspy = pytest.importorskip("laspy", reason="needs laspy and lazrs: pip install 'bixt3d[lidar]'")

from las_files import make_las, write_las_file  # noqa: E402

from bixt3d import Predictor, create_model  # noqa: E402
from bixt3d.datasets.files import las_large  # noqa: E402
from bixt3d.datasets.files.cloud import Extent  # noqa: E402
from bixt3d.datasets.files.las_large import all_points, is_large, read_runs  # noqa: E402
from bixt3d.datasets.files.las_writing import las_numbers  # noqa: E402
from bixt3d.datasets.files.reader import read_file  # noqa: E402
from bixt3d.datasets.transforms.draws import first_permuted  # noqa: E402
from bixt3d.types import InputError  # noqa: E402

TINY = """
model:
  class_path: BixtClassifier
  init_args:
    tokenizer: {class_path: PointTokenizer, init_args: {dim: 16}}
    encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 1, num_heads: 2, num_latents: 4}}
"""


@pytest.fixture
def survey(tmp_path, monkeypatch):
    """A file that counts as large."""
    monkeypatch.setattr(las_large, "LARGE", 1000)
    return write_las_file(tmp_path / "survey.laz", make_las(7, 12_000))


@pytest.mark.parametrize("size", [2**20 + 1, 1_500_000])
def test_the_first_entries_of_a_permutation_are_those_of_torch(size):
    whole = torch.randperm(size, generator=torch.Generator().manual_seed(3))
    assert torch.equal(first_permuted(size, 2000, 3), whole[:2000])


def test_a_classifier_sees_the_same_points_of_a_large_file_as_of_one_in_memory(survey):
    torch.manual_seed(0)
    model = create_model(TINY, 3)
    torch.nn.init.normal_(model.head.weight)
    predictor = Predictor(model, ["a", "b", "c"], num_points=64)
    (whole,) = read_file(survey)
    (part,) = predictor.read(survey)
    assert (len(part), part.num_original, len(whole)) == (10_000, 12_000, 12_000)
    index = first_permuted(12_000, 10_000, 0).numpy()
    assert np.array_equal(part.xyz, whole.xyz[index]) and any("columns not read" in note for note in part.notes)
    first, second = predictor.predict(whole), predictor.predict(survey)
    assert first.probabilities == pytest.approx(second.probabilities, abs=1e-6)
    assert "a random 64 of them seen" in second.notes


def test_runs_over_a_large_file_have_all_columns_and_its_number_of_points(survey):
    runs, total, box = read_runs(survey)
    (whole,) = read_file(survey)
    assert (total, len(runs), {len(run) for run in runs}) == (12_000, 10, {100})
    assert np.array_equal(runs[0].xyz, whole.xyz[:100]) and np.array_equal(runs[-1].xyz, whole.xyz[-100:])
    assert runs[0].columns.keys() == whole.columns.keys()
    assert np.allclose(box, np.stack([whole.xyz.max(0), whole.xyz.min(0)], 1))


def test_what_is_large_and_what_is_not(survey, tmp_path):
    assert is_large(survey) and not is_large(write_las_file(tmp_path / "a.las", make_las()))
    (tmp_path / "b.las").write_bytes(b"junk")
    assert not is_large(tmp_path / "b.las") and not is_large(tmp_path / "c.las")
    with pytest.raises(InputError, match="is no LAS"):
        read_runs(tmp_path / "b.las")


def test_the_one_label_of_a_large_cloud_takes_no_memory():
    extent = Extent(10**12, np.zeros(3), 1.0)
    label, confidence = all_points(np.array([3]), extent), all_points(np.array([0.5]), extent)
    assert len(label) == 10**12 and label[-1] == 3 and label.strides == confidence.strides == (0,)
    assert las_numbers(label) is label and confidence.astype("<f4", copy=False) is confidence
