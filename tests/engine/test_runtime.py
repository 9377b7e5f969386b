"""Memory: tensors lie on the heap, which comes in large pages."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, re
from pathlib import Path
import torch
from bixt3d.engine.runtime import keep_freed_memory
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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc on Linux can be told to keep memory")
@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").is_dir(), reason="this kernel has no huge pages")
def test_tensors_lie_on_the_heap_in_pages_of_2_mb_which_are_kept():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True"]
