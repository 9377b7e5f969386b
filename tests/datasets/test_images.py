"""Folders of images: which files are read, their conversion, reproducible augmentation, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bixt3d.datasets import ImageAugment, ImageFolder
from bixt3d.datasets.images.reading import ImageSet, read_image
from bixt3d.datasets.images.transforms import to_pixels
from bixt3d.inference.images import as_image
from bixt3d.types import InputError

SAMPLE = Path(__file__).parents[2].parent / "shared/data/imagenet_sample"
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from 3.12 on


def pixels(seed: int, width: int = 16, height: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return six images to train on and three to test on: cats of seeds 0 to 2 and 10, dogs of 100 to 102, 110, 111."""
    for split, places in {"train": range(3), "test": range(10, 11)}.items():
        for name, first in {"dog": 100, "cat": 0}.items():
            for place in places:
                write(tmp_path / split / name / f"{place}.png", pixels(first + place))
    write(tmp_path / "test" / "dog" / "11.png", pixels(111))
    return tmp_path


def source(folder: Path, **settings) -> ImageFolder:
    return ImageFolder(str(folder), **{"size": 16, "crop_fraction": 1.0, "workers": 0} | settings)


def all_of(images: ImageSet, batch_size: int = 2, seed: int | None = None) -> dict[str, torch.Tensor]:
    batches = list(images.batches(torch.arange(len(images)).split(batch_size), seed))
    assert [len(batch["label"]) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    return {name: torch.cat([batch[name] for batch in batches]) for name in ("image", "label")}


def test_classes_are_numbered_by_the_names_of_their_folders(folder):
    train, test = source(folder).load()
    assert train.class_names == test.class_names == ("cat", "dog")
    assert train.label.tolist() == [0, 0, 0, 1, 1, 1]
    assert test.label.tolist() == [0, 1, 1]
    assert (len(train), len(test)) == (6, 3)


def test_an_image_of_the_size_arrives_as_it_is(folder):
    test = source(folder).load()[1]
    seen = all_of(test)
    assert seen["image"].dtype == torch.float32
    assert [seed for seed in (10, 110, 111)] == [
        next(seed for seed in range(120) if np.array_equal(to_pixels(image), pixels(seed))) for image in seen["image"]
    ]
    assert seen["label"].equal(test.label)


def test_batches_come_in_the_order_asked_for(folder):
    train = source(folder).load()[0]
    whole = all_of(train)
    (batch,) = train.batches([torch.tensor([4, 0, 5])])
    assert batch["image"].equal(whole["image"][[4, 0, 5]])
    assert batch["label"].tolist() == [1, 0, 1]
    assert list(train.batches([])) == []


def test_files_that_are_not_read_are_said(folder):
    for name in (
        "train/cat/9.avif",
        "train/cat/more/7.png",
        "train/index.txt",
        "test/cat/Thumbs.db",
        "test/dog/.1.png",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    assert source(folder).load()[0].notes == (
        "train: 2 files of other kinds not read: cat/9.avif, index.txt",
        "train: 1 file in folders that are not read: cat/more/7.png",
    )


def test_tested_is_on_test_or_on_val_if_test_has_no_classes(folder):
    (folder / "test").rename(folder / "val")
    assert len(source(folder).load()[1]) == 3
    write(folder / "test" / "ILSVRC2012_test_00000001.png", pixels(0))  # ImageNet's own: without labels
    assert len(source(folder).load()[1]) == 3


def test_only_images_are_read_whatever_the_case_of_their_endings(folder):
    for name in ("a.JPEG", "b.Jpg", "c.PNG", "d.bmp", "e.webp"):
        write(folder / "train" / "cat" / name, pixels(1))
    for name in ("notes.txt", "cat.json", ".hidden.png", "Thumbs.db"):
        (folder / "train" / "cat" / name).write_text("no image")
    (folder / "train" / ".cache").mkdir()
    train = source(folder).load()[0]
    assert train.label.tolist() == [0] * 8 + [1] * 3
    assert all_of(train)["image"].isfinite().all()


@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        ("L", "png"),
        ("L", "jpg"),
        ("1", "png"),
        ("P", "png"),
        ("P", "bmp"),
        ("RGBA", "png"),
        ("RGB", "webp"),
        ("LA", "png"),
        ("CMYK", "jpg"),
        ("I;16", "png"),
    ],
)
def test_every_image_becomes_rgb(tmp_path, mode, ending):
    color = Image.new("RGB", (12, 8), (204, 102, 51))
    image = Image.new("I;16", (12, 8), 100 * 256) if mode == "I;16" else color.convert(mode)
    image.save(tmp_path / f"image.{ending}")
    with Image.open(tmp_path / f"image.{ending}") as stored:
        assert stored.mode == mode
    seen = read_image(tmp_path / f"image.{ending}")
    assert (seen.mode, seen.size) == ("RGB", (12, 8))
    grey = {"L": 127, "LA": 127, "I;16": 100}.get(mode)
    expected = (204, 102, 51) if grey is None else grey
    if mode != "1":
        assert np.abs(np.asarray(seen).astype(int) - expected).max() < 5


