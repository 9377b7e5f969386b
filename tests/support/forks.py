"""Processes of a run as forks of the first, which has imported everything: to import takes longer than they run."""

import atexit
import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import NoReturn

from bixt3d.engine import launch


def end_fork(program: Callable[[], object]) -> NoReturn:
    """Run a program in a fork, to the end of the process.

    Destructors of C++ would wait for threads of the parent, which a fork has not: they do not run.
    """
    code = 0
    try:
        program()
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code)


def fork_others(program: Callable[[], object]) -> None:
    """Let `launch` start the other processes of a run as forks, in which this program begins."""

    class Fork(subprocess.Popen):
        def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *_):  # noqa: PLR0913
            sys.stdout.flush(), sys.stderr.flush()
            if pid := os.fork():
                self.pid, self._child_created = pid, True
                return
            os.environ.clear()
            os.environ.update(env)
            sys.argv = args[1:]
            end_fork(program)

    launch.subprocess = SimpleNamespace(Popen=Fork)
