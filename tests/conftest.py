"""What holds for the whole test session: threads, interrupts, the garbage collector, and tests of what is not here."""

import gc
import signal
from copy import deepcopy
from functools import wraps
from importlib.util import find_spec

import pytest
import torch


def pytest_sessionstart():
    """Compute on one thread, and take one tiny exponential: the first multi-threaded one may be inaccurate.

    On the tests' tiny tensors several threads only wait for each other: where they outnumber the free cores, the suite
    takes many times longer. A suite in the background of a script (``make test &``) ignores interrupts, and so would
    the programs that it starts: tests of interrupts need them.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    torch.zeros(8).exp()
    gc.disable()


def pytest_collection_finish():
    """Let the garbage collector leave out what is there now, and search seldom: it takes a tenth of the time otherwise.

    Half a million objects are there now, and a model of the tests has thousands.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]):
    """Skip tests marked ``gpu`` without a CUDA device, and ``cluster`` without torch-cluster; begin with slow files.

    One that began last would keep a process busy while the others have nothing left to do. Next are rooms whose tests
    train and export.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, item.path.parent.name not in ("tools", "examples", "docs")))
    missing = {}
    if not torch.cuda.is_available():
        missing["gpu"] = "needs a CUDA device, and torch sees none here"
    if find_spec("torch_cluster") is None:
        missing["cluster"] = "needs torch-cluster: make test-cluster builds it"
    for item in items:
        for mark, reason in missing.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def seed():
    """Start every test from the same random state, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def shapes_made_once():
    """Make each set of procedural clouds once: with types checked, this takes longer than a tiny run trains."""
    from bixt3d.datasets.shapes.shapes import Shapes  # not at the top: pytest loads this before jaxtyping may look

    make, made = Shapes._make, {}

    @wraps(make)
    def make_once(self, split, per_class):
        key = (self.seed, self.num_points, str(self.features), split, per_class)
        if key not in made:
            made[key] = make(self, split, per_class)
        return deepcopy(made[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shapes, "_make", make_once)
        yield


@pytest.fixture(scope="module", autouse=True)
def folders_trusted_by_none_else():
    """Forget the folders from which the tests of a file imported modules: runs keep copies of these."""
    yield
    from bixt3d.io.importing import _FOLDERS

    _FOLDERS.clear()


@pytest.fixture(autouse=True)
def drawn_by_matplotlib(monkeypatch):
    """Let matplotlib draw clouds: it takes a tenth of a second where a process with Open3D takes four."""
    monkeypatch.setattr("bixt3d.viz.scene.renderer", lambda: ("matplotlib", "the tests draw with it"))
