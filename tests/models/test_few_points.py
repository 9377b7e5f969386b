"""Clouds of few distinct points, on a line, or with copies: every model trains through them."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from bixt3d.models import (
    BixtClassifier,
    BixtEncoder,
    DecoderSegmenter,
    IterativeEncoder,
    PointMLPDecoder,
    PointMLPSegmenter,
    TokenSegmenter,
)
from bixt3d.models.baselines import PointMLP, PointMLPElite, SequentialEncoder
from bixt3d.nn.refinement import GroupRefinement
from bixt3d.tokenizers import GroupTokenizer, PointTokenizer

SIZE, CLASSES = 48, 3
GROUP = partial(GroupRefinement, num_neighbors=8)


def make_bixt(encoder: type = BixtEncoder, **settings) -> BixtClassifier:
    return BixtClassifier(CLASSES, PointTokenizer(12), encoder(12, 8, num_heads=2, num_latents=3, **settings))


def make_hierarchy(num_pre: int = 1) -> BixtClassifier:
    tokenizer = GroupTokenizer(12, PointTokenizer(8), 8, num_groups=32, num_pre=num_pre, use_xyz=True)
    return BixtClassifier(CLASSES, tokenizer, BixtEncoder(12, 3, 2, 3, refine=partial(GROUP, reduce=2)))


def make_tokens(refine: Callable | None = None) -> TokenSegmenter:
    encoder = BixtEncoder(12, 8, 2, 3, reads="tokens", refine=refine)
    return TokenSegmenter(CLASSES, 1, PointTokenizer(12), encoder)


def make_decoder() -> DecoderSegmenter:
    tokenizer = GroupTokenizer(12, PointTokenizer(8), 8, num_groups=32)
    encoder = BixtEncoder(12, 3, 2, 3, reads="tokens", refine=partial(GROUP, reduce=2))
    decoder = partial(PointMLPDecoder, dims=(12, 12, 12), num_blocks=(1, 1, 1), context_dim=4, category_dim=4)
    return DecoderSegmenter(CLASSES, 1, tokenizer, encoder, decoder)


def make_pointmlp_segmenter() -> PointMLPSegmenter:
    sizes = {"dim": 8, "growth": (2, 1, 1), "num_pre": (1, 1, 0), "num_post": (1, 1, 1), "num_neighbors": 8}
    return PointMLPSegmenter(CLASSES, 1, **sizes, reduce=2, decoder_dims=(16, 8, 8), decoder_blocks=(1, 1, 1))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "naive": make_bixt,
    "grouping": partial(make_bixt, refine=GROUP),
    "hierarchy": make_hierarchy,
    "hierarchy without blocks per neighbor": partial(make_hierarchy, 0),
    "sequential": partial(make_bixt, SequentialEncoder, refine=GROUP),
    "iterative": partial(make_bixt, IterativeEncoder, num_self=1),
    "PointMLP": partial(PointMLP, CLASSES, dim=8, num_pre=(1, 1, 1, 1), num_post=(1, 1, 1, 1), num_neighbors=6),
    "PointMLP, center": partial(PointMLP, CLASSES, dim=8, num_neighbors=6, normalize="center"),
    "PointMLP-elite": partial(PointMLPElite, CLASSES, num_neighbors=6),
    "part tokens": make_tokens,
    "part tokens, grouping": partial(make_tokens, GROUP),
    "part decoder": make_decoder,
    "part PointMLP": make_pointmlp_segmenter,
}


def few_points(count: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, 3, generator=generator)[torch.arange(SIZE) % count]


def on_a_line(count: int, generator: torch.Generator) -> Tensor:
    line = torch.linspace(-1, 1, count)[torch.arange(SIZE) % count, None]
    return line * normalize(torch.randn(3, generator=generator), dim=0)


def all_but_one_equal(generator: torch.Generator) -> Tensor:
    return few_points(1, generator).index_fill(0, torch.tensor([7]), 1.0)


CLOUDS: dict[str, Callable[[torch.Generator], Tensor]] = {
    "in the origin": lambda _: torch.zeros(SIZE, 3),
    "constant": partial(few_points, 1),
    "far away": lambda generator: 100 + few_points(1, generator),
    "two points": partial(few_points, 2),
    "five points": partial(few_points, 5),
    "copies": partial(few_points, SIZE // 2),
    "a line": partial(on_a_line, SIZE),
    "five points of a line": partial(on_a_line, 5),
    "all but one equal": all_but_one_equal,
}


def clouds_of(kind: str, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.stack([CLOUDS[kind](generator) for _ in range(count)])


def train(model: nn.Module, xyz: Tensor, bfloat16: bool = False) -> float:
    """Return the largest gradient of a parameter, once all that there is to see is known to be finite."""
    label = torch.arange(len(xyz)) % CLASSES
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        if hasattr(model, "reads_category"):
            logits = model(xyz, None, torch.zeros_like(label)).transpose(1, 2)
            label = label[:, None].expand(-1, SIZE)
        else:
            logits = model(xyz)
    cross_entropy(logits.float(), label).backward()
    grads = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    for name, values in {"logits": logits, **grads, **dict(model.named_buffers())}.items():
        assert values.isfinite().all(), name
    return max(float(grad.abs().max()) for grad in grads.values())


def with_an_opinion(model: nn.Module) -> nn.Module:
    """Return the model with all matrices filled: at first a head is zero, and nothing before it gets a gradient."""
    for parameter in model.parameters():
        if parameter.ndim == 2 and not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("kind", CLOUDS)
@pytest.mark.parametrize("name", MODELS)
def test_a_cloud_of_few_points_among_others_spoils_no_gradient(name: str, kind: str, bfloat16: bool):
    xyz = torch.cat([clouds_of(kind, 1), torch.randn(3, SIZE, 3)])
    assert train(with_an_opinion(MODELS[name]()), xyz, bfloat16) < 1000


@pytest.mark.parametrize("kind", CLOUDS)
@pytest.mark.parametrize("name", MODELS)
def test_a_batch_of_clouds_of_few_points_spoils_no_gradient(name: str, kind: str):
    train(with_an_opinion(MODELS[name]()), clouds_of(kind, 4))
