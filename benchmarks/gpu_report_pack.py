"""What travels to a machine without a network and back: packages, ModelNet10 and compiled kernels."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MIB = 2**20
CARRIED, CACHE = 60 * MIB, 15 * MIB
"""The most bytes of what travels, the checkout with it, and of cache.tar.gz."""
WHEELS = ("beartype", "docstring-parser", "jsonargparse", "lightning-fabric", "plotly")
"""What an image with PyTorch, Triton, h5py, numba, tensorboard, matplotlib and pytest lacks; all without a compiler."""
PLATFORMS = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (17, 27, 28)]


def pack(data: Path | None, out: Path) -> dict[str, Any]:
    """Download wheels, and write the clouds in float16, 0.0005 off at most in the unit sphere."""
    for name in ("modelnet10", "wheels"):
        shutil.rmtree(out / name, ignore_errors=True)
    if data:
        import h5py

        (out / "modelnet10").mkdir(parents=True)
        for path in data.glob("*.txt"):
            shutil.copyfile(path, out / "modelnet10" / path.name)
        for path in data.glob("*.h5"):
            with h5py.File(path) as source, h5py.File(out / "modelnet10" / path.name, "w") as target:
                target.create_dataset("label", data=source["label"][:])
                half = source["data"][:, :, :3].astype("float16")
                target.create_dataset("data", data=half, compression="gzip", compression_opts=9, shuffle=True)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--python-version=3.12"]
    done = subprocess.run([*pip, *PLATFORMS, "-d", out / "wheels", *WHEELS], capture_output=True, text=True)
    checkout = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
    (out / "commit.txt").write_text(commit())
    sizes = {name: sum(path.stat().st_size for path in (out / name).rglob("*")) for name in ("modelnet10", "wheels")}
    sizes["checkout"] = sum((ROOT / name).stat().st_size for name in filter(None, checkout) if (ROOT / name).is_file())
    print(f"{out}: " + ", ".join(f"{name} {size / MIB:.1f} MiB" for name, size in sizes.items()))
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        sys.exit(f"wheels of {', '.join(WHEELS)} are missing, training and tests need them there: {reason}")
    if (total := sum(sizes.values())) > CARRIED:
        sys.exit(f"{total / MIB:.0f} MiB would travel, {CARRIED // MIB} MiB may")
    return {"sizes": sizes}


def commit() -> str:
    """Return the commit of this checkout, with + for uncommitted changes; empty where git is not."""
    done = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def unpack(packed: Path, work: Path) -> dict[str, str]:
    """Install the wheels beside what is there, unpack the cache of kernels, and return the environment of the steps."""
    work.mkdir(parents=True, exist_ok=True)
    if (packed / "cache.tar.gz").is_file():
        with tarfile.open(packed / "cache.tar.gz") as archive:
            archive.extractall(work, filter="data")
    if wheels := [str(path) for path in (packed / "wheels").glob("*.whl")]:  # no venv: of a venv, it would see no torch
        flags = "-q --no-index --no-deps --no-cache-dir --disable-pip-version-check --root-user-action=ignore --upgrade"
        pip = [sys.executable, "-m", "pip", "install", *flags.split(), "--target", str(work / "site"), *wheels]
        subprocess.run(pip, check=True)
    path = [str(work / "site"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    added = {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}
    added |= {"TRITON_CACHE_DIR": str(work / "cache"), "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor")}
    return os.environ | added


def keep_cache(work: Path, out: Path, kept: int) -> int:
    """Write the compiled kernels to cache.tar.gz if there are new ones; returns the number of files."""
    found = sum(path.is_file() for path in (work / "cache").rglob("*"))
    if found == kept:
        return kept
    with tarfile.open(work / "cache.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(work / "cache", "cache")
    if (size := (work / "cache.tar.gz").stat().st_size) <= CACHE:
        shutil.copy(work / "cache.tar.gz", out)
    else:
        print(f"cache.tar.gz has {size / MIB:.0f} MiB, {CACHE // MIB} MiB may come back: the one before stays")
    return found
