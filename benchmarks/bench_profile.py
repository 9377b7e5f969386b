"""Run what a profiler looks at: python benchmarks/bench_profile.py step|attention [--small]

`step` prints PyTorch's profile of three training steps of `modelnet40_grouping`. `attention` runs the Triton kernels
once more after they are compiled and tuned, between CUDA's start and stop of profiling: for Nsight Compute,
`ncu --profile-from-start off`.
"""

import argparse

import torch
from bench_attention import by_heads, make_parts
from bench_case import How
from bench_models import cloud_batch, make_cloud_model, training_step
from torch.profiler import ProfilerActivity, profile

from bixt3d.ops import bi_attention


def profile_step(how: How) -> None:
    """Print what takes the time of three steps, on the device and on the CPU."""
    step = training_step(
        make_cloud_model("grouping", how), cloud_batch(*((2, 512) if how.small else (32, 1024)), how), how
    )
    for _ in range(1 if how.small else 5):
        step()
    device = [ProfilerActivity.CUDA] if how.on_gpu else []
    with profile(activities=[ProfilerActivity.CPU, *device], record_shapes=True) as profiled:
        for _ in range(1 if how.small else 3):
            step()
        if how.on_gpu:
            torch.cuda.synchronize()
    for key in (["self_cuda_time_total"] if how.on_gpu else []) + ["self_cpu_time_total"]:
        print(profiled.key_averages().table(sort_by=key, row_limit=30, max_name_column_width=60))


def profile_attention(how: How) -> None:
    """Run forward and backward of the kernels on one cloud; the second time, a profiler looks."""
    parts = make_parts(1, 64 if how.small else 262_144, how)
    for looking in (False, True):
        if looking and how.on_gpu:
            torch.cuda.synchronize()
            torch.cuda.cudart().cudaProfilerStart()
        outs = bi_attention(*parts, "triton")
        torch.autograd.grad(outs, parts, [torch.ones_like(out) for out in outs])
        if looking and how.on_gpu:
            torch.cuda.synchronize()
            torch.cuda.cudart().cudaProfilerStop()
    expected = by_heads(parts, None)
    for out, right in zip(outs, expected, strict=True):
        print(f"off by {((out.float() - right).norm() / right.norm()).item():.1e} of the reference")


def main() -> None:
    """Run what was asked for on a GPU, or on a CPU if there is none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("step", "attention"))
    parser.add_argument("--small", action="store_true", help="tiny sizes, on a CPU")
    given = parser.parse_args()
    torch.manual_seed(0)
    on_gpu = torch.cuda.is_available() and not given.small
    how = How(torch.device("cuda" if on_gpu else "cpu"), small=given.small)
    {"step": profile_step, "attention": profile_attention}[given.what](how)


if __name__ == "__main__":
    main()