def test_a_palette_with_a_color_that_is_see_through_becomes_rgb(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "image.png", transparency=b"\x00\x80")
    assert np.asarray(read_image(tmp_path / "image.png"))[0, 0].tolist() == [10, 20, 30]


AUGMENT = ImageAugment(scale=(0.3, 1.0), policy="three", color_jitter=0.3, erase=0.5)


def test_how_an_image_is_augmented_depends_on_the_seed_and_its_place_alone(folder):
    train = source(folder).load(AUGMENT)[0]
    first = all_of(train, 2, seed=7)
    torch.rand(100)
    for other in (all_of(train, 3, seed=7), all_of(source(folder, cache=True).load(AUGMENT)[0], 5, seed=7)):
        assert first["image"].equal(other["image"])
    (turned,) = train.batches([torch.tensor([5, 2])], seed=7)
    assert turned["image"].equal(first["image"][[5, 2]])
    (alone,) = train.subset(torch.tensor([2, 5])).batches([torch.tensor([1])], seed=7)
    assert alone["image"].equal(first["image"][[5]])
    assert not all_of(train, 2, seed=8)["image"].equal(first["image"])


def test_processes_read_what_one_reads_alone(folder):
    alone, together = (source(folder, workers=workers).load(AUGMENT)[0] for workers in (0, 2))
    for seed in (None, 3):
        assert all_of(alone, 2, seed)["image"].equal(all_of(together, 2, seed)["image"])


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_draws_nothing_from_pytorchs_own_generator(folder, workers):
    train = source(folder, workers=workers).load(AUGMENT)[0]
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    all_of(train, 2, seed=7)
    assert torch.rand(3).equal(expected)


def test_test_images_are_never_augmented(folder):
    test = source(folder).load(AUGMENT)[1]
    assert all_of(test, 2, seed=7)["image"].equal(all_of(test, 2)["image"])


def test_a_cached_set_does_not_read_its_files_again(folder):
    expected = all_of(source(folder).load()[0])["image"]
    train = source(folder, cache=True).load()[0]
    shutil.rmtree(folder)
    assert all_of(train)["image"].equal(expected)


def test_images_of_different_sizes_are_cached_too(folder):
    write(folder / "train" / "cat" / "0.png", pixels(0, 20, 30))
    expected = all_of(source(folder).load()[0])["image"]
    assert all_of(source(folder, cache=True).load()[0])["image"].equal(expected)


