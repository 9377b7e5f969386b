"""Make, lock, resume and find run folders."""

import contextlib
import errno
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from bixt3d.engine.checkpoint import write_text
from bixt3d.io.named_configs import nearest
from bixt3d.io.pretrained import find_run, is_named, known_pretrained, shown
from bixt3d.io.weights import load_metadata
from bixt3d.io.writing import remove_leftovers, write_whole
from bixt3d.types import InputError

RECORD = "run.json"
OF_A_RUN = (RECORD, "config.yaml", "metrics.csv", "checkpoint.pt", "result.json", "report.html", "tensorboard")
"""What a run writes, apart from weights and pictures."""


class NoRunError(InputError):
    """There is no run of the wanted kind."""


@dataclass(frozen=True)
class Record:
    """The content of run.json.

    Args:
        task: name of the task.
        began: when the run began, in ISO 8601 with time zone.
        seeds: the seeds of a run of several; None: one seed.
    """

    task: str
    began: str
    seeds: tuple[int, ...] | None = None

    def text(self) -> str:
        """Return the record as JSON."""
        return json.dumps({name: value for name, value in asdict(self).items() if value is not None}, indent=2) + "\n"


def record_now(task: str, seeds: list[int] | None) -> Record:
    """Return the record of a new run, with the current time."""
    return Record(task, datetime.now(timezone.utc).isoformat(timespec="microseconds"), tuple(seeds) if seeds else None)


def read_record(folder: Path) -> Record | None:
    """Return the record of a run folder; None if it is not one. Raises InputError for a damaged run.json."""
    path = folder / RECORD
    if path.is_file():
        return parse_record(path)
    weights, config = folder / "model.safetensors", folder / "config.yaml"
    if not weights.is_file():
        return None
    first = config if config.is_file() else weights  # of a version that wrote no run.json
    began = datetime.fromtimestamp(first.stat().st_mtime, timezone.utc)
    return Record(load_metadata(weights).get("task", ""), began.isoformat(timespec="microseconds"))


def parse_record(path: Path) -> Record:
    """Return the record in a run.json. Raises InputError if it is damaged."""
    try:
        if path.stat().st_size > 2**20:
            raise ValueError("too large")
        found = json.loads(path.read_text(encoding="utf-8"))
        task, began, seeds = found["task"], found["began"], found.get("seeds")
        if not isinstance(task, str) or datetime.fromisoformat(began).tzinfo is None:
            raise ValueError("not a task and a time")
        if seeds is not None and not (seeds and all(type(seed) is int for seed in seeds)):
            raise ValueError("not a list of seeds")
        return Record(task, began, None if seeds is None else tuple(seeds))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is damaged: it does not say which run this folder contains") from error


def check_free(folder: Path) -> None:
    """Raise InputError for a folder in which a new run would replace files."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: --run_dir names the folder of the run, new or empty")
    if not folder.is_dir():
        return
    taken = [name for name in OF_A_RUN if (folder / name).exists()]
    taken += sorted(path.name for kind in ("*.safetensors", "*.png") for path in folder.glob(kind))
    taken += sorted(f"{path.parent.name}/" for path in folder.glob("seed*/config.yaml"))
    if not taken:
        return
    free = next(path for i in range(2, 10_000) if not (path := Path(f"{folder}-{i}")).exists())
    on = f"go on with it by `--resume {folder}`, or " if (folder / "config.yaml").is_file() else ""
    inside = "a run" if on else f"files that a run would replace ({', '.join(taken[:3])})"
    raise InputError(f"{folder} contains {inside} already: {on}name a free folder, such as `--run_dir {free}`")


def make_folder(folder: Path | None, name: str, record: Record, config: str) -> Path:
    """Make the folder of a new run, or use an empty one, and write its settings; return it.

    ``folder`` None: ``runs/NAME-TIME``. No two processes get the same folder, even on a shared file system.
    """
    folder = new_folder(Path("runs"), name) if folder is None else folder
    check_free(folder)
    write_whole(folder / RECORD, lambda path: path.write_text(record.text(), encoding="utf-8"), new=True)
    write_text(folder / "config.yaml", config)
    return folder


def new_folder(root: Path, name: str) -> Path:
    """Make a folder that no other process has, named ``NAME-TIME``; return it."""
    base = root / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    for i in range(1000):
        folder = Path(f"{base}-{i}") if i else base
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(f"could not make the folder {folder}: {error.strerror}; name a --run_dir") from error
    raise InputError(f"{base} and 999 folders of such names are there: name a --run_dir")


def take_folder(folder: Path, record: Record, config: str, stack: contextlib.ExitStack) -> Path:
    """Lock the folder of a run to resume, remove temporary files of killed processes, write the settings.

    The lock is released when ``stack`` closes. Returns the folder.
    """
    path = folder / RECORD
    if not path.is_file():
        write_text(path, record.text())
    elif parse_record(path) != record:
        with lock(folder):
            write_text(path, record.text())
    stack.enter_context(lock(folder))
    remove_leftovers(folder)
    write_text(folder / "config.yaml", config)
    return folder


@contextlib.contextmanager
def lock(folder: Path, name: str = RECORD, act: str = "train") -> Iterator[None]:
    """Lock a run folder, so that no other process trains in it. Raises InputError if another one does.

    ``name``: the file that is locked; ``act``: what is done in the folder.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        file = (folder / name).open("r+")
    except OSError as error:
        raise InputError(f"{folder} cannot be {act}ed in: {error.strerror} ({name})") from error
    with file:  # the lock ends with this process, or where it closes this file
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise InputError(f"another process {act}s in {folder} now: stop it first, or wait") from error
        yield


