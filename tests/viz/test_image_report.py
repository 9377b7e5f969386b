"""The page of a run on images: its figures, its table, its pictures, and nothing from elsewhere."""

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from bixt3d.viz.image_report import ImageReport, write_image_report
from bixt3d.viz.plots import curves_png

PICTURE = curves_png([])
REPORT = ImageReport(
    title="images & <pictures>",
    command='bixt3d train imgcls --name "a & b"',
    result={
        "top1": 0.9321,
        "top5": 0.9987,
        "best_on_test": {"top1": {"value": 0.9345, "epoch": 7}, "pixel_accuracy": {"value": 0.5, "epoch": 8}},
        "epochs": 10,
        "seconds": 3725.0,
        "parameters": 1_612_042,
        "device": "NVIDIA H200",
        "seed": 0,
    },
    rows=[{"epoch": 1, "lr": 0.1, "loss": 1.0, "train_accuracy": 0.5, "test_accuracy": 0.6}],
    settings="seed: 0\nname: <script>",
    headline=[("top-1", "93.21 %"), ("top-5", "99.87 %")],
    table=(
        ("class", "accuracy", "images", "confused with", "recall"),
        [["cat", 0.9, 1000, "dog", 0.5], ["empty", None, 0, None, None], ["<b>dog & co</b>", 0.25, 20, "cat", 0.75]],
    ),
    pictures=[("Mistakes", "The most <confident> ones.", PICTURE), ("Right", "Some of them.", PICTURE)],
    about="3 classes, tested on 1,020 images",
)


class Page(HTMLParser):
    """Collects the elements, what they point to, and the text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.links, self.words = [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def write(tmp_path):
    def page(**changes) -> Page:
        path = tmp_path / "report.html"
        write_image_report(path, dataclasses.replace(REPORT, **changes))
        assert list(tmp_path.iterdir()) == [path]
        return Page(path.read_text(encoding="utf-8"))

    return page


def test_the_headline_is_the_last_epoch_and_the_best_on_the_test_set_is_named_so(write):
    text = write(remark="Whole images, at their own size").text
    assert "3 classes, tested on 1,020 images" in text
    assert "93.21 % top-1 99.87 % top-5 On the test set, with the weights of the last epoch (10)." in text
    assert "Whole images, at their own size. Best epoch on the test set: top-1 93.5 % in epoch 7, " in text
    assert text.count("This is not the headline") == text.count("Best epoch on the test set") == 1


def test_the_run_is_described(write):
    text = write().text
    for fact in ("1.61 M", "1 h 02 min", "NVIDIA H200", "seed 0", 'bixt3d train imgcls --name "a & b"'):
        assert fact in text


def test_classes_come_worst_first_and_those_without_images_last(write):
    page = write()
    expected = "<b>dog & co</b> 25.0 % 20 cat 75.0 % cat 90.0 % 1,000 dog 50.0 % empty – 0 – –"
    assert f"class accuracy images confused with recall {expected}" in page.text
    assert page.tags.count("i") == 2  # bars: of the first shares alone


def test_names_are_text_and_the_page_needs_nothing_from_elsewhere(write, tmp_path):
    page = write(confusion=PICTURE)
    assert "script" not in page.tags and "b" not in page.tags
    assert "images & <pictures>" in page.text and "Mistakes The most <confident> ones." in page.text
    assert "Confusion matrix" in page.text and len(page.links) == 5  # two curves, the matrix, two pictures
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    source = re.sub(r"data:image/png;base64,[\w+/=]+", "", (tmp_path / "report.html").read_text(encoding="utf-8"))
    assert not re.search(r"https?:|url\(|@import|<link|<script", source)


def test_absent_entries_leave_no_trace_in_the_page(write):
    text = write(result={"epochs": 1}, rows=[], pictures=[], table=(("class", "IoU"), [])).text
    assert not any(word in text for word in ("Best epoch", "Confusion", "Classes, worst first", "Mistakes"))
    assert "not recorded" in text


def test_a_missing_folder_is_an_error_and_nothing_is_left(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_image_report(tmp_path / "missing" / "report.html", REPORT)
    assert list(tmp_path.iterdir()) == []
