"""An emulated device for machines without a GPU: a pytest plugin, ``pytest -p emulated_device``.

Its tensors are on device ``emulated:0`` but are stored and computed on the CPU. What fails on a GPU fails here: tensors
of two devices in one operation (device mismatch), a generator of another device, numpy on device memory. Under
`no_waits` reading a value and copying a tensor fail too: on a GPU they are a synchronization with the host.
Programs started by ``bixt3d.engine.runtime.start`` run on this device.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

aten = torch.ops.aten
NAME = "emulated"


class Backend(_DummyBackendModule):
    """The module that PyTorch requires of a device backend: autocast asks for its dtypes."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


_setup_privateuseone_for_python_backend(NAME, backend_module=Backend())
EMULATED = torch.device(NAME, 0)

MOVES = (aten._to_copy.default, aten.copy_.default)
INDEXES = (aten.index.Tensor, aten.index_put_.default)
"""Operators that also take an index on the CPU, as on a GPU, with a synchronization."""
READS = {
    *(aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select, aten.bincount, aten.repeat_interleave),
    *(aten._unique2, aten.unique_dim, aten.unique_consecutive),
}
"""Operators whose result, or its size, the host needs: a synchronization."""
_watched = False


class WaitError(RuntimeError):
    """An operation would synchronize the host with the device."""


def is_emulated(device: Any) -> bool:
    """Return whether a device, or its name, is the emulated device."""
    return device is not None and torch.device(device).type == NAME


class EmulatedTensor(Tensor):
    """A tensor on the emulated device; ``on_cpu`` is the CPU tensor with its values."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: Tensor):
        layout = {"strides": values.stride(), "storage_offset": values.storage_offset(), "dtype": values.dtype}
        return Tensor._make_wrapper_subclass(cls, values.shape, device=EMULATED, **layout)

    def __init__(self, values: Tensor):
        self.on_cpu = values

    def __repr__(self) -> str:
        return f"EmulatedTensor({self.on_cpu})"

    def __reduce_ex__(self, protocol: int) -> tuple:
        return self.on_cpu.__reduce_ex__(protocol)  # saved as a CPU tensor

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __format__(self, spec: str) -> str:
        return format(self.item() if self.ndim == 0 else self.cpu(), spec)

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        return compute(operator, args, kwargs or {})


class EmulatedGenerator(torch.Generator):
    """A random generator of the emulated device, with the numbers of a CPU generator."""

    def __new__(cls, device: Any = "cpu"):
        return super().__new__(cls, "cpu" if is_emulated(device) else device)

    def __init__(self, device: Any = "cpu"):
        self.device_name = EMULATED if is_emulated(device) else torch.device(device)


def leaves(given: Any) -> list[Any]:
    """Return what lists, tuples and dictionaries contain: all that operators take, and in less time than pytree."""
    if isinstance(given, dict):
        given = given.values()
    elif not isinstance(given, (list, tuple)):
        return [given]
    return [leaf for one in given for leaf in (leaves(one) if isinstance(one, (list, tuple, dict)) else (one,))]


def compute(operator: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Run an operator on the CPU. Raises RuntimeError for a device mismatch, WaitError under `no_waits`."""
    others = plain = tensors = False
    for leaf in leaves((args, kwargs) if kwargs else args):
        if isinstance(leaf, Tensor):
            tensors, is_other = True, isinstance(leaf, EmulatedTensor)
            others, plain = others or is_other, plain or not is_other and leaf.ndim > 0
    is_on_device = is_emulated(kwargs["device"]) if kwargs.get("device") is not None else others
    if operator is aten.copy_.default:
        is_on_device = isinstance(args[0], EmulatedTensor)
    if others and plain and operator not in (*MOVES, *INDEXES):
        raise RuntimeError(f"{operator} takes tensors of two devices")
    if _watched:
        moves = operator in MOVES and (not is_on_device if others else is_on_device and tensors)
        masked = operator in INDEXES and any(one.dtype == torch.bool for one in leaves(args[1]) if one is not None)
        if moves or masked or (others and plain) or operator.overloadpacket in READS:
            raise WaitError(f"the host waits for the device in {operator}")
    with torch.inference_mode(False), torch.no_grad():
        result = operator(*map(_to_cpu, args), **{name: _to_cpu(one) for name, one in kwargs.items()})
        if is_on_device:
            result = _from_cpu(result)
    written = _written(operator)
    return result if written is None else _with_written(written, args, kwargs, result)


