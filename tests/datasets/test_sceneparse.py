"""Images and annotations in the layout of ADE20K: names, classes, sizes, and each fault in one sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bixt3d.datasets import SceneParse, SegmentationAugment
from bixt3d.datasets.images.sceneparse import read_annotation, read_class_names
from bixt3d.datasets.images.transforms import to_pixels
from bixt3d.types import InputError

CAMVID = Path(__file__).parents[2].parent / "shared/data/camvid_sceneparse"
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from 3.12 on

NAMES = "Idx\tName\n1\tsky\n2\troad\n3\tcar\n"


def numbers(seed: int, width: int, height: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, (height, width), dtype=np.uint8)


def write_scene(root: Path, split: str, name: str, seed: int, width: int = 12, height: int = 8) -> None:
    """Write an image whose color is 60 times its class, and its annotation."""
    for kind, ending in (("images", "bmp"), ("annotations", "png")):
        path = root / kind / split / f"{name}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        array = numbers(seed, width, height)
        Image.fromarray(array if kind == "annotations" else np.repeat(60 * array[..., None], 3, axis=2)).save(path)


@pytest.fixture
def scenes(tmp_path) -> Path:
    """Return three training images, and four test images of two sizes."""
    (tmp_path / "objectInfo.txt").write_text(NAMES)
    for place in range(3):
        write_scene(tmp_path, "training", f"scene_{place}", place)
    for place, width in enumerate((12, 12, 14, 12)):
        write_scene(tmp_path, "validation", f"scene_{place}", 10 + place, width)
    return tmp_path


def source(root: Path, **settings) -> SceneParse:
    return SceneParse(str(root), **{"size": 8, "workers": 0} | settings)


def read(images, seed: int | None = None) -> list[dict[str, torch.Tensor]]:
    return list(images.batches(torch.arange(len(images)).split(4), seed))


def test_images_are_found_and_their_classes_named(scenes):
    train, test = source(scenes).load()
    assert (len(train), len(test)) == (3, 4)
    assert train.class_names == test.class_names == ("sky", "road", "car")


def test_files_that_are_not_read_are_said(scenes):
    assert source(scenes).load()[0].notes == ()
    (scenes / "images/training/old").mkdir()
    for name in ("x.tif", "old/1.jpg"):
        (scenes / "images/training" / name).touch()
    assert source(scenes).load()[1].notes == (
        "images/training: 1 file of other kinds not read: x.tif",
        "images/training: 1 file in folders that are not read: old/1.jpg",
    )


def test_every_pixel_keeps_its_class_and_zero_is_none(scenes):
    (batch,) = read(source(scenes).load()[0])
    assert batch["labels"].dtype == torch.int64
    for place in range(3):
        expected = numbers(place, 12, 8).astype(int)
        assert np.array_equal(batch["labels"][place].numpy(), expected - 1)
        assert np.array_equal(to_pixels(batch["image"][place])[..., 0], 60 * expected)


def test_extensions_may_be_in_capitals(scenes):
    before = read(source(scenes).load()[0])[0]
    for path in [*scenes.glob("images/*/*.bmp"), *scenes.glob("annotations/*/*.png")]:
        path.rename(path.with_suffix(path.suffix.upper()))
    after = read(source(scenes).load()[0])[0]
    assert all(after[name].equal(before[name]) for name in ("image", "labels"))


def test_evaluation_sees_whole_images_in_order_and_splits_a_batch_by_size(scenes):
    batches = read(source(scenes).load(SegmentationAugment())[1])
    assert [tuple(batch["image"].shape) for batch in batches] == [(2, 3, 8, 12), (1, 3, 8, 14), (1, 3, 8, 12)]
    assert [tuple(batch["labels"].shape) for batch in batches] == [(2, 8, 12), (1, 8, 14), (1, 8, 12)]
    assert np.array_equal(batches[2]["labels"][0].numpy(), numbers(13, 12, 8).astype(int) - 1)


@pytest.mark.parametrize("size", [6, 8, 20])
def test_training_sees_squares_and_repeats_itself(scenes, size):
    augment = SegmentationAugment(scale=(0.5, 2.0))
    train, cached = (source(scenes, size=size, cache=cache).load(augment)[0] for cache in (False, True))
    (first,), (again,), (other,), (stored,) = (read(*how) for how in ((train, 1), (train, 1), (train, 2), (cached, 1)))
    assert first["image"].shape == (3, 3, size, size) and first["labels"].shape == (3, size, size)
    assert first["labels"].min() >= -1 and first["labels"].max() <= 2
    assert all(first[name].equal(again[name]) and first[name].equal(stored[name]) for name in first)
    assert not first["image"].equal(other["image"])


def test_padding_has_no_class_and_the_mean_color(scenes):
    train = source(scenes, size=24).load(SegmentationAugment(scale=(1.0, 1.0), color_jitter=0.0))[0]
    (batch,) = read(train, seed=0)
    beyond = batch["labels"] < 0
    assert beyond.sum((1, 2)).min() >= 24 * 24 - 8 * 12
    assert batch["image"].abs().amax(1)[beyond].lt(0.02).float().mean() > 0.9  # the rest is class 0, in black


def test_a_color_table_in_an_annotation_does_not_matter(scenes):
    path = scenes / "annotations" / "training" / "scene_0.png"
    with Image.open(path) as picture:
        expected = np.array(picture)
    indexed = Image.new("P", (12, 8))
    indexed.putdata(expected.flatten().tolist())
    indexed.putpalette([value for color in range(256) for value in (255 - color, color, 7)])
    indexed.save(path)
    with Image.open(path) as picture:
        assert picture.mode == "P"
    assert np.array_equal(read_annotation(path, 3), expected)


def test_names_as_ade20k_lists_them(tmp_path):
    lines = ["Idx\tRatio\tTrain\tVal\tStuff\tName"]
    lines += ["1\t0.1576\t11664\t1172\t1\twall\t\t", "2\t0.1072\t6046\t612\t1\tbuilding, edifice"]
    lines += ["3\t0.0020\t100\t10\t0\tscreen, silver screen", "4\t0.0010\t90\t9\t0\tscreen, CRT screen", ""]
    (tmp_path / "objectInfo150.txt").write_text("\n".join(lines))
    names = read_class_names(tmp_path / "objectInfo150.txt")
    assert names == ("wall", "building", "screen, silver screen", "screen, CRT screen")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must begin with a line that names columns Idx and Name"),
        ("1\tsky\n2\troad\n", "must begin with a line that names columns Idx and Name"),
        ("Idx\tName\n", "must number its classes 1, 2, 3"),
        ("Idx\tName\n1\tsky\n3\troad\n", "must number its classes 1, 2, 3"),
        ("Idx\tName\n1\tsky\n2\n", "must number its classes 1, 2, 3"),
        ("Idx\tName\n1\tsky\n2\t \n", "must number its classes 1, 2, 3"),
        ("Idx\tName\n" + "".join(f"{i}\tc{i}\n" for i in range(1, 257)), "up to 255"),
    ],
)
def test_a_list_of_names_that_is_broken_is_refused(scenes, text, words):
    (scenes / "objectInfo.txt").write_text(text)
    with pytest.raises(InputError) as caught:
        source(scenes).load()
    assert str(caught.value).startswith(f"{scenes / 'objectInfo.txt'} {words}") or words in str(caught.value)


def remove(root: Path, name: str) -> None:
    path = root / name
    if path.is_dir():
        path.rename(root / "elsewhere")
    else:
        path.unlink()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("objectInfo.txt", "{root}/objectInfo150.txt is missing: it names the classes"),
        ("images/training", "{root}/images/training is missing"),
        ("annotations/validation", "{root}/annotations/validation is missing"),
        ("annotations/training/scene_1.png", "{root}/annotations/training/scene_1.png is missing: {root}/images/train"),
    ],
)
def test_what_is_missing_is_named(scenes, name, sentence):
    remove(scenes, name)
    with pytest.raises(InputError) as caught:
        source(scenes).load()
    assert sentence.format(root=scenes) in str(caught.value)


def save(array: np.ndarray):
    return lambda path: Image.fromarray(array).save(path)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (save(numbers(0, 12, 9)), "{path} has 12 x 9 pixels, but its image {image} has 12 x 8"),
        (save(numbers(0, 8, 12)), "{path} has 8 x 12 pixels, but its image {image} has 12 x 8"),
        (save(numbers(0, 12, 8) + 1), "{path} has pixels of class 4, but there are the classes 1 to 3, and 0: none"),
        (save(numbers(0, 12, 8).astype(np.uint16) * 300), "{path} has pixels of class 900, but there are"),
        (save(np.zeros((8, 12, 3), np.uint8)), "{path} is a color image: an annotation has one number for each"),
        (lambda path: path.write_text("none"), "{path} is not an image that can be read: "),
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "{path} is not an image that can be read: "),
    ],
)
def test_each_fault_of_an_annotation_is_one_sentence_with_its_name(scenes, workers, change, sentence):
    path, image = scenes / "annotations/training/scene_1.png", scenes / "images/training/scene_1.bmp"
    change(path)
    train = source(scenes, workers=workers).load()[0]
    with pytest.raises(InputError) as caught:
        list(train.batches(torch.arange(3).split(1)))
    assert str(caught.value).startswith(sentence.format(path=path, image=image))
    assert "\n" not in str(caught.value)


def test_an_image_that_does_not_decode_is_named(scenes):
    path = scenes / "images/validation/scene_3.bmp"
    path.write_text("none")
    with pytest.raises(InputError, match="images/validation/scene_3.bmp is not an image that can be read"):
        read(source(scenes).load()[1])


@pytest.mark.skipif(not CAMVID.is_dir(), reason=f"real data are absent: {CAMVID}")
def test_camvid_is_read():
    train, test = SceneParse(str(CAMVID), size=64, workers=0).load(SegmentationAugment())
    assert (len(train), len(test), len(train.class_names)) == (367, 101, 11)
    (batch,) = test.batches([torch.tensor([0, 50, 100])])
    assert batch["image"].shape == (3, 3, 360, 480)
    assert set(batch["labels"].unique().tolist()) <= set(range(-1, 11))
    (batch,) = train.batches([torch.arange(4)], seed=0)
    assert batch["image"].shape == (4, 3, 64, 64)


def test_a_photo_whose_annotation_is_not_turned_upright_is_a_sentence(scenes):
    path, exif = scenes / "images/training/scene_0.jpg", Image.Exif()
    exif[0x0112] = 6
    Image.open(path.with_suffix(".bmp")).save(path, exif=exif)
    path.with_suffix(".bmp").unlink()
    with pytest.raises(InputError, match="has 8 x 12, upright as its EXIF orientation says"):
        read(source(scenes).load()[0])
    annotation = scenes / "annotations/training/scene_0.png"
    Image.open(annotation).transpose(Image.Transpose.ROTATE_270).save(annotation)
    assert read(source(scenes).load()[0])


@pytest.mark.parametrize("text", [b"Idx\tName\n1\tsk\x1by\n", b"Idx\tName\n1\t\xeb\n"])
def test_names_of_classes_are_text_that_can_be_printed(tmp_path, text):
    (tmp_path / "objectInfo.txt").write_bytes(text)
    with pytest.raises(InputError, match="objectInfo.txt (is not text in UTF-8|has the name)"):
        read_class_names(tmp_path / "objectInfo.txt")
