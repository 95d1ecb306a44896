"""A device that stands in for a GPU: its tensors compute on the CPU, and refuse to meet tensors of the CPU, as a GPU's do.

Made of torch's out-of-tree device (PrivateUse1) and a tensor subclass; a mode puts what is created for the device, or sent
to it, into the subclass. What runs in other threads is outside of the mode, and autocast has no rules for the device: checks of
those take the CPU itself.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Self
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "standin"
# What CUDA allows between devices: copies, and places of a tensor named by indices on the CPU.
ACROSS = {"_to_copy", "copy_", "index", "index_put", "index_put_", "_index_put_impl_", "set_"}


class Backend:
    """What torch asks of the module of a device."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def set_device(self, device: Any) -> None:
        pass

    def manual_seed_all(self, seed: int) -> None:
        pass

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.zeros(0, dtype=torch.uint8)

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        pass

    def _is_in_bad_fork(self) -> bool:
        return False

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


_setup_privateuseone_for_python_backend(NAME, backend_module=Backend())
DEVICE = torch.device(NAME, 0)


class There(Tensor):
    """A tensor of the device, around one of the CPU."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> Self:
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            raw.size(),
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            requires_grad=raw.requires_grad,
            device=DEVICE,
        )
        made.raw = raw
        return made

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"There({self.raw})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _is_there(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _run(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The operation on the tensors inside; its results are of the device where a tensor was, or where it says so."""
    name = func.overloadpacket.__name__
    leaves = tree_leaves((args, kwargs))
    ours = [leaf for leaf in leaves if isinstance(leaf, There)]
    others = [leaf for leaf in leaves if isinstance(leaf, Tensor) and not isinstance(leaf, There) and leaf.ndim]
    if ours and others and name not in ACROSS:
        raise RuntimeError(f"{func}: tensors on two devices, of shapes {[tuple(t.shape) for t in (*ours, *others)]}")
    device = kwargs.get("device")
    there = bool(ours) if device is None else _is_there(device)
    if name == "copy_":
        there = isinstance(args[0], There)
    plain_args, plain_kwargs = tree_map(lambda leaf: leaf.raw if isinstance(leaf, There) else leaf, (args, kwargs))
    if device is not None:
        plain_kwargs = {**plain_kwargs, "device": torch.device("cpu")}
    out = func(*plain_args, **plain_kwargs)
    if device is not None:  # another device is another memory
        out = tree_map(lambda leaf: leaf.clone() if any(leaf is one for one in tree_leaves(plain_args)) else leaf, out)
    if not there:
        return out
    out = tree_map(lambda leaf: There(leaf) if isinstance(leaf, Tensor) else leaf, out)
    aliases = func._schema.is_mutable or any(value.alias_info for value in func._schema.returns)
    return return_and_correct_aliasing(func, args, kwargs, out) if aliases else out


class Dispatch(TorchDispatchMode):
    """Sends to the device what is made for it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class Functions(TorchFunctionMode):
    """The functions that torch does not dispatch by their device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and _is_there(kwargs.get("device")):
            return func(*args, **{**kwargs, "device": "cpu"}).to(DEVICE)
        if func is Tensor.new_tensor and isinstance(args[0], There):
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}).to(DEVICE)
        if func is Tensor.tolist and isinstance(args[0], There):
            return args[0].raw.tolist()
        return func(*args, **kwargs)


class Generator(torch.Generator):
    """The device has none of its own."""

    def __new__(cls, device: Any = "cpu") -> Self:
        return super().__new__(cls, torch.device("cpu") if _is_there(device) else device)


@contextmanager
def standing_in() -> Iterator[torch.device]:
    """Within, the device can be used in this thread. It has no inference mode, whose tensors such a subclass cannot be."""
    with (
        patch.object(torch, "Generator", Generator),
        patch.object(torch, "inference_mode", lambda mode=True: torch.no_grad() if mode else nullcontext()),
        Dispatch(),
        Functions(),
    ):
        yield DEVICE