def test_a_subset_keeps_images_and_labels_together(folder):
    train = source(folder).load()[0]
    some = train.subset(torch.tensor([1, 4])).subset(torch.tensor([1]))
    assert some.label.tolist() == [1] and len(some) == 1
    assert all_of(some)["image"].equal(all_of(train)["image"][[4]])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda root: shutil.rmtree(root / "train"), "{root}/train is missing or empty: it has a folder of images"),
        (lambda root: shutil.rmtree(root / "test"), "{root}/test or {root}/val is missing or empty"),
        (lambda root: (root / "train" / "bird").mkdir(), "differ: train has 'bird', test has not"),
        (lambda root: shutil.rmtree(root / "train" / "dog"), "differ: test has 'dog', train has not"),
        (
            lambda root: [path.unlink() for path in (root / "train" / "dog").iterdir()],
            "{root}/train/dog contains no images (.jpg, .jpeg, .png, .bmp, .webp): fill it or remove it",
        ),
    ],
)
def test_each_fault_of_a_folder_is_one_sentence(folder, change, sentence):
    change(folder)
    with pytest.raises(InputError) as caught:
        source(folder).load()
    assert sentence.format(root=folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def break_file(path: Path, how: str) -> None:
    if how == "text":
        path.write_text("no image at all")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut off":
        path.write_bytes(path.read_bytes()[:300])
    else:
        path.unlink()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("how", ["text", "empty", "cut off", "gone"])
def test_an_image_that_does_not_decode_is_named_in_one_sentence(folder, workers, how):
    train = source(folder, workers=workers).load()[0]
    path = folder / "train" / "cat" / "2.png"
    break_file(path, how)
    with pytest.raises(InputError) as caught:
        all_of(train)
    what = "is missing" if how == "gone" else "is not an image that can be read: "
    assert str(caught.value).startswith(f"{path} {what}")
    assert "\n" not in str(caught.value)
    (batch,) = train.batches([torch.tensor([0, 5])])  # the others can be read
    assert batch["label"].tolist() == [0, 1]


def test_a_cached_set_names_it_too(folder):
    break_file(folder / "test" / "dog" / "11.png", "text")
    with pytest.raises(InputError, match="test/dog/11.png is not an image that can be read"):
        source(folder, cache=True).load()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"size": 0}, "data.size must be at least 1 pixel"),
        ({"crop_fraction": 0.0}, "data.crop_fraction must be above 0"),
        ({"crop_fraction": 1.5}, "data.crop_fraction must be above 0 and at most 1"),
        ({"workers": -1}, "data.workers must be from 0 to 256, but is -1"),
        ({"workers": 4000}, "data.workers must be from 0 to 256, but is 4000"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        source(tmp_path, **wrong)


def test_there_is_a_process_for_each_cpu_but_no_more_than_four():
    assert 1 <= ImageFolder("data").workers <= 4
    assert ImageFolder("data", workers=7).workers == 7


@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"real data are absent: {SAMPLE}")
def test_fifty_images_of_imagenet_are_read_for_training_and_for_evaluation(tmp_path):
    """Some of them are grey, all differ in size."""
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        for path in SAMPLE.glob("n*"):
            (tmp_path / split / path.name).symlink_to(path)
    augment = ImageAugment(policy="three", color_jitter=0.3)
    train, val = ImageFolder(str(tmp_path), size=96, workers=0).load(augment)
    assert len(train) == len(val) == len(train.class_names) == 50
    for images, seed in ((train, 0), (val, None)):
        seen = all_of(images, 25, seed)
        assert seen["image"].shape == (50, 3, 96, 96)
        assert seen["label"].tolist() == list(range(50))
        assert seen["image"].std((1, 2, 3)).min() > 0.05


def turned(path: Path, orientation: int, ending: str = "png") -> Path:
    """Write the image of `pixels` as a rotated camera does, with its EXIF orientation."""
    backwards = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # what Pillow's transpose is called
    image = Image.fromarray(pixels(7, 12, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = path / f"turned_{orientation}.{ending}"
    (image if backwards is None else image.transpose(backwards)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_upright_by_its_exif_orientation(tmp_path, orientation):
    seen = read_image(turned(tmp_path, orientation))
    assert np.array_equal(np.asarray(seen), pixels(7, 12, 8))
    assert np.array_equal(np.asarray(as_image(seen)), pixels(7, 12, 8))  # and is not turned again
    with Image.open(tmp_path / f"turned_{orientation}.png") as opened:
        assert np.array_equal(np.asarray(as_image(opened)), pixels(7, 12, 8))
    assert read_image(turned(tmp_path, orientation, "jpg")).size == (12, 8)


def test_photos_are_turned_in_training_in_testing_and_in_the_cache(folder):
    upright = all_of(source(folder, size=8).load()[0])["image"]
    for path in folder.rglob("*.png"):
        image, exif = Image.open(path).transpose(Image.Transpose.ROTATE_90), Image.Exif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    for cache in (False, True):
        assert torch.equal(all_of(source(folder, size=8, cache=cache).load()[0])["image"], upright)


def test_broken_exif_turns_nothing(tmp_path):
    path = turned(tmp_path, 6, "jpg")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"Exif\0\0MM", b"Exif\0\0M?").replace(b"Exif\0\0II", b"Exif\0\0I?"))
    assert read_image(path).size == (8, 12)


def test_a_picture_has_no_more_pixels_than_its_bytes_stand_for(tmp_path):
    Image.new("L", (8000, 8000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    with pytest.raises(InputError, match=r"bomb.png has 8000 x 8000 pixels in \d+ bytes: at most 40000000 are read"):
        read_image(tmp_path / "bomb.png")
    Image.new("L", (4000, 4000)).save(tmp_path / "mask.png")
    assert read_image(tmp_path / "mask.png").size == (4000, 4000)


def test_a_picture_starts_no_other_program(tmp_path):
    """Pillow opens Encapsulated PostScript, whatever its extension, by Ghostscript, which executes it."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(InputError, match="a.png is not an image that can be read: it is of no known format"):
        read_image(tmp_path / "a.png")


def test_a_class_has_a_name_that_can_be_printed(folder):
    for split in ("train", "test"):
        (folder / split / "cat").rename(folder / split / "c\x1bat")
    with pytest.raises(InputError, match=r"has the name 'c\\\\x1bat'|has the name 'c\\x1bat'"):
        source(folder).load()
