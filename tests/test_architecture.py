"""The rules of the house that a machine can check: who imports whom, what is lazy, how long a file is."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bixt3d"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [path.relative_to(PACKAGE).as_posix() for path in FILES]

MAY_IMPORT = {
    "version": set(),
    "errors": set(),
    "types": set(),
    "io": {"types"},
    "config": {"types", "io"},
    "ops": {"types"},
    "nn": {"types", "ops"},
    "tokenizers": {"types", "ops", "nn"},
    "models": {"types", "io", "config", "ops", "nn", "tokenizers"},
    "timm": {"types", "nn", "models"},  # what `import bixt3d.timm` registers
    "pyg": {"types", "ops"},
    "datasets": {"types", "io", "ops"},
    "viz": {"types", "io"},
    "engine": {"types", "io", "config"},
}
# where model, data, training and pictures of a task meet; a run names its task, and a task its predictor
MAY_IMPORT["inference"] = MAY_IMPORT["tasks"] = {*MAY_IMPORT, "inference", "tasks"}
MAY_IMPORT["cli"] = {*MAY_IMPORT}
MAY_IMPORT["__main__"] = {"cli"}

ONLY_IN = {
    "triton": ("ops/triton/",),
    "torch_cluster": ("ops/_backend.py", "ops/neighbors.py"),
    "numba": ("ops/numba/",),
    "open3d": ("viz/",),
    "matplotlib": ("viz/",),
    "plotly": ("viz/",),
    "lightning_fabric": ("engine/",),
    "trimesh": ("datasets/files/",),
    "huggingface_hub": ("io/hub.py",),
    "laspy": ("datasets/files/",),
    "lazrs": ("datasets/files/",),
    "pye57": ("datasets/files/",),
}
LAZY = {  # package: where it may be imported at the top of a file all the same
    "torch_cluster": (),
    "numba": ("ops/numba/",),
    "scipy": (),
    "open3d": (),
    "matplotlib": (),
    "plotly": (),
    "h5py": (),
    "sklearn": (),
    "torch_geometric": (),
    "trimesh": (),
    "onnx": (),
    "onnx_ir": (),
    "onnxruntime": (),
    "onnxscript": (),
    "triton": ("ops/triton/",),
    "lightning_fabric": ("engine/autocast.py",),
    "timm": ("timm.py",),
    "torchvision": (),
    "fvcore": (),
    "PIL": (),
    "huggingface_hub": (),
    "laspy": (),
    "lazrs": (),
    "pye57": (),
}
FORBIDDEN_AT_START = [
    "lightning_fabric",
    "torch_geometric",
    "sklearn",
    "matplotlib",
    "plotly",
    "open3d",
    "scipy",
    "h5py",
    "trimesh",
    "laspy",
    "pye57",
]
FORBIDDEN_AT_START += ["torch_cluster", "numba", "tensorboard", "torch._dynamo"]
TASKS = ("classification", "part_segmentation", "image_classification", "image_segmentation", "training", "testing")
STARTS = [  # what is imported, and what must not be by that
    (("types", "ops", "tokenizers", "models", "datasets"), [*FORBIDDEN_AT_START, "jsonargparse"]),
    (("inference.runs", *(f"tasks.{name}" for name in TASKS)), FORBIDDEN_AT_START),
]


def imported(node: ast.AST) -> list[str]:
    """Return the full names of the modules that one statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"a relative import in line {node.lineno}"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


@cache
def imports(path: Path) -> list[str]:
    """Return all that a file imports, at its top and inside functions."""
    return [name for node in ast.walk(ast.parse(path.read_text())) for name in imported(node)]


def statements_run_at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when a file is imported: no bodies of functions, no ``if TYPE_CHECKING``."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        for field in ("body", "orelse", "finalbody", "handlers"):
            children = getattr(node, field, None)
            yield from statements_run_at_import(children if isinstance(children, list) else [])


def eager_imports(path: Path) -> list[str]:
    """Return what a file imports when it is imported itself."""
    body = ast.parse(path.read_text()).body
    return [name for node in statements_run_at_import(body) for name in imported(node)]


def room(name: str) -> str:
    """Return the room of a file: its folder in the package, or the file itself."""
    return name.split("/")[0].removesuffix(".py")


def test_there_are_files_to_check():
    assert {"types.py", "ops/neighbors.py", "nn/blocks.py", "models/encoder.py"} <= set(NAMES)


def test_an_import_is_found_wherever_it_hides(tmp_path: Path):
    """The checks below stand or fall with this one."""
    (tmp_path / "a.py").write_text(
        "import os.path\nclass A:\n    import b.c\n    def f(self):\n        from d import e\n"
        "try:\n    import g\nexcept ImportError:\n    import h\nif A:\n    pass\nelse:\n    import i\n"
        "if TYPE_CHECKING:\n    import j\n"
    )
    assert set(eager_imports(tmp_path / "a.py")) == {"os.path", "b.c", "g", "h", "i"}
    assert set(imports(tmp_path / "a.py")) == {"os.path", "b.c", "g", "h", "i", "d.e", "j"}


