"""Folders of diffusers as files: the configurations and the weights of a model, and nothing else of what lies there.

Configurations are JSON, weights safetensors, or a .bin that `torch.load(weights_only=True)` takes, which runs no code. The class
of a network is one of a list, built from the arguments that its constructor has; one that its file of weights does not hold is
refused before memory is taken for it. Links within a folder are not followed.
"""

import inspect
import os
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path as File
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from torch import Tensor, nn

from ornstein.errors import OrnsteinError, UsageError, brief
from ornstein.extras import library
from ornstein.files.reading import read_json
from ornstein.weights import Shapes, hashed, loaded, must_be, shapes, shapes_of

WEIGHTS = "diffusion_pytorch_model"
MEND = "get the model anew from where it came from"
EARLIER = {
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}  # names of attention in early files
MOST_TOKENS = 1 << 16  # of a transformer: the places of 4096 pixels a side in latents of 1/8 and patches of 2


@dataclass(frozen=True)
class Folder:
    """The model in a folder of diffusers: its class, its configuration, that of its scheduler, its files of weights."""

    place: File
    name: str
    config: Mapping[str, Any]
    scheduler: Mapping[str, Any] | None
    latent: bool
    """Whether an autoencoder lies beside it: the model is one of latents."""
    weights: tuple[File, ...]
    digests: Mapping[File, str]
    """The sha256 of each configuration that was read."""


def examined(folder: File, classes: Iterable[str]) -> Folder:
    """What is in the folder of a pipeline, or of a model beside a `scheduler`.

    Raises UsageError for a folder that holds neither, or a class that is none of `classes`.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no folder; give the folder of a pipeline (model_index.json) or of a model (config.json)"
        )
    digests = dict[File, str]()

    def read(file: File) -> dict[str, Any]:
        root = _root(folder, file)
        value, digests[file] = hashed(file, partial(read_json, root=root), root, MEND)
        return value

    place, index = folder, folder / "model_index.json"
    if index.exists():
        parts = read(index)
        part = next((name for name in ("unet", "transformer") if parts.get(name)), None)
        if part is None:
            raise UsageError(f"{index} names no unet and no transformer; give a pipeline that denoises")
        place = folder / part
    if not (place / "config.json").exists():
        raise UsageError(
            f"{place / 'config.json'} is missing, so {folder} is no folder of diffusers; give one of a pipeline or a model"
        )
    config = read(place / "config.json")
    name, known = config.get("_class_name"), list(classes)
    if name not in known:
        raise UsageError(f"{place / 'config.json'}: {brief(name)} is not one of {', '.join(known)}")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    settings = read(scheduler) if scheduler.exists() else None
    return Folder(folder, str(name), config, settings, (folder / "vae").is_dir(), _weights(place, read), digests)


def _root(folder: File, file: File) -> File | None:
    """The folder within which no link is followed; None for those of the hub's cache, which lead to its own files."""
    blobs = folder.absolute().parents[1] / "blobs" if folder.absolute().parent.name == "snapshots" else None
    cached = blobs is not None and File(os.path.realpath(file)).parent == File(os.path.realpath(blobs))
    return None if cached else folder


def _weights(place: File, read: Any) -> tuple[File, ...]:
    """The files of weights: of several parts all, of several precisions the full one. Raises UsageError where there are none."""
    index = place / f"{WEIGHTS}.safetensors.index.json"
    if index.exists():
        parts = read(index).get("weight_map")
        names = sorted(set(parts.values())) if isinstance(parts, dict) and all(map(_plain, parts.values())) else []
        if not names:
            raise UsageError(f"{index} names no files of weights in its folder; {MEND}")
        return tuple(place / name for name in names)
    there = sorted(file.name for file in place.glob("*.safetensors"))
    for name in (f"{WEIGHTS}.safetensors", *(there if len(there) == 1 else ()), f"{WEIGHTS}.bin"):
        if (place / name).exists():
            return (place / name,)
    if there:
        raise UsageError(f"{place} holds {', '.join(there)}; leave one of them there, named {WEIGHTS}.safetensors")
    raise UsageError(
        f"{place} holds no {WEIGHTS}.safetensors and no {WEIGHTS}.bin; other files may hold code: load them in your own process "
        "and pass the object"
    )


