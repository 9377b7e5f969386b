"""Packages that only some uses need: which extra of bixt3d brings them, and a sentence where one is missing."""

from importlib.util import find_spec

from bixt3d.errors import InputError

PICTURES = ("jinja2", "matplotlib", "PIL", "plotly")
TRAINING = ("lightning_fabric", "sklearn", "tensorboard", *PICTURES)
EXTRAS = {
    "viz": PICTURES,
    "train": TRAINING,
    "images": ("PIL", "timm", "torchvision"),
    "pyg": ("torch_geometric",),
    "export": ("fvcore", "onnx", "onnx_ir", "onnxruntime", "onnxscript"),
    "psb": ("py7zr",),
}
"""The packages of each extra, by the names under which they are imported."""


def need(what: str, *packages: str) -> None:
    """Raise InputError, which says what to install, if a package that something needs is missing."""
    for package in packages:
        if not _is_installed(package):
            raise InputError(f"{what} needs {_missing(package)}")


def what_to_install(error: ModuleNotFoundError) -> str | None:
    """Return the sentence about a missing package of an extra; None if the error is about something else."""
    package = (error.name or "").split(".")[0]
    return f"this needs {_missing(package)}" if any(package in packages for packages in EXTRAS.values()) else None


def _missing(package: str) -> str:
    extra = next(name for name, packages in EXTRAS.items() if package in packages)
    return f"the package {package}, which is not installed: pip install 'bixt3d[{extra}]'"


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # a module without a specification: somebody put it there
        return True
