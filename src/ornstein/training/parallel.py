"""A learner on several processes: torch's DDP, which copies it to each, or FSDP2, which cuts it into shards.

Gradients are averaged over the processes in the backward pass by either; nothing else of the training differs.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ornstein.processes import Processes

M = TypeVar("M", bound=nn.Module)


def copied(learner: nn.Module, device: torch.device) -> nn.Module:
    """The learner in DDP: every process holds all of it."""
    ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(learner, device_ids=ids, gradient_as_bucket_view=True)


def sharded(module: M, device: torch.device, processes: Processes) -> M:
    """The module in FSDP2, in place: every process holds a part of each weight and gathers the rest when it is needed.

    The members of lists of modules (the blocks of a network) are gathered one at a time, what lies outside them at once.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (processes.count,))
    for block in _blocks(module):
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module


def _blocks(module: nn.Module) -> Iterable[nn.Module]:
    """The members of the outermost lists of modules."""
    for child in module.children():
        yield from child if isinstance(child, nn.ModuleList) else _blocks(child)


def accumulating(learner: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Around the forward and backward pass of a part: DDP waits for the last one to average gradients.

    FSDP2 averages after each, and so never holds a whole gradient.
    """
    if isinstance(learner, DistributedDataParallel) and not last:
        return learner.no_sync()
    return nullcontext()


@torch.no_grad()
def local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The shards that this process holds; whole tensors as they are. Both share memory with what was given."""
    return [tensor.to_local() if is_sharded(tensor) else tensor for tensor in tensors]  # type: ignore[attr-defined]


@torch.no_grad()
def clip(weights: Sequence[Tensor], largest: float) -> Tensor:
    """Scale the gradients of the weights so that the norm of all together is at most `largest`; the norm before."""
    if not any(map(is_sharded, weights)):
        return torch.nn.utils.clip_grad_norm_(weights, largest, foreach=True)
    gradients = local(weight.grad for weight in weights if weight.grad is not None)
    square = torch.stack(torch._foreach_norm(gradients)).square().sum()
    torch.distributed.all_reduce(square)
    norm = square.sqrt()
    torch._foreach_mul_(gradients, (largest / (norm + 1e-6)).clamp(max=1.0))
    return norm


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a part of it: a DTensor, named here without importing it."""
    return hasattr(tensor, "full_tensor")


def gather(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sharded tensors as whole ones on the CPU, in the first process; elsewhere they are empty. Others as they are."""
    whole_tensors = {}
    for name, tensor in tensors.items():
        if is_sharded(tensor):
            whole = tensor.detach().full_tensor()  # type: ignore[attr-defined]
            tensor = whole.cpu() if torch.distributed.get_rank() == 0 else torch.empty(0)
        whole_tensors[name] = tensor
    return whole_tensors


def cut(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor sharded as `like` is, without asking other processes; for a `like` that is whole, as it is."""
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def scatter(tensors: Mapping[str, Tensor], module: nn.Module) -> None:
    """Load whole tensors into a module, sharded or not. Raises RuntimeError where they do not fit it."""
    places = module.state_dict()
    module.load_state_dict({name: cut(t, places[name]) if name in places else t for name, t in tensors.items()})
