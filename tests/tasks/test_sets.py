"""The sets of a run: what is said of classes without clouds, and what a split copies."""

from types import SimpleNamespace

import pytest
import torch

from bixt3d import datasets
from bixt3d.datasets import stratified_split
from bixt3d.tasks.sets import ChosenClouds, empty_classes, load_sets, split_sets
from bixt3d.types import CloudSet, Features, InputError


def clouds_of(*labels: int) -> CloudSet:
    """Return clouds with these labels, of three classes."""
    xyz = torch.zeros(len(labels), 4, 3)
    return CloudSet(xyz, xyz[..., :0], torch.tensor(labels), ("cup", "box", "ball"))


@pytest.mark.parametrize("name", ["SceneFolder", "S3DIS", "ModelNetHDF5", "PartHDF5", "ImageFolder", "SceneParse"])
def test_missing_data_name_the_option_for_another_folder(name: str, tmp_path):
    data = getattr(datasets, name)(root=str(tmp_path / "away"))
    task = SimpleNamespace(load=lambda run: run.data.load())
    with pytest.raises(InputError, match="--data.root FOLDER") as caught:
        load_sets(task, SimpleNamespace(data=data))
    assert str(caught.value).count("--data.root") == 1


def test_a_class_without_clouds_is_named_with_its_split():
    assert empty_classes([clouds_of(0, 2), clouds_of(0, 1, 2)]) == ["warning: the training set has no clouds of box"]
    assert empty_classes([clouds_of(0, 1, 2), clouds_of(1)]) == ["warning: the test set has no clouds of cup, ball"]
    assert empty_classes([clouds_of(0, 1, 2), clouds_of(2, 1, 0)]) == []


def test_the_training_clouds_beside_a_validation_split_are_those_of_the_set_and_no_copy():
    xyz, parts = torch.randn(12, 4, 3), torch.arange(48).view(12, 4)
    clouds = CloudSet(xyz, xyz, torch.arange(12) % 2, ("cup", "box"), parts, features=Features.parse("normal"))
    sets = split_sets((clouds, clouds), 0.25, seed=0)
    index = stratified_split(clouds.label, 0.25, 0)[0]
    assert isinstance(sets.train, ChosenClouds) and sets.train.clouds.xyz is xyz
    copy, some = clouds.subset(index), torch.tensor([7, 0, 2])
    for chosen in (sets.train, sets.train.to("cpu")):
        assert len(chosen) == len(copy) == 8 and chosen.class_names == copy.class_names
        for one, other in ((chosen[some], copy[some]), (vars(chosen.subset(some)), vars(copy.subset(some)))):
            assert all(torch.equal(one[name], other[name]) for name in ("xyz", "feats", "label", "parts"))
        for name in ("xyz", "feats", "label", "parts"):
            assert torch.equal(getattr(chosen, name), getattr(copy, name))
        batches = zip(chosen.batches([some, some - 2]), copy.batches([some, some - 2]), strict=True)
        assert all(torch.equal(one[name], other[name]) for one, other in batches for name in other)
    assert ChosenClouds(CloudSet(xyz, xyz[..., :0], torch.zeros(12).long(), ("cup",)), index).parts is None