def modules_imported(path: Path, known: set[str]) -> set[str]:
    """Return the modules of ours that a file imports anywhere, also inside functions and under ``TYPE_CHECKING``.

    ``from bixt3d.ops import knn`` imports ``bixt3d.ops``, which is its ``__init__``; ``from bixt3d.ops import
    reference`` imports ``bixt3d.ops.reference`` alone.
    """
    return {name if name in known else name.rpartition(".")[0] for name in imports(path)} & known


def circle_of(package: Path) -> list[str]:
    """Return modules of a package that import each other in a circle, the first one again at the end; or none."""
    paths = {path.relative_to(package.parent).with_suffix(""): path for path in package.rglob("*.py")}
    files = {".".join(name.parts).removesuffix(".__init__"): path for name, path in paths.items()}
    try:
        TopologicalSorter({name: modules_imported(path, {*files}) - {name} for name, path in files.items()}).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_files_import_each_other_in_a_circle():
    assert circle_of(PACKAGE) == []


@pytest.mark.parametrize(
    ("closing", "circle"),
    [
        ({"c.py": "import own.a"}, {"own.a", "own.b", "own.c"}),
        ({"c.py": "def f():\n    from own.a import A"}, {"own.a", "own.b", "own.c"}),
        ({"c.py": "if TYPE_CHECKING:\n    from own import a"}, {"own.a", "own.b", "own.c"}),
        ({"__init__.py": "from own.c import C", "c.py": "from own import C"}, {"own", "own.c"}),
        ({"__init__.py": "from own.c import C", "c.py": "from own import d"}, set()),
    ],
)
def test_a_circle_is_found_wherever_an_import_of_it_hides(closing: dict[str, str], circle: set[str], tmp_path: Path):
    """A package alone closes none: only a name of its ``__init__`` does."""
    (tmp_path / "own").mkdir()
    files = {"__init__.py": "", "a.py": "from own import b", "b.py": "from own.c import C", "c.py": "", "d.py": ""}
    for name, text in (files | closing).items():
        (tmp_path / "own" / name).write_text(text)
    assert set(circle_of(tmp_path / "own")) == circle


def test_rooms_import_only_what_the_house_allows():
    rooms = {room(name) for name in NAMES} - {"__init__"}
    assert rooms <= {*MAY_IMPORT}, "a room without a rule: add it here and to CONTRIBUTING.md"
    assert not {
        f"{name} imports {one}"
        for name, path in zip(NAMES, FILES, strict=True)
        for one in imports(path)
        if one.split(".")[0] in ("tools", "benchmarks", "examples", "tests") or not may_import(room(name), one)
    }


def may_import(own: str, name: str) -> bool:
    """Say whether files of a room may import a module of ours, or whatever a name of other packages is."""
    if own == "__init__" or not name.startswith("bixt3d."):
        return True
    return name.split(".")[1] in {own, "errors", "version"} | MAY_IMPORT[own]


def test_the_package_itself_imports_everything_on_first_use():
    eager = [name for name in eager_imports(PACKAGE / "__init__.py") if name.startswith("bixt3d.")]
    assert not [name for name in eager if ".version" not in name]


def test_a_special_package_is_imported_only_in_its_place():
    assert not {
        f"{name} imports {package}, which only {ONLY_IN[package]} may"
        for name, path in zip(NAMES, FILES, strict=True)
        for package in {one.split(".")[0] for one in imports(path)} & {*ONLY_IN}
        if not name.startswith(ONLY_IN[package])
    }


def test_a_heavy_package_is_imported_only_when_it_is_needed():
    assert not {
        f"{name} imports {package} at its top: do so inside a function"
        for name, path in zip(NAMES, FILES, strict=True)
        for package in {one.split(".")[0] for one in eager_imports(path)} & {*LAZY}
        if not name.startswith(LAZY[package])
    }


def test_a_file_has_a_name_that_says_something_and_can_be_read_in_one_sitting():
    nothing = ("utils", "util", "common", "helpers", "helper", "misc")
    assert not [name for name, path in zip(NAMES, FILES, strict=True) if path.stem in nothing]
    lines = {path: len(path.read_text().splitlines()) for path in FILES}
    assert not {
        f"{path} has {number} lines"
        for path, number in lines.items()
        if number > (400 if {"triton", "numba"} & {*path.parts} else 250)  # kernels of an operator belong together
    }


def test_annotations_are_not_strings_from_the_future():
    """Beartype could not check them."""
    assert not [name for name, path in zip(NAMES, FILES, strict=True) if "__future__.annotations" in imports(path)]


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys"
    for modules, forbidden in STARTS:
        code += f"\nimport {', '.join(f'bixt3d.{name}' for name in modules)}\n"
        code += f"print(*sorted(set({forbidden}) & set(sys.modules)), 'after', '{modules[0]}')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert found.stdout.splitlines() == [f"after {modules[0]}" for modules, _ in STARTS]
