"""PointMLP: its published sizes, and the outputs of the released code."""

from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentParser
from safetensors.torch import load_file
from torch.nn import functional

from bixt3d.models import CloudClassifier, PointMLP, PointMLPElite
from bixt3d.models.baselines.official_pointmlp import load_official_pointmlp
from bixt3d.types import InputError

OFFICIAL = Path(__file__).parents[2].parent / "shared/data/official_parity"
SIZES = {"dim": 4, "growth": [2, 1], "num_pre": [1, 2], "num_post": [2, 0], "ratio": 0.5}


def tiny_model() -> PointMLP:
    return PointMLP(5, **SIZES, num_neighbors=3).double().eval()


def random_clouds(num_clouds: int = 2, size: int = 16) -> torch.Tensor:
    return torch.randn(num_clouds, size, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def no_feats(xyz: torch.Tensor) -> torch.Tensor:
    return xyz[:, :, :0]


def official_checkpoint() -> dict[str, torch.Tensor]:
    """Random parameters and statistics under the released names, for the tiny sizes above."""
    generator = torch.Generator().manual_seed(0)
    state = {}

    def uniform(*shape, low=-1.0, high=1.0):
        return low + (high - low) * torch.rand(shape, dtype=torch.float64, generator=generator)

    def add_norm(name, dim):
        state[f"{name}.weight"] = uniform(dim, low=0.5, high=1.5)
        state[f"{name}.bias"], state[f"{name}.running_mean"] = uniform(dim), uniform(dim)
        state[f"{name}.running_var"] = uniform(dim, low=0.5, high=1.5)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def add_conv(name, dim, out_dim):
        state[f"{name}.0.weight"] = uniform(out_dim, dim, 1)
        add_norm(f"{name}.1", out_dim)

    def add_residuals(name, dim, number):
        for i in range(number):
            add_conv(f"{name}.operation.{i}.net1", dim, dim // 2)
            add_conv(f"{name}.operation.{i}.net2", dim // 2, dim)

    add_conv("embedding.net", 3, 4)
    for i, (dim, out_dim, num_pre, num_post) in enumerate([(4, 8, 1, 2), (8, 8, 2, 0)]):
        state[f"local_grouper_list.{i}.affine_alpha"] = uniform(1, 1, 1, dim)
        state[f"local_grouper_list.{i}.affine_beta"] = uniform(1, 1, 1, dim)
        add_conv(f"pre_blocks_list.{i}.transfer.net", 2 * dim, out_dim)
        add_residuals(f"pre_blocks_list.{i}", out_dim, num_pre)
        add_residuals(f"pos_blocks_list.{i}", out_dim, num_post)
    for i, dim, out_dim in [(0, 8, 512), (4, 512, 256), (8, 256, 5)]:
        state[f"classifier.{i}.weight"] = uniform(out_dim, dim) / dim**0.5
        state[f"classifier.{i}.bias"] = uniform(out_dim)
    add_norm("classifier.1", 512)
    add_norm("classifier.5", 256)
    return state


class PlainPointMLP:
    """Reference implementation of PointMLP in evaluation: one cloud at a time, channels first."""

    def __init__(self, state: dict[str, torch.Tensor], num_neighbors: int, num_pre: list[int], num_post: list[int]):
        self.state, self.num_neighbors, self.num_pre, self.num_post = state, num_neighbors, num_pre, num_post

    def norm(self, name, feats):
        names = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(feats, *(self.state[f"{name}.{part}"] for part in names))

    def conv(self, name, feats):
        return self.norm(f"{name}.1", functional.conv1d(feats, self.state[f"{name}.0.weight"]))

    def residuals(self, name, feats, number):
        for i in range(number):
            inner = self.conv(f"{name}.operation.{i}.net1", feats).relu()
            feats = (self.conv(f"{name}.operation.{i}.net2", inner) + feats).relu()
        return feats

    def centroids(self, xyz):
        chosen = [0]
        while len(chosen) < len(xyz) // 2:
            chosen.append(int(torch.cdist(xyz, xyz[chosen]).amin(1).argmax()))
        return torch.tensor(chosen)

    def stage(self, i, xyz, feats):
        """``xyz`` (N, 3), ``feats`` (1, D, N): return half as many of each."""
        centroids = self.centroids(xyz)
        nearest = torch.cdist(xyz[centroids], xyz).argsort(1)[:, : self.num_neighbors]
        points = feats[0].T
        difference = points[nearest] - points[centroids][:, None]
        scale, shift = (self.state[f"local_grouper_list.{i}.affine_{name}"][0] for name in ("alpha", "beta"))
        affine = scale * difference / (difference.std() + 1e-5) + shift
        groups = torch.cat([affine, points[centroids][:, None].expand_as(difference)], -1).transpose(1, 2)
        groups = self.conv(f"pre_blocks_list.{i}.transfer.net", groups).relu()
        groups = self.residuals(f"pre_blocks_list.{i}", groups, self.num_pre[i]).amax(2)
        return xyz[centroids], self.residuals(f"pos_blocks_list.{i}", groups.T[None], self.num_post[i])

    def logits(self, xyz):
        feats = self.conv("embedding.net", xyz.T[None]).relu()
        for i in range(len(self.num_pre)):
            xyz, feats = self.stage(i, xyz, feats)
        feats = feats.amax(2)
        for i in (0, 4):
            feats = functional.linear(feats, self.state[f"classifier.{i}.weight"], self.state[f"classifier.{i}.bias"])
            feats = self.norm(f"classifier.{i + 1}", feats).relu()
        return functional.linear(feats, self.state["classifier.8.weight"], self.state["classifier.8.bias"])


@pytest.mark.parametrize(("model", "num_parameters"), [(PointMLP, 13_238_504), (PointMLPElite, 716_232)])
def test_models_have_the_published_number_of_parameters(model, num_parameters):
    assert sum(parameter.numel() for parameter in model(40).parameters()) == num_parameters


def test_logits_equal_the_reference_implementation():
    model, state, xyz = tiny_model(), official_checkpoint(), random_clouds()
    load_official_pointmlp(model, state)
    plain = PlainPointMLP(state, num_neighbors=3, num_pre=SIZES["num_pre"], num_post=SIZES["num_post"])
    expected = torch.cat([plain.logits(cloud) for cloud in xyz])
    torch.testing.assert_close(model(xyz, no_feats(xyz)), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason=f"no outputs of the released code under {OFFICIAL}")
def test_logits_equal_those_of_the_released_code():
    model = PointMLPElite(7).eval()
    load_official_pointmlp(model, load_file(OFFICIAL / "pointmlp_elite.weights.safetensors"))
    released = load_file(OFFICIAL / "pointmlp_elite.io.safetensors")
    with torch.no_grad():
        logits = model(released["xyz"], no_feats(released["xyz"]))
    torch.testing.assert_close(logits, released["logits"], rtol=0, atol=1e-5)


def test_a_checkpoint_of_a_parallel_model_inside_a_training_state_is_read_too():
    plain, wrapped, xyz = tiny_model(), tiny_model(), random_clouds()
    state = official_checkpoint()
    load_official_pointmlp(plain, state)
    renamed = {f"module.{name}": value for name, value in state.items()}
    load_official_pointmlp(wrapped, {"net": renamed, "epoch": 3, "best_test_acc": 94.1})
    assert wrapped(xyz, no_feats(xyz)).equal(plain(xyz, no_feats(xyz)))


def test_a_checkpoint_that_does_not_fit_is_refused_with_a_list_and_changes_nothing():
    model, state = tiny_model(), official_checkpoint()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    del state["embedding.net.0.weight"]
    state["classifier.9.weight"] = torch.zeros(3)
    state["classifier.8.bias"] = torch.zeros(40)
    with pytest.raises(InputError) as refusal:
        load_official_pointmlp(model, state)
    assert str(refusal.value) == (
        "the checkpoint does not fit this PointMLP: missing: embedding.0.weight; unexpected: classifier.9.weight; "
        "of another shape: classifier.8.bias (40,) for (5,)"
    )
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_a_checkpoint_of_something_else_is_refused_with_a_short_list():
    with pytest.raises(InputError, match=r"and \d+ more; unexpected: model, epoch$"):
        load_official_pointmlp(tiny_model(), {"model": {}, "epoch": 3})


def test_every_parameter_gets_a_gradient():
    model, xyz = tiny_model(), random_clouds()  # eval mode: in training a bias before a batch norm does nothing
    load_official_pointmlp(model, official_checkpoint())
    model(xyz, no_feats(xyz)).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []


@pytest.mark.parametrize("features", ["", "normal", "rgb,intensity"])
def test_the_model_trains_on_a_batch_and_reads_its_features(features):
    torch.manual_seed(0)
    model, xyz = PointMLP(5, **SIZES, num_neighbors=3, features=features), random_clouds(4).float()
    feats = torch.rand(*xyz.shape[:2], model.features.width)
    model(xyz, feats).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    model.eval()
    assert model(xyz, feats).equal(model(xyz, 1 - feats)) == (not features)


def test_the_order_of_points_does_not_matter_but_for_the_first():
    model, xyz = tiny_model(), random_clouds()
    load_official_pointmlp(model, official_checkpoint())
    order = torch.cat(
        [torch.zeros(1, dtype=torch.int64), 1 + torch.randperm(15, generator=torch.Generator().manual_seed(2))]
    )
    shuffled = xyz[:, order]
    torch.testing.assert_close(model(shuffled, no_feats(shuffled)), model(xyz, no_feats(xyz)))


def test_settings_of_stages_of_unequal_length_are_refused():
    with pytest.raises(InputError, match="need one number per stage, but have 4, 2 and 4"):
        PointMLP(5, num_pre=[1, 1])


def test_sizes_come_from_lists_in_yaml(tmp_path):
    cfg = tmp_path / "run.yaml"
    cfg.write_text(
        "model: {class_path: bixt3d.models.PointMLP, init_args: "
        "{num_classes: 5, dim: 4, growth: [2, 1], num_pre: [1, 2], num_post: [2, 0]}}"
    )
    parser = ArgumentParser()
    parser.add_argument("--cfg", action="config")
    parser.add_subclass_arguments(CloudClassifier, "model")
    model = parser.instantiate(parser.parse_args(["--cfg", str(cfg)])).model
    assert [stage.norm.num_features for stage in model.stages] == [8, 8]
