"""Watch the processes of distributed training: when one fails, dies or hangs, the others report it and end."""

import atexit
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from subprocess import Popen
from types import TracebackType

import torch
from torch.distributed import TCPStore

from bixt3d.engine.fabric import Fabric
from bixt3d.types import InputError

TICK, PATIENCE = 2.0, 20
"""Seconds between two heartbeats, and the number of missed heartbeats after which a process counts as dead."""
TIMEOUT = timedelta(days=30)
"""Timeout of collective operations: dead processes are found by heartbeats, not by a timeout."""


class Watch:
    """Watch the other processes of a run by heartbeats, from two threads, until `close`.

    Each process counts its ticks in a key-value store of the first one; the count of a dead process no longer grows.
    Time is measured in own ticks, so that a process which was suspended does not report the others as dead.

    Args:
        fabric: the processes of the run.
        children: processes that this one started, by rank.
    """

    def __init__(self, fabric: Fabric, children: Mapping[int, Popen]):
        self.rank, self.number, self.children = fabric.global_rank, fabric.world_size, children
        self.closed, self.unheard = False, 0
        host = os.environ["MASTER_ADDR"]
        if not self.rank:
            self.store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        port = fabric.broadcast(self.store.port if not self.rank else None)
        if self.rank:
            self.store = TCPStore(host, port, is_master=False, wait_for_workers=False)
        self.store.set(f"process {self.rank}", f"0 {socket.gethostname()}")
        fabric.barrier()
        atexit.register(self.fail)
        sys.excepthook = self._explain
        for task in (self._watch, self._watch_the_watch):
            threading.Thread(target=task, daemon=True).start()

    def close(self) -> None:
        """Stop watching: all processes have finished."""
        self.closed = True
        torch.distributed.destroy_process_group()  # with NCCL it blocks until the others do the same
        for child in self.children.values():
            child.wait()

    def fail(self) -> None:
        """Report to the others that this process ends early."""
        if not self.closed:
            self.closed = True
            with suppress(RuntimeError):  # process 0 may be gone
                self.store.set("failed", f"process {self.rank} on {socket.gethostname()} ended early")

    def _explain(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Print an uncaught exception; as one sentence if another process caused it."""
        if not isinstance(error, RuntimeError) or not re.search("gloo|nccl|peer", str(error), re.IGNORECASE):
            return sys.__excepthook__(kind, error, trace)
        time.sleep(2 * TICK)  # the watching thread may find the cause first
        self._end(f"another one does not answer ({str(error).splitlines()[0]})")

    def _watch(self) -> None:
        counts, still = [""] * self.number, [0] * self.number
        names = [f"process {rank}" for rank in range(self.number)]
        ticks = 0
        while not self.closed:
            time.sleep(TICK)
            ticks += 1
            try:
                self.store.set(names[self.rank], f"{ticks} {socket.gethostname()}")
                news = [value.decode() for value in self.store.multi_get(names)]
                failed = self.store.get("failed").decode() if self.store.check(["failed"]) else None
            except RuntimeError:
                return self._end("process 0 is gone")
            self.unheard = 0
            still = [n + 1 if new == old else 0 for n, new, old in zip(still, news, counts, strict=True)]
            counts = news
            self._judge(
                failed, [f"{names[rank]} on {news[rank].split()[1]}" for rank, n in enumerate(still) if n > PATIENCE]
            )

    def _judge(self, failed: str | None, silent: list[str]) -> None:
        """End this process if another one failed, has ended, or has missed too many heartbeats."""
        ended = [
            f"process {rank} ended with code {code}" for rank, child in self.children.items() if (code := child.poll())
        ]
        if failed or ended:
            self._end(failed or ended[0])
        if silent:
            self._end(f"{silent[0]} has not answered for {TICK * PATIENCE:.0f} seconds")

    def _watch_the_watch(self) -> None:
        while not self.closed:
            time.sleep(TICK)
            self.unheard += 1  # the store itself may hang
            if self.unheard > PATIENCE:
                self._end(f"process 0 has not answered for {TICK * PATIENCE:.0f} seconds")

    def _end(self, reason: str) -> None:
        """End this process and its children at once: its main thread may be blocked."""
        time.sleep(TICK)
        if self.closed:  # the main thread has ended by itself meanwhile
            return
        print(f"error: process {self.rank} ends, because {reason}", file=sys.stderr, flush=True)
        for child in self.children.values():
            child.kill()
        os._exit(1)


_watches: list[Watch] = []


def watch(fabric: Fabric, children: Mapping[int, Popen]) -> None:
    """Let the processes of a run watch each other, until `watch_no_longer`."""
    if fabric.world_size > 1:
        _watches.append(Watch(fabric, children))


def watch_no_longer() -> None:
    """Stop watching: from now on the processes may end one by one."""
    while _watches:
        _watches.pop().close()


def ends_all(error: InputError) -> InputError:
    """Return an error that all processes are about to raise: from now on they may end one by one."""
    watch_no_longer()
    return error