def newest_to_resume(root: Path, task: str, how: str) -> Path:
    """Return the folder of this task's newest run, finished or not; a run of several seeds is one run.

    Raises InputError, which names the command ``how`` to make one, if there is none.
    """

    def is_one(folder: Path) -> bool:
        above = parse_record(folder.parent / RECORD) if (folder.parent / RECORD).is_file() else None
        return not (above and above.seeds)

    folders = {path.parent for path in root.glob("**/config.yaml")}
    return _newest(filter(is_one, folders), root, task.__eq__, f"{task} run", how)


def newest_run(root: Path, wanted: Callable[[str], bool], kind: str, how: str) -> Path:
    """Return the folder of the newest run that has weights, among the tasks for which ``wanted`` is true.

    Raises InputError, which names the ``kind`` of run and the command ``how`` to make one, if there is none.
    """
    return _newest((path.parent for path in root.glob("**/model.safetensors")), root, wanted, kind, how)


def _newest(folders: Iterable[Path], root: Path, wanted: Callable[[str], bool], kind: str, how: str) -> Path:
    records = {folder: record for folder in folders if (record := read_record(folder)) and wanted(record.task)}
    if not records:
        raise NoRunError(f"there is no {kind} under {root}/ yet: make one with `{how}`")
    return max(records, key=lambda folder: (datetime.fromisoformat(records[folder].began), folder))


def weights_file(run: str | Path, which: str = "last") -> Path:
    """Return the weights file of a run folder: ``last`` epoch, or ``best`` epoch on the validation split.

    ``run``: a folder, a name of weights (see `find_run`), or a file, whose path is returned as it is. Raises InputError
    if the run has none, or has several seeds.
    """
    run = find_run(run)
    if not run.is_dir():
        if which == "best":
            raise InputError(f"--weights best needs a run folder, and {run} is none: leave it out")
        if not run.exists():
            raise InputError(f"there is no run folder or weights file {run}" + near_run(run))
        return run
    seeds = sorted(str(path.parent) for path in run.glob("seed*/model.safetensors"))
    if seeds and not (run / "model.safetensors").is_file():
        raise InputError(f"{run} contains a run for each seed: name one of {', '.join(seeds)}")
    path = run / ("best_on_val.safetensors" if which == "best" else "model.safetensors")
    if which == "best" and not path.is_file():
        raise InputError(
            f"{shown(run)} has no weights chosen on validation: train with --data.val_fraction, or use the last"
        )
    return path


def near_run(place: Path) -> str:
    """Return the end of a message about a missing run: the nearest name of a run beside it, or of weights by name."""
    runs = (path.parent.name for path in place.parent.glob(f"*/{RECORD}"))
    near = nearest(place.name, [*runs, *known_pretrained()])
    return near if "did you mean" in near else ""


def words_of(path: Path) -> str:
    """Return in words which weights of a run a file contains."""
    if is_named(path):
        return "pretrained"
    return {"model": "last", "best_on_val": "best on validation"}.get(path.stem, path.name)


def shown_weights(path: Path) -> str:
    """Return weights as text: their path, or their name, and which of a run they are."""
    return f"{shown(path)} ({words_of(path)})"
