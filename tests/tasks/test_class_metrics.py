"""Metrics of a classifier, computed by hand, and PointMLP's cross entropy with label smoothing."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from bixt3d.datasets.images.folder import LabeledReader
from bixt3d.datasets.images.reading import ImageSet
from bixt3d.datasets.images.transforms import square_view
from bixt3d.datasets.scenes.crops import SceneSet
from bixt3d.datasets.scenes.scene import Scene
from bixt3d.engine.optim import Optim
from bixt3d.engine.runtime import Runtime
from bixt3d.tasks.class_metrics import (
    count_correct,
    log_frequency,
    score_classes,
    smooth_cross_entropy,
    sum_correct_shares,
)
from bixt3d.tasks.image_segmentation import ImageSegmentation
from bixt3d.tasks.scene_segmentation import SceneSegmentation
from bixt3d.tasks.settings import Run
from bixt3d.tasks.task import Task


def logits_of(predicted: list[int], num_classes: int) -> torch.Tensor:
    return functional.one_hot(torch.tensor(predicted), num_classes).float()


def test_accuracies_of_two_classes_by_hand():
    truth = torch.tensor([0, 0, 0, 1])
    scores = score_classes(logits_of([0, 0, 1, 1], 2), truth, ("bed", "car"))
    assert scores.confusion.tolist() == [[2, 1], [0, 1]]  # rows are the truth
    assert scores.overall_accuracy == 3 / 4
    assert scores.mean_accuracy == pytest.approx((2 / 3 + 1) / 2)
    assert scores.macro_f1 == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert scores.per_class == pytest.approx({"bed": 2 / 3, "car": 1.0})


def test_a_class_that_does_not_occur_counts_in_no_mean_but_lowers_f1_if_it_is_predicted():
    scores = score_classes(logits_of([0, 2, 1], 3), torch.tensor([0, 0, 1]), ("bed", "car", "mug"))
    assert scores.confusion.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert scores.per_class == {"bed": 0.5, "car": 1.0}
    assert scores.mean_accuracy == 0.75
    assert scores.macro_f1 == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert scores.overall_accuracy == pytest.approx(2 / 3)


def test_confusion_matrix_and_f1_are_those_of_scikit_learn():
    from sklearn.metrics import confusion_matrix, f1_score

    truth, predicted = (
        torch.randint(5, (50,)),
        torch.randint(6, (50,)),
    )  # the last two classes do not occur in the truth
    scores = score_classes(functional.one_hot(predicted, 7).float(), truth, tuple("abcdefg"))
    expected = confusion_matrix(truth, predicted, labels=range(7))
    assert scores.confusion.dtype == expected.dtype and (scores.confusion == expected).all()
    assert scores.macro_f1 == f1_score(truth, predicted, average="macro", zero_division=0)


def test_the_loss_of_a_score_is_plain_cross_entropy():
    scores = score_classes(torch.tensor([[0.0, 0.0], [math.log(3), 0.0]]), torch.tensor([0, 0]), ("bed", "car"))
    assert scores.loss == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)


@pytest.mark.parametrize("num_classes", [2, 5, 40])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_smoothing_gives_its_share_to_the_other_classes_alone_as_pointmlp_does(num_classes, smoothing):
    logits, labels = torch.randn(7, num_classes), torch.randint(num_classes, (7,))
    one_hot = functional.one_hot(labels, num_classes).float()
    target = one_hot * (1 - smoothing) + (1 - one_hot) * smoothing / (num_classes - 1)
    expected = -(target * functional.log_softmax(logits, 1)).sum(1).mean()
    torch.testing.assert_close(smooth_cross_entropy(logits, labels, smoothing), expected)


def test_the_loss_is_computed_in_full_precision():
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    loss = smooth_cross_entropy(logits.bfloat16(), labels, 0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, smooth_cross_entropy(logits.bfloat16().float(), labels, 0.1))


def test_correct_predictions_are_counted():
    assert count_correct(logits_of([0, 1, 1, 2], 3), torch.tensor([0, 1, 2, 2])).item() == 3


def test_samples_without_labels_count_as_the_mean_of_the_others():
    predicted, labels = torch.tensor([[0, 1], [0, 1], [0, 1]]), torch.tensor([[0, 0], [0, -1], [-1, -1]])
    assert sum_correct_shares(predicted, labels) == 3 * (0.5 + 1) / 2
    assert sum_correct_shares(predicted[2:], labels[2:]) == 0


class Perfect(nn.Module):
    """Predicts the labels 0 and 1 that ``feats`` or the first channel of an image are."""

    def forward(self, first: torch.Tensor, feats: torch.Tensor | None = None) -> torch.Tensor:
        given = (first, 1) if feats is None else (feats, 2)
        return torch.cat([1 - given[0], given[0]], given[1])


def some_set(task: Task) -> SceneSet | ImageSet:
    if task.unit == "images":
        view, label = square_view(4, crop_fraction=1.0), torch.zeros(2, dtype=torch.long)
        return ImageSet(LabeledReader([], label, view, view, cache=False), label, ("a", "b"), workers=0, index=label)
    one = torch.tensor([0, 1])
    scene = Scene(torch.rand(2, 3), torch.zeros(2, 0), one, torch.zeros(2), one, one)
    return SceneSet((scene,), ("a", "b"))


@pytest.mark.parametrize("task", [SceneSegmentation(), ImageSegmentation()], ids=lambda task: task.program)
def test_a_perfect_model_is_right_in_training_also_if_a_sample_has_no_labels(task):
    shape = (4, 3, 1) if task.unit == "crops" else (4, 1, 3, 3)
    given = torch.randint(2, shape).float()
    labels = given.squeeze(2 if task.unit == "crops" else 1).long()
    labels[2:] = -1
    batch = {"labels": labels, "weight": (labels >= 0).flatten(1).sum(1)}
    batch |= {"xyz": given, "feats": given} if task.unit == "crops" else {"image": given}
    run, train = Run(0, None, None, task.train(), None, Optim(), Runtime()), some_set(task)
    assert task.make_step(run, train)(Perfect(), batch)[1] == 4


def test_the_log_frequency_of_a_class_is_the_log_of_its_share_of_the_set():
    label = torch.tensor([0, 0, 0, 2])
    torch.testing.assert_close(log_frequency(label, 3)[[0, 2]].exp(), torch.tensor([0.75, 0.25]))
    assert log_frequency(label, 3)[1] < -20  # absent, but finite
