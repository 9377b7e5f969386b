import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from bixt3d.viz.plots import curves_png
from bixt3d.viz.report import (
    ClassificationReport,
    PartReport,
    PredictedCloud,
    write_class_report,
    write_part_report,
)

RESULT = {
    "overall_accuracy": 0.9123,
    "mean_accuracy": 0.8765,
    "per_class": {"chair": 0.9, "<b>table & co</b>": 0.95, "empty": None},
    "best_on_test": {
        "overall_accuracy": {"value": 0.9345, "epoch": 7},
        "mean_accuracy": {"value": 0.8912, "epoch": 8},
    },
    "epochs": 10,
    "seconds": 3725.0,
    "clouds_per_second": 1834.6,
    "parameters": 1_612_042,
    "device": "NVIDIA H200",
    "seed": 0,
    "version": "0.1.0",
    "commit": "3f2a91c",
}


def predicted(index: int, truth: str, label: str, confidence: float) -> PredictedCloud:
    xyz = np.random.default_rng(index).normal(size=(64, 3)).astype(np.float32)
    return PredictedCloud(xyz, truth, label, confidence, index)


REPORT = ClassificationReport(
    up="y",
    title="tables & <chairs>",
    command='bixt3d train cls --name "a & b"',
    result=RESULT,
    rows=[{"epoch": 1, "lr": 0.1, "loss": 1.0, "train_accuracy": 0.5, "test_accuracy": 0.6}],
    confusion=np.array([[9, 1, 0], [1, 19, 0], [0, 0, 0]]),
    class_names=("chair", "<b>table & co</b>", "empty"),
    mistakes=[predicted(4, "chair", "<b>table & co</b>", 0.61), predicted(17, "<b>table & co</b>", "chair", 0.98)],
    samples=[predicted(2, "chair", "chair", 0.99)],
    settings="seed: 0\nname: <script>",
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
        write_class_report(path, dataclasses.replace(REPORT, **changes))
        assert list(tmp_path.iterdir()) == [path]
        return Page(path.read_text(encoding="utf-8"))

    return page


def test_the_headline_is_the_last_epoch_and_the_best_on_the_test_set_is_named_so(write):
    text = write().text
    assert "91.23 % overall accuracy" in text and "87.65 % mean class accuracy" in text
    assert "Best epoch on the test set: overall accuracy 93.5 % in epoch 7, " in text
    assert "mean class accuracy 89.1 % in epoch 8." in text
    assert text.index("91.23 %") < text.index("Best epoch on the test set") < text.index("This is not the headline")


def test_the_run_is_described(write):
    text = write().text
    for fact in ("1.61 M", "1 h 02 min", "1,835", "NVIDIA H200", "seed 0", "3f2a91c", "0.1.0"):
        assert fact in text


def test_names_are_text_and_never_markup(write):
    page = write()
    assert "script" not in page.tags
    assert "tables & <chairs>" in page.text and "<b>table & co</b>" in page.text
    assert 'bixt3d train cls --name "a & b"' in page.text and "name: <script>" in page.text


def test_the_page_needs_nothing_from_elsewhere(write, tmp_path):
    page = write()
    assert len(page.links) == 6  # two curves, the matrix, three clouds
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    source = re.sub(r"data:image/png;base64,[\w+/=]+", "", (tmp_path / "report.html").read_text(encoding="utf-8"))
    assert not re.search(r"https?:|url\(|@import|<link|<script", source)


def test_classes_come_worst_first_and_those_without_clouds_last(write):
    text = write().text
    table = text[text.index("Classes, worst first") : text.index("Most confident mistakes")]
    assert "chair 90.0 % 10 <b>table & co</b> (1) <b>table & co</b> 95.0 % 20 chair (1) empty – 0 –" in table


def test_the_most_confident_mistake_comes_first(write):
    text = write().text
    assert "2 of 2 mistakes among 30 test clouds" in text
    first, second = "index 17: truth <b>table & co</b> , predicted chair with 98 %", "index 4: truth chair"
    assert text.index(first) < text.index(second)


def test_a_model_without_mistakes_gets_one_sentence(write):
    text = write(mistakes=[], samples=[], confusion=np.diag([10, 20, 0])).text
    assert "No mistakes among 30 test clouds." in text and "Correct predictions" not in text


def test_mistakes_without_pictures_are_still_counted(write):
    assert "2 mistakes among 30 test clouds, without pictures." in write(mistakes=[]).text


def test_a_run_without_evaluation_is_shown_as_not_measured(write):
    rows = [{"epoch": 1, "loss": 1.0, "train_accuracy": 0.5}]
    text = write(result={"epochs": 1}, rows=rows, confusion=np.zeros((3, 3), np.int64), mistakes=[]).text
    assert "not measured overall accuracy" in text and "Best epoch" not in text and "not recorded" in text


def test_no_rows_at_all_still_give_a_page(write):
    assert "91.23 %" in write(rows=[]).text


def test_forty_classes_give_forty_lines(write):
    names = tuple(f"class {place}" for place in range(40))
    page = write(class_names=names, confusion=np.eye(40, dtype=np.int64))
    assert page.tags.count("tr") == 41


def test_a_missing_folder_is_an_error_and_nothing_is_left(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_class_report(tmp_path / "missing" / "report.html", REPORT)
    assert list(tmp_path.iterdir()) == []


PARTS = PartReport(
    up="y",
    title="parts & <pieces>",
    command="bixt3d train partseg --cfg a.yaml",
    result={
        "convention": "ShapeNetPart's protocol <own>",
        "instance_miou": 0.8123,
        "class_miou": 0.7654,
        "accuracy": 0.9012,
        "per_category": {"table": 0.9, "<b>mug & co</b>": 0.25, "chair": 0.5},
        "pointmlp": {"convention": "PointMLP's convention <free>", "instance_miou": 0.7999, "class_miou": 0.7111},
        "best_on_test": {
            "instance_miou": {"value": 0.8345, "epoch": 7},
            "class_miou": {"value": 0.7712, "epoch": 8},
        },
        "epochs": 10,
    },
    rows=[{"epoch": 1, "lr": 0.1, "loss": 1.0, "train_accuracy": 0.5, "test_instance_miou": 0.6}],
    settings="seed: 0",
    num_clouds=1234,
    pictures=[("Examples", "The first of <each>.", curves_png([])), ("Worst", "The worst.", curves_png([]))],
)


@pytest.fixture
def write_parts(tmp_path):
    def page(**changes) -> Page:
        write_part_report(tmp_path / "report.html", dataclasses.replace(PARTS, **changes))
        assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
        return Page((tmp_path / "report.html").read_text(encoding="utf-8"))

    return page


def test_the_headline_of_parts_is_the_last_epoch_and_every_figure_has_its_convention(write_parts):
    text = write_parts().text
    assert "Part segmentation of 3 categories, tested on 1,234 clouds" in text
    assert "81.23 % instance mIoU 76.54 % class mIoU On the test set, with the weights of the last epoch (10)." in text
    assert "ShapeNetPart's protocol <own>. Point accuracy: 90.12 %." in text
    assert "PointMLP's convention <free>: instance mIoU 79.99 %, class mIoU 71.11 %." in text
    assert "Best epoch on the test set: instance mIoU 83.5 % in epoch 7, class mIoU 77.1 % in epoch 8." in text
    assert text.index("81.23 %") < text.index("Best epoch on the test set") < text.index("This is not the headline")


def test_categories_come_worst_first(write_parts):
    assert "mIoU <b>mug & co</b> 25.0 % chair 50.0 % table 90.0 % Examples" in write_parts().text


def test_the_page_of_parts_holds_its_pictures_and_needs_nothing_from_elsewhere(write_parts, tmp_path):
    page = write_parts()
    assert "script" not in page.tags and "b" not in page.tags
    assert "parts & <pieces>" in page.text and "Examples The first of <each>." in page.text
    assert len(page.links) == 4  # two curves, two pictures
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    source = re.sub(r"data:image/png;base64,[\w+/=]+", "", (tmp_path / "report.html").read_text(encoding="utf-8"))
    assert not re.search(r"https?:|url\(|@import|<link|<script", source)


def test_a_run_of_parts_without_evaluation_is_shown_as_not_measured(write_parts):
    text = write_parts(result={"epochs": 1}, rows=[], pictures=[]).text
    assert "not measured instance mIoU not measured class mIoU" in text and "not recorded" in text
    assert not any(word in text for word in ("convention", "Best epoch", "Examples"))
