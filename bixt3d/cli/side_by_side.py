"""Run several commands of ``bixt3d`` in processes of their own, some of them side by side."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def train_side_by_side(commands: Mapping[str, Sequence[str]], jobs: int, out: Path) -> list[str]:
    """Run commands, given by name, as many at a time as ``jobs`` says; return the names of those that failed.

    Each has its share of this program's threads. With several at a time, each writes to ``out/NAME.log``. A signal ends
    them all, and is raised again when they have ended.
    """
    import torch

    threads = max(1, torch.get_num_threads() // jobs)
    running: list[subprocess.Popen] = []

    def work(name: str) -> int:
        command = list(commands[name])
        if jobs > 1 and not any(word.startswith("--runtime.threads") for word in command):
            command.append(f"--runtime.threads={threads}")
        return start(command, threads, out / f"{name}.log" if jobs > 1 else None, running)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            codes = list((pool.map if jobs > 1 else map)(work, commands))
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.send_signal(getattr(error, "number", signal.SIGINT))
            for process in running:
                process.wait()
            raise
    return [name for name, code in zip(commands, codes, strict=True) if code]


def start(command: Sequence[str], threads: int, log: Path | None, running: list[subprocess.Popen]) -> int:
    """Run one command in a process and wait for it; return its exit code.

    It has a session of its own: Ctrl-C reaches it through this program alone, once.
    """
    line = [sys.executable, "-m", "bixt3d", *command]
    options = {"env": os.environ | {"OMP_NUM_THREADS": str(threads)}, "start_new_session": True}
    if log is None:
        running.append(process := subprocess.Popen(line, **options))
        return process.wait()
    log.parent.mkdir(parents=True, exist_ok=True)
    say(f"{log.stem}: started, see {log}")
    with log.open("a", encoding="utf-8") as file:
        running.append(process := subprocess.Popen(line, stdout=file, stderr=file, **options))
        code = process.wait()
    say(f"{log.stem}: {ending(code)}, see {log}")
    return code


def ending(code: int) -> str:
    """Return in words how a program ended; ``code`` is negative if a signal ended it at once."""
    number = -code if code < 0 else code - 128
    if number in (signal.SIGINT, signal.SIGTERM):
        return "stopped by a signal"
    if number == getattr(signal, "SIGKILL", None):  # Windows has none
        return "was killed, perhaps as the machine lacked memory"
    return "ended" if code == 0 else f"failed with exit code {code}"


def say(line: str) -> None:
    """Print a line in one piece: the threads print side by side."""
    print(f"{line}\n", end="", flush=True)
