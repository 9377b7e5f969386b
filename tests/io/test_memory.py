"""The memory that a process may use: the machine's, or the limit of its control group, in both versions."""

import os
from pathlib import Path

import pytest

from bixt3d.io.memory import memory_limit

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
MB = 2**20


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_control_groups_it_is_the_machines(tmp_path):
    assert memory_limit(tmp_path) == MACHINE


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": f"{64 * MB}\n"}, 64 * MB),
        ("0::/a/b\n", {"a/b/memory.max": f"{32 * MB}\n", "a/memory.max": f"{64 * MB}\n"}, 32 * MB),
        ("0::/\n", {"memory.max": f"{16 * MB}\n"}, 16 * MB),  # in a container
        ("0::/../../x\n", {"memory.max": f"{16 * MB}\n"}, 16 * MB),
        ("0::/a\n", {"a/memory.max": "max\n"}, MACHINE),
        ("3:cpu,memory:/job\n0::/\n", {"memory/job/memory.limit_in_bytes": f"{64 * MB}\n"}, 64 * MB),
        ("3:memory:/elsewhere\n", {"memory/memory.limit_in_bytes": f"{48 * MB}\n"}, 48 * MB),
        ("3:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, MACHINE),
        ("3:cpu:/job\n", {"memory/job/memory.limit_in_bytes": f"{64 * MB}\n"}, MACHINE),
    ],
)
def test_a_control_group_lowers_it(tmp_path, groups, limits, expected):
    write(tmp_path / "proc/self/cgroup", groups)
    for name, text in limits.items():
        write(tmp_path / "sys/fs/cgroup" / name, text)
    assert memory_limit(tmp_path) == expected
