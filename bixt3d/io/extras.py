"""Optional dependencies: which extra of bixt3d installs them, and the message if one is missing."""

from importlib.util import find_spec

from bixt3d.errors import InputError

PICTURES = ("jinja2", "matplotlib", "PIL", "plotly")
TRAINING = ("lightning_fabric", "tensorboard", *PICTURES)
EXTRAS = {
    "viz": PICTURES,
    "train": TRAINING,
    "images": ("PIL", "timm", "torchvision"),
    "draco": ("DracoPy",),
    "lidar": ("laspy", "lazrs", "pye57"),
    "pyg": ("torch_geometric",),
    "export": ("fvcore", "onnx", "onnx_ir", "onnxruntime", "onnxscript"),
    "psb": ("py7zr",),
    "hub": ("huggingface_hub",),
}
"""The packages of each extra, by their import names."""


def need(what: str, *packages: str) -> None:
    """Raise InputError with the pip command if a package is missing; ``what`` is the feature that needs it."""
    for package in packages:
        if not _is_installed(package):
            raise InputError(f"{what} needs {_missing(package)}")


def what_to_install(error: ModuleNotFoundError) -> str | None:
    """Return the message about a missing package of an extra; None if the error is about another module."""
    package = (error.name or "").split(".")[0]
    return f"this needs {_missing(package)}" if any(package in packages for packages in EXTRAS.values()) else None


def _missing(package: str) -> str:
    extra = next(name for name, packages in EXTRAS.items() if package in packages)
    return f"the package {package}, which is not installed: pip install 'bixt3d[{extra}]'"


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # a module without a spec, put into sys.modules by a program
        return True