def _plain(name: Any) -> bool:
    return isinstance(name, str) and name.endswith(".safetensors") and File(name).name == name


def built(folder: Folder) -> tuple[nn.Module, dict[File, str]]:
    """The network in single precision and evaluation mode, and the sha256 of the files that its weights were read from.

    Raises OrnsteinError that names the file which is damaged, or does not fit the others.
    """
    kind = getattr(library("diffusers", "a model of diffusers"), folder.name)
    file = next(file for file in folder.digests if file.name == "config.json")
    arguments = _arguments(kind, folder.config, file)
    state, digests = dict[str, Tensor](), dict[File, str]()
    if folder.weights[0].suffix == ".bin":
        pickled = folder.weights[0]
        state, digests[pickled] = hashed(pickled, unpickled, _root(folder.place, pickled), MEND)
        held = {name: tuple(tensor.shape) for name, tensor in state.items()}
    else:
        held = Shapes()
        for part in folder.weights:
            held |= shapes(part, _root(folder.place, part), mend=MEND)
    try:
        expected = shapes_of(kind, arguments, held)
    except Exception as error:  # numbers that nobody foresaw can fail anywhere in a network
        raise OrnsteinError(
            f"{file} does not describe the network of {folder.weights[0].name} ({_reason(error)}); {MEND}"
        ) from error
    names = {name: _of_today(name, expected) for name in held}
    must_be(expected, {names[name]: shape for name, shape in held.items()}, folder.weights[0])
    if not state:
        for part in folder.weights:
            root = _root(folder.place, part)
            tensors, digests[part] = hashed(part, partial(loaded, root=root, mend=MEND), root, MEND)
            state |= tensors
    try:
        network = kind(**arguments).float()
        network.load_state_dict({names[name]: tensor for name, tensor in state.items()})
    except Exception as error:
        raise OrnsteinError(f"{file} describes a network that cannot be built ({_reason(error)}); {MEND}") from error
    endless = [name for name, tensor in network.state_dict().items() if not bool(tensor.isfinite().all())]
    if endless:
        raise OrnsteinError(f"{folder.weights[0]} holds numbers that are not finite (in {endless[0]}); {MEND}")
    return network.eval().requires_grad_(False), digests


def _of_today(name: str, expected: Shapes) -> str:
    """The name of a tensor in the network, which early files of diffusers have by another."""
    if name in expected:
        return name
    if name.count(".") < 2:
        return name
    *head, part, last = name.rsplit(".", 2)
    renamed = ".".join([*head, EARLIER.get(part, part), last])
    return renamed if renamed in expected else name


def _arguments(kind: Any, config: Mapping[str, Any], file: File) -> dict[str, Any]:
    """The arguments of a network's constructor in its configuration. Raises OrnsteinError for places beyond any transformer's."""
    arguments = {key: config[key] for key in inspect.signature(kind.__init__).parameters if key in config}
    patch = arguments.get("patch_size")
    sides = [arguments.get(key) for key in ("sample_size", "pos_embed_max_size")] if patch is not None else []
    for side in sides:
        if side is not None and not (
            type(side) is type(patch) is int and 0 < patch <= side and (side // patch) ** 2 <= MOST_TOKENS
        ):
            raise OrnsteinError(f"{file} describes a transformer of {brief(side)} by {brief(side)} places; {MEND}")
    return arguments


def unpickled(file: File) -> dict[str, Tensor]:
    """The tensors of a .bin that holds nothing else; no code in it is run. Raises ValueError for all others."""
    try:
        with ZipFile(file) as archive:
            if any(member.compress_type != ZIP_STORED for member in archive.infolist()):
                raise ValueError("it is packed, as torch never writes it")
    except BadZipFile:
        raise ValueError("it is no archive of torch, and others may hold code, which is never run") from None
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, LookupError, TypeError, AttributeError, EOFError, ArithmeticError):
        raise ValueError("it holds more than tensors, or is damaged; code is never run") from None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and type(value) is Tensor and value.layout is torch.strided and value.is_floating_point()
        for name, value in state.items()
    ):
        raise ValueError("it holds more than tensors of floating numbers")
    return state


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
