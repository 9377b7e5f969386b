"""Files made to do harm, of a folder outside the repository: each is a result or one sentence, within 1 GB."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("BIXT3D_HOSTILE", Path(__file__).parents[2] / "shared/cases/hostile"))
READ_ALL = """
import re, resource, sys, tempfile
from pathlib import Path
import bixt3d
from bixt3d.io.bounds import printable
from bixt3d.datasets.files.reader import SUFFIXES, read_file
from bixt3d.datasets.images.reading import read_image
from bixt3d.datasets.files.numpy_files import load_arrays
from bixt3d.datasets.download.unpacking import extract
from bixt3d.engine.checkpoint import load_checkpoint
from bixt3d.engine.report import read_rows
from bixt3d.io.fetching import RefusedError
from bixt3d.models.official import read_checkpoint
from bixt3d.tasks.classification import Classification
from bixt3d.inference.runs import load_run
from bixt3d.io.untrusted import read_json

READERS = {
    ".png": read_image, ".npz": load_arrays, ".pt": load_checkpoint, ".pth": read_checkpoint, ".safetensors": load_run,
    ".yaml": lambda path: Classification().make_parser("").parse_args([f"--cfg={path}"]),
    ".json": lambda path: read_json(path.read_text(errors="replace"), str(path)),
    ".zip": lambda path: extract(path, Path(tempfile.mkdtemp())),
    ".gz": lambda path: extract(path, Path(tempfile.mkdtemp())),
}
import trimesh, h5py, PIL.Image, scipy.spatial  # before the limit: what they map is no memory of a file
before = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (before + 10**9,) * 2)
read = 0
for path in sorted(Path(sys.argv[1]).iterdir()):
    readers = [READERS[path.suffix]] if path.suffix in READERS else []
    readers += [read_rows] * ("metrics" in path.name) + [read_file] * (path.suffix in SUFFIXES)
    for reader in readers:
        read += 1
        try:
            reader(path)
        except (bixt3d.InputError, RefusedError) as error:
            if printable(error) != str(error):
                print(path.name, "is refused with characters that a terminal would obey")
        except BaseException as error:
            print(path.name, f"ends in {type(error).__name__}: {printable(error)[:200]}")
print(read, "read")
"""


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no hostile files at {FOLDER}: name a folder with BIXT3D_HOSTILE")
def test_every_hostile_file_is_a_result_or_one_sentence_within_a_gigabyte(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", READ_ALL, str(FOLDER)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert found.returncode == 0, found.stderr[-2000:]
    *faults, last = found.stdout.splitlines()
    assert faults == [] and int(last.split()[0]) > 0
