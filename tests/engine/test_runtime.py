"""Memory: tensors are on the heap, in huge pages. Precision: mixed in the model, float32 for its inputs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bixt3d.engine.runtime import Runtime, keeps_freed_memory, precision_of, start
from bixt3d.types import InputError

PROGRAM = """
import os, re
from pathlib import Path
import torch
from bixt3d.engine.memory import keep_freed_memory
keep_freed_memory()
tensor = torch.empty(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 3, dtype=torch.int8)  # untouched
address = tensor[len(tensor) // 2].data_ptr()
maps = re.split(r"\\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
[place] = [m for m in maps if int(m.split("-")[0], 16) <= address < int(re.split("[- ]", m)[1], 16)]
del tensor
memory = lambda: int(re.search(r"VmRSS:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
tensor = torch.ones(2**26)  # 256 MB
before = memory()
del tensor
print("[heap]" in place, "hg" in re.search("VmFlags:(.*)", place)[1].split(), before - memory() < 10_000)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc on Linux can keep freed memory")
@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").is_dir(), reason="this kernel has no huge pages")
def test_tensors_are_on_the_heap_in_pages_of_2_mb_which_are_kept():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True"]


RETURNING = """
from pathlib import Path
import numpy as np
from bixt3d.engine.memory import return_freed_memory
used = lambda: int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0])
return_freed_memory()
np.ones(2**21)  # freed: by default the next ones of this size go to the heap
pairs = [(np.ones(2**21), np.ones(2**14)) for _ in range(4)]  # 16 MB, and a small one behind it
before, small = used(), [one for _, one in pairs]
del pairs
print(before - used() > 60_000, len(small))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="this system does not say what memory is in use")
def test_large_arrays_are_returned_to_the_system_when_they_are_freed():
    """In a process of its own: what other tests ask of malloc would stay."""
    done = subprocess.run([sys.executable, "-c", RETURNING], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "4"]


class Witness(nn.Module):
    """Remembers its input, and the dtype that its layer computed in."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, xyz: Tensor) -> Tensor:
        self.given, out = xyz, self.linear(xyz)
        self.computed_in = out.dtype
        return out


@pytest.mark.parametrize(
    ("precision", "computed_in"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16), ("auto", torch.float32)]
)
def test_mixed_precision_does_not_move_the_points(precision, computed_in):
    fabric = start(Runtime(accelerator="cpu", precision=precision))
    witness, xyz = Witness(), torch.randn(5, 3)
    out = fabric.setup(witness)(xyz)
    assert torch.equal(witness.given, xyz)
    assert witness.given.dtype == out.dtype == torch.float32
    assert witness.computed_in == computed_in


@pytest.mark.parametrize(
    ("has_bf16", "accelerator", "precision", "expected"),
    [
        (True, "auto", "auto", ("bf16-mixed", "cuda")),
        (False, "cuda", "auto", None),
        (False, "cuda", "16-mixed", ("16-mixed", "cuda")),
        (True, "cpu", "auto", None),
        (True, "cpu", "bf16-mixed", ("bf16-mixed", "cpu")),
        (True, "auto", "32-true", None),
    ],
)
def test_the_precision_on_a_gpu_is_the_lowest_that_it_has_a_wide_range_in(
    has_bf16, accelerator, precision, expected, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has_bf16)
    found = precision_of(Runtime(accelerator=accelerator, precision=precision))
    assert (found and (found.precision, found.device)) == expected


def test_float16_on_a_cpu_is_refused():
    with pytest.raises(InputError, match="16-mixed is for GPUs: use bf16-mixed or 32-true"):
        start(Runtime(accelerator="cpu", precision="16-mixed"))


@pytest.mark.parametrize(
    ("gpu", "settings", "expected"),
    [
        (False, {}, True),
        (False, {"checkpointing": True}, False),  # for clouds that fill the memory
        (False, {"keep_freed_memory": False}, False),
        (True, {}, False),
        (True, {"accelerator": "cpu"}, True),
        (True, {"keep_freed_memory": True}, True),
    ],
)
def test_freed_memory_is_kept_on_cpus_alone_unless_asked_otherwise(gpu, settings, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert keeps_freed_memory(Runtime(**settings)) is expected


def test_a_deterministic_run_gives_cublas_the_workspace_that_it_needs(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    start(Runtime(accelerator="cpu", deterministic=True))
    torch.use_deterministic_algorithms(False)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
