"""What the kernels of bi-directional attention take on a Hopper GPU, found out without one by Triton's compiler.

python -m bixt3d.ops.triton.resources [--dtype bfloat16] [--latents 64] [--head_dim 32]
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

from bixt3d.ops.triton.bi_attention import constants_of
from bixt3d.ops.triton.bi_attention_kernels import backward_kernel, configs_for, forward_kernel

SHORT = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
STRIDES = {f"{side}_{axis}" for side in ("latent", "token") for axis in ("batch", "row", "head")}


def compile_ahead(kernel, config: triton.Config, constants: dict, dtype: str):
    """Compile a kernel for tensors of one dtype, sums in float32, strides and addresses that are multiples of 16."""
    function, given = kernel.fn, {**constants, **config.kwargs}
    signature, constexprs, attributes = {}, {}, {}
    for position, name in enumerate(function.arg_names):
        if name in given:
            signature[name], constexprs[(position,)] = "constexpr", given[name]
        elif "scale" in name:
            signature[name] = "fp32"
        elif name in STRIDES or not name.startswith(("latent_", "token_")):
            signature[name] = "i32"
        else:
            signature[name] = "*fp32" if name.endswith("_sums") else f"*{SHORT[dtype]}"
        if name in STRIDES or signature[name].startswith("*"):
            attributes[(position,)] = [["tt.divisibility", 16]]
    source = ASTSource(function, signature, constexprs, attributes)
    options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


def resources(compiled) -> dict[str, int]:
    """Return registers of a thread, bytes that do not fit in them, and shared memory of a program."""
    dump = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        found = subprocess.run([dump, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
        code = subprocess.run([dump, "-sass", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", found).groups()
    return {
        "registers": int(registers),
        "spilled": int(stack),
        "shared": compiled.metadata.shared,
        "matrix_instructions": len(re.findall(r"\bHGMMA", code)),
    }


def tiles(kernel, num_latents: int, head_dim: int, dtype: str) -> Iterator[dict[str, int]]:
    """Yield what each tile that the tuner tries takes, as soon as it is compiled."""
    constants = constants_of(num_latents, head_dim, getattr(torch, dtype))
    if kernel is forward_kernel:
        constants["careful"] = dtype == "float16"
    for config in configs_for(kernel.configs, 4 if dtype == "float32" else 2):
        found = resources(compile_ahead(kernel, config, constants, dtype))
        yield {"tokens": config.kwargs["block_t"], "warps": config.num_warps, "stages": config.num_stages, **found}


def main() -> None:
    """Print a line for each tile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=SHORT, default="bfloat16")
    parser.add_argument("--latents", type=int, default=64)
    parser.add_argument("--head_dim", type=int, default=32)
    given = parser.parse_args()
    print(f"Triton {triton.__version__}, sm_90, {given.latents} latents, heads of {given.head_dim}, {given.dtype}")
    for kernel in (forward_kernel, backward_kernel):
        for tile in tiles(kernel, given.latents, given.head_dim, given.dtype):
            print(kernel.fn.__name__, *(f"{name} {count}" for name, count in tile.items()), sep="  ", flush=True)


if __name__ == "__main__":
    main()