def _to_cpu(given: Any) -> Any:
    if isinstance(given, EmulatedTensor):
        return given.on_cpu
    if isinstance(given, (list, tuple)):
        return [_to_cpu(one) for one in given]
    return torch.device("cpu") if isinstance(given, torch.device) and is_emulated(given) else given


def _from_cpu(result: Any) -> Any:
    if isinstance(result, Tensor):
        return EmulatedTensor(result)
    return type(result)(map(_from_cpu, result)) if isinstance(result, (list, tuple)) else result


@cache
def _written(operator: Any) -> list[tuple[str, int] | None] | None:
    """Return, for each result of an operator, the argument that it is and that is written; None if none is written."""
    schema = operator._schema
    written = iter(
        [(one.name, place) for place, one in enumerate(schema.arguments) if one.alias_info and one.alias_info.is_write]
    )
    found = [next(written) if one.alias_info and one.alias_info.is_write else None for one in schema.returns]
    return found if any(found) or not found else None


def _with_written(written: list[tuple[str, int] | None], args: tuple, kwargs: dict[str, Any], result: Any) -> Any:
    """Return the result, in which tensors that the operator wrote in place are the input tensors themselves."""
    if not written:
        return None
    results = result if len(written) > 1 else (result,)
    results = tuple(
        own if one is None else kwargs[one[0]] if one[0] in kwargs else args[one[1]]
        for one, own in zip(written, results, strict=True)
    )
    return results if len(results) > 1 else results[0]


class Dispatch(TorchDispatchMode):
    """Dispatch operators that create tensors on the emulated device without such a tensor as input."""

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if EmulatedTensor in types or is_emulated(kwargs.get("device")):
            return compute(operator, args, kwargs)
        return operator(*args, **kwargs)


class Literals(TorchFunctionMode):
    """Handle ``torch.tensor`` and generators, which the dispatcher does not see."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if not kwargs:
            return function(*args)
        other, generator = is_emulated(kwargs.get("device")), kwargs.get("generator")
        if isinstance(generator, EmulatedGenerator) and is_emulated(generator.device_name) != other:
            raise RuntimeError(f"{function.__name__} takes a generator of another device")
        if other and function in (torch.tensor, torch.as_tensor):
            return function(*args, **kwargs | {"device": "cpu"}).to(EMULATED)
        return function(*args, **kwargs)


@contextmanager
def no_waits() -> Iterator[None]:
    """Raise WaitError for any operation that synchronizes the host with the device."""
    global _watched
    _watched = True
    try:
        yield
    finally:
        _watched = False


def start_emulated(start: Any) -> Any:
    """Return ``start`` with the emulated device in place of the real one."""
    from lightning_fabric import Fabric
    from lightning_fabric.accelerators import CPUAccelerator
    from lightning_fabric.strategies import SingleDeviceStrategy

    class Accelerator(CPUAccelerator):
        def setup_device(self, device: torch.device) -> None:
            pass

    def start_there(runtime: Any) -> Fabric:
        start(runtime)
        fabric = Fabric(strategy=SingleDeviceStrategy(EMULATED, Accelerator()))
        fabric.launch()
        return fabric

    return start_there


def pytest_collection_finish():
    """Make programs start on the emulated device. Not earlier: pytest must import bixt3d first."""
    from bixt3d.tasks import testing, training

    training.start = testing.start = start_emulated(training.start)
    torch.Generator = EmulatedGenerator
    Dispatch().__enter__()
    Literals().__enter__()
