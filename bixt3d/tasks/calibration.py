"""Calibration: how far the confidence of predictions is from the share of them that is right."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

NUM_BINS = 15
CONVENTION = (
    f"expected calibration error (ECE): {NUM_BINS} bins of equal width of the confidence, which is the probability of "
    "the predicted class; mean distance of accuracy and mean confidence, weighted by the predictions in a bin "
    "(Guo et al. 2017)"
)

Bins = Float[Tensor, "*B 3 15"]
"""For each bin of the confidence: number of predictions, sum of their confidences, number of correct ones."""


def calibration_bins(
    confidence: Float[Tensor, "*B N"], correct: Bool[Tensor, "*B N"], counted: Bool[Tensor, "*B N"] | None = None
) -> Bins:
    """Sum predictions by their confidence, separately for each leading index; bin i is ``(i / 15, (i + 1) / 15]``.

    ``counted``: false for predictions that do not count. Sums are exact up to float64, in a fixed order.
    """
    dtype = torch.float32 if confidence.device.type == "mps" else torch.float64
    confidence = confidence.to(dtype)
    edges = torch.arange(1, NUM_BINS, device=confidence.device, dtype=dtype) / NUM_BINS
    index = torch.bucketize(confidence, edges)
    if counted is not None:
        index = index.masked_fill(~counted, -1)
    return torch.stack([_sums(index == i, confidence, correct) for i in range(NUM_BINS)], -1)


def _sums(inside: Bool[Tensor, "*B N"], confidence: Float[Tensor, "*B N"], correct: Bool[Tensor, "*B N"]) -> Tensor:
    count, right = inside.sum(-1), (inside & correct).sum(-1)
    return torch.stack([count.to(confidence.dtype), (inside * confidence).sum(-1), right.to(confidence.dtype)], -1)


def bins_of_logits(logits: Float[Tensor, "S C"], labels: Int[Tensor, " S"]) -> Float[Tensor, "3 15"]:
    """Return the bins of the predictions of a classifier."""
    confidence, predicted = logits.float().softmax(1).max(1)
    return calibration_bins(confidence, predicted == labels).cpu()


def calibration_error(bins: Float[Tensor, "3 15"]) -> float:
    """Return the expected calibration error, in 0..1; see `CONVENTION`. Without a prediction: 0."""
    count, confidence, correct = bins.double().cpu()
    return float((correct - confidence).abs().sum() / count.sum().clamp(min=1))


def calibration_facts(bins: Float[Tensor, "3 15"]) -> dict[str, Any]:
    """Return the entries of result.json."""
    return {"expected_calibration_error": calibration_error(bins), "calibration_convention": CONVENTION}


def calibration_text(bins: Float[Tensor, "3 15"]) -> str:
    """Return a line for the terminal."""
    return f"expected calibration error {calibration_error(bins):.2%} ({NUM_BINS} bins, Guo et al. 2017)"
