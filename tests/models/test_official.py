"""The authors' checkpoints: a reference implementation with their names gives the outputs of our models."""

import argparse
import io
import os
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from bixt3d.models import BixtEncoder, BixtImageClassifier, LinearSegmenter, SemanticFPNSegmenter, released
from bixt3d.models.image_preset_table import PRESETS, ImagePreset
from bixt3d.models.image_presets import BixtPreset
from bixt3d.models.official import convert, load_official_weights, read_checkpoint
from bixt3d.models.released import fetch_released
from bixt3d.nn.local_patch import LocalPatchRefinement
from bixt3d.tokenizers import ConvTokenizer, PatchTokenizer
from bixt3d.types import InputError

OFFICIAL = Path(__file__).parents[2].parent / "shared/data/official_parity"
DIM, HEADS, LATENTS, CLASSES = 16, 2, 5, 7
CROSS, SELF = "cross_attention_latents_token", "self_attention_latents"
VARIANTS = {
    "linear": {},
    "overlapping": {"kernel": 8},
    "conv": {"conv": True},
    "layer scale": {"layer_scale": True},
    "d13": {"depth": 5},  # one layer more than a segmenter of 4
}


class OfficialWeights:
    """Random weights with the authors' names, of patches with stride 4."""

    def __init__(self, layer_scale: bool):
        self.generator, self.layer_scale = torch.Generator().manual_seed(0), layer_scale
        self.state: dict[str, Tensor] = {}

    def uniform(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.generator)

    def linear(self, name: str, dim: int, out_dim: int) -> None:
        self.state[f"{name}.weight"] = 1.5 * self.uniform(out_dim, dim) / dim**0.5
        self.state[f"{name}.bias"] = self.uniform(out_dim)

    def norm(self, name: str, dim: int = DIM) -> None:
        self.state[f"{name}.weight"], self.state[f"{name}.bias"] = (
            self.uniform(dim, low=0.5, high=1.5),
            self.uniform(dim),
        )

    def ffn(self, block: str, side: str) -> None:
        self.norm(f"{block}.norm2{side}")
        self.linear(f"{block}.mlp{side}.fc1", DIM, 4 * DIM)
        self.linear(f"{block}.mlp{side}.fc2", 4 * DIM, DIM)
        for name in ("ls1", "ls2") if self.layer_scale else ():
            self.state[f"{block}.{name}{side}.gamma"] = self.uniform(DIM)

    def linear_patches(self, kernel: int) -> None:
        self.state["patch_embed.proj.weight"] = self.uniform(DIM, 3, kernel, kernel) / 4
        self.state["patch_embed.proj.bias"] = self.uniform(DIM)

    def conv_patches(self) -> None:
        for i, (dim, out_dim) in enumerate([(3, DIM // 2), (DIM // 2, DIM)]):
            name = f"patch_embed.proj.{2 * i}"
            self.state[f"{name}.0.weight"] = self.uniform(out_dim, dim, 3, 3) / dim**0.5
            self.norm(f"{name}.1", out_dim)
            self.state[f"{name}.1.running_mean"] = self.uniform(out_dim)
            self.state[f"{name}.1.running_var"] = self.uniform(out_dim, low=0.5, high=1.5)
            self.state[f"{name}.1.num_batches_tracked"] = torch.tensor(9)

    def layer(self, i: int, two_sided: bool) -> None:
        block = f"blocks.{i}.{CROSS}"
        self.norm(f"{block}.norm1_lat")
        self.norm(f"{block}.norm1_pat")
        self.linear(f"{block}.attn.{'rv' if two_sided else 'r'}_latents", DIM, (1 + two_sided) * DIM)
        self.linear(f"{block}.attn.rv_patches", DIM, 2 * DIM)
        for side in ("_lat", "_pat")[: 1 + two_sided]:
            self.linear(f"{block}.attn.proj{side}", DIM, DIM)
            self.ffn(block, side)
        block = f"blocks.{i}.{SELF}"
        self.norm(f"{block}.norm1")
        self.linear(f"{block}.attn.qkv", DIM, 3 * DIM)
        self.linear(f"{block}.attn.proj", DIM, DIM)
        self.ffn(block, "")


def official_state(depth: int = 3, kernel: int = 4, conv: bool = False, layer_scale: bool = False) -> dict[str, Tensor]:
    """Return the weights of a complete model; its last layer is one-sided."""
    weights = OfficialWeights(layer_scale)
    if conv:
        weights.conv_patches()
    else:
        weights.linear_patches(kernel)
    weights.state["fourier_pos_encode.token_projection.weight"] = weights.uniform(DIM, 64, 1, 1) / 4
    weights.state["fourier_pos_encode.token_projection.bias"] = weights.uniform(DIM)
    weights.state["fourier_pos_encode.pos"] = weights.uniform(64, 4, 4)  # a buffer that must not be read
    weights.state["latents"] = weights.uniform(1, LATENTS, DIM)
    for i in range(depth):
        weights.layer(i, two_sided=i < depth - 1)
    weights.norm("fc_norm")
    weights.linear("head", DIM, CLASSES)
    return weights.state


class PlainBixt:
    """Reference implementation of their network in evaluation, one image at a time."""

    def __init__(self, state: dict[str, Tensor]):
        self.state = state
        self.depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))

    def linear(self, name: str, feats: Tensor) -> Tensor:
        return feats @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, name: str, feats: Tensor) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return functional.layer_norm(feats, (len(weight),), weight, bias, eps=1e-6)

    def add(self, name: str, feats: Tensor, branch: Tensor) -> Tensor:
        return feats + branch * self.state.get(f"{name}.gamma", torch.ones(()))

    def ffn(self, block: str, side: str, feats: Tensor) -> Tensor:
        inner = functional.gelu(self.linear(f"{block}.mlp{side}.fc1", self.norm(f"{block}.norm2{side}", feats)))
        return self.add(f"{block}.ls2{side}", feats, self.linear(f"{block}.mlp{side}.fc2", inner))

    def heads(self, feats: Tensor, parts: int) -> list[Tensor]:
        """Split rows of [first | second | ...] into parts (heads, rows, width of a head)."""
        width = feats.shape[1] // parts
        return [part.reshape(len(part), HEADS, width // HEADS).transpose(0, 1) for part in feats.split(width, 1)]

    def tokens(self, image: Tensor) -> Tensor:
        image = image[None]
        if "patch_embed.proj.weight" in self.state:
            weight, bias = self.state["patch_embed.proj.weight"], self.state["patch_embed.proj.bias"]
            feats = functional.conv2d(image, weight, bias, stride=4, padding=(weight.shape[-1] - 4) // 2)
        else:
            feats = image
            for i in (0, 2):
                name = f"patch_embed.proj.{i}"
                feats = functional.conv2d(feats, self.state[f"{name}.0.weight"], stride=2, padding=1)
                statistics = (
                    self.state[f"{name}.1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
                )
                feats = functional.batch_norm(feats, *statistics)
                feats = functional.gelu(feats) if i == 0 else feats
        feats = feats + self.positions(*feats.shape[-2:])
        return feats[0].flatten(1).T

    def positions(self, rows: int, columns: int) -> Tensor:
        encoded = torch.zeros(1, 64, rows, columns)
        for axis, number in enumerate((rows, columns)):
            place = torch.arange(1, number + 1) / (number + 1e-6) * 2 * torch.pi
            place = place[:, None].expand(rows, columns) if axis == 0 else place.expand(rows, columns)
            for i in range(32):
                angle = place / 10000 ** (2 * (i // 2) / 32)
                encoded[0, 32 * axis + i] = angle.cos() if i % 2 else angle.sin()
        name = "fourier_pos_encode.token_projection"
        return functional.conv2d(encoded, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def cross(self, block: str, latents: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        normed = self.norm(f"{block}.norm1_lat", latents), self.norm(f"{block}.norm1_pat", tokens)
        two_sided = f"{block}.attn.rv_latents.weight" in self.state
        token_refs, token_values = self.heads(self.linear(f"{block}.attn.rv_patches", normed[1]), 2)
        if two_sided:
            latent_refs, latent_values = self.heads(self.linear(f"{block}.attn.rv_latents", normed[0]), 2)
        else:
            (latent_refs,) = self.heads(self.linear(f"{block}.attn.r_latents", normed[0]), 1)
        scores = latent_refs @ token_refs.transpose(1, 2) / latent_refs.shape[2] ** 0.5
        to_latents = (scores.softmax(2) @ token_values).transpose(0, 1).flatten(1)
        latents = self.add(f"{block}.ls1_lat", latents, self.linear(f"{block}.attn.proj_lat", to_latents))
        if two_sided:
            to_tokens = (scores.softmax(1).transpose(1, 2) @ latent_values).transpose(0, 1).flatten(1)
            tokens = self.add(f"{block}.ls1_pat", tokens, self.linear(f"{block}.attn.proj_pat", to_tokens))
            tokens = self.ffn(block, "_pat", tokens)
        return self.ffn(block, "_lat", latents), tokens

    def self_attention(self, block: str, latents: Tensor) -> Tensor:
        query, key, value = self.heads(self.linear(f"{block}.attn.qkv", self.norm(f"{block}.norm1", latents)), 3)
        attended = (query @ key.transpose(1, 2) / query.shape[2] ** 0.5).softmax(2) @ value
        latents = self.add(
            f"{block}.ls1", latents, self.linear(f"{block}.attn.proj", attended.transpose(0, 1).flatten(1))
        )
        return self.ffn(block, "", latents)

    def layers(self, image: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return latents and tokens after each layer."""
        latents, tokens, found = self.state["latents"][0], self.tokens(image), []
        for i in range(self.depth):
            latents, tokens = self.cross(f"blocks.{i}.{CROSS}", latents, tokens)
            latents = self.self_attention(f"blocks.{i}.{SELF}", latents)
            found.append((latents, tokens))
        return found

    def logits(self, image: Tensor) -> Tensor:
        return self.linear("head", self.norm("fc_norm", self.layers(image)[-1][0].mean(0)))


def tokenizer(kernel: int = 4, conv: bool = False) -> PatchTokenizer | ConvTokenizer:
    return ConvTokenizer(DIM, 4) if conv else PatchTokenizer(DIM, kernel, 4)


def classifier(num_classes: int = CLASSES, depth: int = 3, layer_scale: bool = False, **patches) -> BixtImageClassifier:
    encoder = BixtEncoder(DIM, depth, HEADS, LATENTS, layer_scale=1e-5 if layer_scale else None)
    return BixtImageClassifier(num_classes, tokenizer(**patches), encoder).eval()


def segmenter(
    reads: str = "tokens", depth: int = 4, layer_scale: bool = False, refine=None, **patches
) -> LinearSegmenter:
    scale = 1e-5 if layer_scale else None
    encoder = BixtEncoder(DIM, depth, HEADS, LATENTS, reads=reads, layer_scale=scale, refine=refine)
    return LinearSegmenter(3, tokenizer(**patches), encoder).eval()


def images(size: int = 16) -> Tensor:
    return torch.randn(2, 3, size, size + 4, generator=torch.Generator().manual_seed(1))


def saved(state: dict, path: Path) -> Path:
    torch.save(state, path)
    return path


@pytest.mark.parametrize("size", [16, 24])
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_and_latents_equal_the_reference_implementation(variant: str, size: int, tmp_path: Path):
    state, model, image = official_state(**VARIANTS[variant]), classifier(**VARIANTS[variant]), images(size)
    load_official_weights(saved(state, tmp_path / "theirs.pth"), model)
    plain = PlainBixt(state)
    latents, (tokens,) = model.encoder(model.tokenizer(image))
    torch.testing.assert_close(latents, torch.stack([plain.layers(one)[-1][0] for one in image]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        tokens.feats, torch.stack([plain.layers(one)[-1][1] for one in image]), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(model(image), torch.stack([plain.logits(one) for one in image]), rtol=1e-5, atol=1e-5)
    assert model(image).std() > 0.1


@pytest.mark.parametrize("reads", ["tokens", "both"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_tokens_of_a_segmenter_are_those_before_the_one_sided_layer(variant: str, reads: str, tmp_path: Path):
    settings = VARIANTS[variant] | {"depth": 5}
    state, image = official_state(**settings), images()
    model = segmenter(reads, **settings | {"depth": 4})
    head = model.head.weight.clone()
    load_official_weights(saved(state, tmp_path / "theirs.pth"), model)
    _, (tokens,) = model.encoder(model.tokenizer(image))
    expected = torch.stack([PlainBixt(state).layers(one)[3][1] for one in image])
    torch.testing.assert_close(tokens.feats, expected, rtol=1e-5, atol=1e-5)
    assert model.head.weight.equal(head)


def test_a_pyramid_reads_the_tokens_of_the_layers_that_it_keeps(tmp_path: Path):
    state, image = official_state(depth=5), images()
    encoder = BixtEncoder(DIM, 4, HEADS, LATENTS, reads="tokens", keep_layers=[1, 2, 3])
    model = SemanticFPNSegmenter(3, tokenizer(), encoder, 8, 4).eval()
    load_official_weights(saved(state, tmp_path / "theirs.pth"), model)
    layers = PlainBixt(state).layers(image[0])
    for level, (_, tokens) in zip(model.encoder(model.tokenizer(image))[1], layers[:4], strict=True):
        torch.testing.assert_close(level.feats[0], tokens, rtol=1e-5, atol=1e-5)


def test_refinements_of_a_segmenter_stay_new(tmp_path: Path):
    model = segmenter(refine=LocalPatchRefinement)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load_official_weights(saved(official_state(depth=5), tmp_path / "theirs.pth"), model)
    same = {name for name, value in model.state_dict().items() if value.equal(before[name])}
    assert same == {name for name in before if ".refine." in name or name.startswith("head.")}


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason=f"no outputs of the released code under {OFFICIAL}")
@pytest.mark.parametrize("name", ["p16", "conv16"])
def test_logits_and_latents_equal_those_of_the_released_code(name: str):
    tokens = ConvTokenizer(64, 16) if name == "conv16" else PatchTokenizer(64, 16)
    model = BixtImageClassifier(10, tokens, BixtEncoder(64, 3, 2, 8)).eval()
    load_official_weights(OFFICIAL / f"{name}.weights.safetensors", model)
    released_code = load_file(OFFICIAL / f"{name}.io.safetensors")
    latents, _ = model.encoder(model.tokenizer(released_code["image"]))
    torch.testing.assert_close(latents, released_code["latents"], rtol=0, atol=1e-4)
    torch.testing.assert_close(model(released_code["image"]), released_code["logits"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state, "epoch": 3, "args": argparse.Namespace(lr=0.1)},
        lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3},
    ],
    ids=["alone", "model", "state_dict of a parallel model"],
)
def test_weights_are_found_in_a_training_state(wrap, tmp_path: Path):
    state = official_state()
    assert convert(read_checkpoint(saved(wrap(state), tmp_path / "theirs.pth"))).keys() == convert(state).keys()
    load_official_weights(tmp_path / "theirs.pth", classifier())


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pth.tar", ".safetensors", ".zip"])
@pytest.mark.parametrize("zipped", [False, True])
def test_weights_are_read_from_every_kind_of_file_and_from_a_zip_of_one(suffix: str, zipped: bool, tmp_path: Path):
    path, state = tmp_path / f"theirs{suffix}", official_state()
    if suffix == ".zip":  # what torch.save writes is a zip itself
        saved(state, path)
    else:
        save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    if zipped and suffix != ".zip":
        with zipfile.ZipFile(tmp_path / "released.zip", "w") as archive:
            archive.write(path, f"folder/{path.name}")
            archive.writestr("folder/args.yaml", "lr: 1")
            archive.writestr("__MACOSX/folder/._theirs.pth", "junk")
        path = tmp_path / "released.zip"
    found = read_checkpoint(path)
    assert found.keys() == state.keys() and all(found[name].equal(value) for name, value in state.items())


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [False, True])
def test_code_in_a_checkpoint_is_not_executed(zipped: bool, tmp_path: Path):
    path = saved({"model": official_state(), "args": Bomb(tmp_path / "executed")}, tmp_path / "theirs.pth")
    if zipped:
        with zipfile.ZipFile(tmp_path / "theirs.zip", "w") as archive:
            archive.write(path, "../../theirs.pth")  # and nothing is written where the zip says
        path = tmp_path / "theirs.zip"
    with pytest.raises(InputError, match="has no weights that can be read safely") as refusal:
        load_official_weights(path, classifier())
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "executed").exists() and not (tmp_path.parents[1] / "theirs.pth").exists()


def write_zip(path: Path, **files: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)


@pytest.mark.parametrize(
    "write, sentence",
    [
        (lambda path: None, "there are no weights"),
        (lambda path: path.write_bytes(b"junk"), "has no weights that can be read"),
        (lambda path: path.write_bytes(b""), "has no weights that can be read"),
        (lambda path: write_zip(path, readme_txt=b"hello"), "must contain one file of weights .*, not 0"),
        (lambda path: write_zip(path, a_pth=b"1", b_pt=b"2"), "must contain one file of weights .*, not 2"),
        (lambda path: write_zip(path, a_pth=b"junk"), "has no weights that can be read"),
        (lambda path: write_zip(path, a_safetensors=b"junk"), "has no weights that can be read"),
        (lambda path: torch.save({"epoch": 3}, path), "has no state_dict"),
        (lambda path: torch.save([1, 2], path), "has no state_dict"),
        (lambda path: torch.save({"model": {}}, path), "has no state_dict"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused_with_one_sentence(write, sentence: str, tmp_path: Path):
    write(path := tmp_path / "theirs.zip")
    with pytest.raises(InputError, match=sentence) as refusal:
        read_checkpoint(path)
    assert "\n" not in str(refusal.value)


REFUSED = {
    "another tokenizer": (
        {"conv": True},
        {},
        r"missing: tokenizer.project.weight, tokenizer.project.bias; unexpected: ",
    ),
    "another kernel": (
        {"kernel": 8},
        {},
        r"of another shape: tokenizer.project.weight \(16, 3, 8, 8\) for \(16, 3, 4, 4\)",
    ),
    "LayerScale": ({"layer_scale": True}, {}, r"unexpected: encoder.layers.0.cross.latent_residual.scale.factor, "),
    "no LayerScale": ({}, {"layer_scale": True}, r"missing: encoder.layers.0.cross.latent_residual.scale.factor, "),
    "a layer more": ({"depth": 4}, {}, r"missing: encoder.layers.2.cross.attention.query.weight.* and \d+ more"),
    "other classes": ({}, {"num_classes": 3}, r"of another shape: head.weight \(7, 16\) for \(3, 16\), head.bias"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_checkpoint_of_another_variant_is_refused_with_a_list_and_changes_nothing(case: str, tmp_path: Path):
    theirs, ours, sentence = REFUSED[case]
    model = classifier(**ours)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(
        InputError, match=f"does not fit this BixtImageClassifier, it is of another variant: .*{sentence}"
    ):
        load_official_weights(saved(official_state(**theirs), tmp_path / "theirs.pth"), model)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("depth", [4, 6])
def test_a_segmenter_takes_a_model_with_one_layer_more_and_no_other(depth: int, tmp_path: Path):
    with pytest.raises(InputError, match="missing: encoder.layers.3" if depth == 4 else "unexpected: encoder.layers.4"):
        load_official_weights(saved(official_state(depth=depth), tmp_path / "theirs.pth"), segmenter())


def test_a_new_head_is_kept_if_asked_for(tmp_path: Path):
    model = classifier(num_classes=3)
    nn.init.normal_(model.head.weight)
    head, state = model.head.weight.clone(), official_state()
    load_official_weights(saved(state, tmp_path / "theirs.pth"), model, new_head=True)
    assert model.head.weight.equal(head) and model.encoder.latents.equal(state["latents"])


@pytest.fixture
def tiny_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Release a tiny model under the number 1, in a folder in place of figshare."""
    numbers = {"dim": DIM, "depth": 3, "num_heads": HEADS, "num_latents": LATENTS, "kernel": 4, "stride": 4}
    monkeypatch.setitem(PRESETS, "bixt_tiny", ImagePreset(figshare=1, **numbers))
    monkeypatch.setitem(PRESETS, "bixt_secret", ImagePreset(**numbers))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(released, "ADDRESS", f"{(tmp_path / 'figshare').as_uri()}/{{}}")
    (tmp_path / "figshare").mkdir()
    state = official_state()
    torch.save({"model": state}, weights := io.BytesIO())
    with zipfile.ZipFile(tmp_path / "figshare/1", "w") as archive:
        archive.writestr("bixt_tiny.pth", weights.getvalue())
    return state


def test_released_weights_are_fetched_once_and_a_log_file_gets_one_line(tiny_release, tmp_path: Path, capsys):
    path = fetch_released("bixt_tiny")
    assert path == tmp_path / "cache/hub/bixt3d/bixt_tiny.zip"
    said = capsys.readouterr()
    assert "downloading bixt_tiny.zip from file://" in said.err and "%" not in said.err and said.out == ""
    (tmp_path / "figshare/1").unlink()
    assert fetch_released("bixt_tiny") == path
    assert sorted(one.name for one in path.parent.iterdir()) == ["bixt_tiny.zip", "bixt_tiny.zip.sha256"]


def test_another_file_than_the_first_and_one_too_large_are_refused(tiny_release, tmp_path: Path, monkeypatch):
    path, file = fetch_released("bixt_tiny"), tmp_path / "figshare/1"
    path.unlink()
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(InputError, match="not that of the first one, which .*bixt_tiny.zip.sha256 keeps"):
        fetch_released("bixt_tiny")
    monkeypatch.setattr(released, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match="more than 1000 bytes came"):
        fetch_released("bixt_tiny")
    assert not path.exists()


@pytest.mark.parametrize("num_classes", [3, 1000])
def test_a_pretrained_preset_begins_with_the_released_weights(tiny_release, num_classes: int):
    if num_classes == 1000:
        with pytest.raises(InputError, match=r"head.weight \(7, 16\) for \(1000, 16\)"):  # this one has 7 classes
            BixtPreset(1000, "bixt_tiny", pretrained=True)
        return
    model = BixtPreset(num_classes, "bixt_tiny", pretrained=True)
    assert model.encoder.latents.equal(tiny_release["latents"])
    assert model.head.weight.eq(0).all()


def test_a_file_that_arrives_broken_is_refused_and_not_kept(tiny_release, tmp_path: Path):
    file = tmp_path / "figshare/1"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(
        InputError,
        match=r"could not fetch .*/1 \(the download is not a complete zip file\): fetch it by hand, put it at",
    ):
        fetch_released("bixt_tiny")
    assert not list((tmp_path / "cache/hub/bixt3d").iterdir())


def test_a_file_that_is_not_there_is_refused(tiny_release, tmp_path: Path):
    (tmp_path / "figshare/1").unlink()
    with pytest.raises(InputError, match=r"could not fetch file://.*/1 \(.*No such file.*\): fetch it by hand"):
        fetch_released("bixt_tiny")


def test_a_model_that_was_not_released_is_refused(tiny_release):
    with pytest.raises(InputError, match=r"no weights of 'bixt_secret' were released; there are: bixt_ti_l64_p16, "):
        BixtPreset(1000, "bixt_secret", pretrained=True)


@pytest.mark.parametrize(
    "content",
    [
        {"head.weight": torch.full((3, 2), float("nan"))},
        {3: torch.zeros(1)},
        {"a": torch.zeros(1, dtype=torch.complex64)},
        {"a": torch.zeros(1).expand(10**8)},
        {"a": torch.zeros(3).to_sparse()},
        {"model": {"a": [1]}},
        [torch.zeros(1)],
        3,
    ],
    ids=lambda content: str(type(content)),
)
def test_a_file_without_usable_weights_is_refused_with_one_sentence(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"x\.pth") as caught:
        read_checkpoint(tmp_path / "x.pth")
    assert "\n" not in str(caught.value)


def test_a_zip_that_unpacks_to_far_more_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.pth", bytes(2**25))
    with pytest.raises(InputError, match="too large"):
        read_checkpoint(tmp_path / "x.zip")
