"""Print registers, spills and shared memory of the Triton kernels, compiled for a Hopper GPU; needs no GPU.

python -m bixt3d.ops.triton.resources [--dtype bfloat16] [--latents 64] [--head_dim 32] [--points 1024] [--neighbors 24]
"""

import argparse
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import triton
from triton.backends import nvidia
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from bixt3d.ops.triton import farthest_points, grid_knn, knn, neighborhoods
from bixt3d.ops.triton.bi_attention import constants_of
from bixt3d.ops.triton.bi_attention_kernels import backward_kernel, configs_for, forward_kernel

SHORT = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
STRIDES = {f"{side}_{axis}" for side in ("latent", "token") for axis in ("batch", "row", "head")}


def compile_ahead(function, types: dict[str, str], launch: dict, aligned: set[str] = frozenset()):
    """Compile a kernel for a Hopper GPU ahead of time.

    ``types``: types of the runtime arguments; ``launch``: constants of the kernel and compiler options; ``aligned``:
    arguments that are multiples of 16, as all pointers are.
    """
    constants = {name: value for name, value in launch.items() if name in function.arg_names}
    options = {name: value for name, value in launch.items() if name not in constants}
    signature = {name: "constexpr" if name in constants else types[name] for name in function.arg_names}
    constexprs, attributes = {}, {}
    for position, name in enumerate(function.arg_names):
        if name in constants:
            constexprs[(position,)] = constants[name]
        elif name in aligned or signature[name].startswith("*"):
            attributes[(position,)] = [["tt.divisibility", 16]]
    source = ASTSource(function, signature, constexprs, attributes)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


def attention_types(function, dtype: str) -> dict[str, str]:
    """Return the argument types of an attention kernel: tensors of one dtype, sums in float32."""
    types = dict.fromkeys(function.arg_names, "i32")
    for name in types:
        if "scale" in name:
            types[name] = "fp32"
        elif name not in STRIDES and name.startswith(("latent_", "token_")):
            types[name] = "*fp32" if name.endswith("_sums") else f"*{SHORT[dtype]}"
    return types


def point_types(function) -> dict[str, str]:
    """Return the argument types of a kernel of points: float32 points, values and distances, int64 indices."""
    tensors = dict.fromkeys(("points", "queries", "nearest", "values", "offsets", "largest"), "*fp32")
    tensors |= dict.fromkeys(("index", "keys", "neighbor_index", "order", "rows", "starts", "ends"), "*i64") | {
        "winner": "*i32",
        "farthest": "*i32",
    }
    tensors |= dict.fromkeys(("sums", "squares"), "*fp64")
    return {name: tensors.get(name, "i32") for name in function.arg_names}


def resources(compiled) -> dict[str, int]:
    """Return registers per thread, spilled bytes, shared memory of a program, and instruction counts."""
    dump = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [dump, "-res-usage", "-sass", file.name]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", found).groups()
    return {
        "registers": int(registers),
        "spilled": int(stack),
        "shared": compiled.metadata.shared,
        "matrix_instructions": len(re.findall(r"\bHGMMA", found)),
        "fused_instructions": len(re.findall(r"\bFFMA", found)),
    }


def tiles(kernel, num_latents: int, head_dim: int, dtype: str) -> Iterator[dict[str, int]]:
    """Yield the resources of each tile size that the autotuner tries."""
    constants = constants_of(num_latents, head_dim, getattr(torch, dtype))
    if kernel is forward_kernel:
        constants["careful"] = dtype == "float16"
    types = attention_types(kernel.fn, dtype)
    for config in configs_for(kernel.configs, 4 if dtype == "float32" else 2):
        options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
        found = resources(compile_ahead(kernel.fn, types, {**constants, **config.kwargs, **options}, STRIDES))
        yield {"tokens": config.kwargs["block_t"], "warps": config.num_warps, "stages": config.num_stages, **found}


def point_kernels(num_points: int, num_axes: int, num_neighbors: int) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield name and resources of each kernel of points, for contiguous points."""
    launches = {
        farthest_points.sample_kernel: farthest_points.launch_of(num_points, num_axes),
        farthest_points.step_kernel: farthest_points.step_launch_of(num_axes),
        knn.nearest_kernel: knn.launch_of(num_axes, num_neighbors),
        grid_knn.grid_kernel: grid_knn.launch_of(num_neighbors),
        neighborhoods.largest_kernel: neighborhoods.launch_of(torch.float32),
        neighborhoods.moments_kernel: neighborhoods.launch_of(torch.float32),
    }
    for kernel, launch in launches.items():
        strides = {"axis_stride": 1} if "axis_stride" in kernel.arg_names else {}
        found = resources(compile_ahead(kernel, point_types(kernel), {**strides, **launch}, {"width"}))
        yield kernel.fn.__name__, {"warps": launch["num_warps"], **found}


def main() -> None:
    """Print one line for each tile size and kernel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=SHORT, default="bfloat16")
    parser.add_argument("--latents", type=int, default=64)
    parser.add_argument("--head_dim", type=int, default=32)
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--axes", type=int, default=3)
    parser.add_argument("--neighbors", type=int, default=24)
    given = parser.parse_args()
    print(f"Triton {triton.__version__}, sm_90, {given.latents} latents, heads of {given.head_dim}, {given.dtype}")
    for kernel in (forward_kernel, backward_kernel):
        for tile in tiles(kernel, given.latents, given.head_dim, given.dtype):
            print(kernel.fn.__name__, *(f"{name} {count}" for name, count in tile.items()), sep="  ", flush=True)
    print(f"{given.points} points with {given.axes} axes, {given.neighbors} neighbors")
    for name, found in point_kernels(given.points, given.axes, given.neighbors):
        print(name, *(f"{name} {count}" for name, count in found.items()), sep="  ", flush=True)


if __name__ == "__main__":
    main()
