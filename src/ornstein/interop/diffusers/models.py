"""diffusers' models as denoisers: how each is called."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

import torch
from torch import Tensor

from ornstein.denoiser import NetworkDenoiser
from ornstein.errors import UsageError
from ornstein.interop.convention import Call, wrap
from ornstein.interop.diffusers.config import convention
from ornstein.interop.diffusers.files import built, examined
from ornstein.interop.imported import Opened


def _keywords(condition: Any, single: str) -> dict[str, Any]:
    """A condition as keywords; what is no dict is the one of this name."""
    if condition is None:
        return {}
    return dict(condition) if isinstance(condition, dict) else {single: condition}


def unet(network: Any, x: Tensor, t: Tensor, condition: Any) -> Any:
    """UNet2DModel: class_labels."""
    return network(x, t, **_keywords(condition, "class_labels"))


def conditional_unet(network: Any, x: Tensor, t: Tensor, condition: Any) -> Any:
    """UNet2DConditionModel (Stable Diffusion 1, 2, XL): encoder_hidden_states, added_cond_kwargs (text_embeds, time_ids)."""
    return network(x, t, **_keywords(condition, "encoder_hidden_states"))


def dit(network: Any, x: Tensor, t: Tensor, condition: Any) -> Any:
    """DiTTransformer2DModel: class_labels; the null label is the number of classes."""
    return network(x, timestep=t, **_keywords(condition, "class_labels"))


def sd3(network: Any, x: Tensor, t: Tensor, condition: Any) -> Any:
    """SD3Transformer2DModel: encoder_hidden_states, pooled_projections."""
    return network(hidden_states=x, timestep=t, **_keywords(condition, "encoder_hidden_states"))


def flux(network: Any, x: Tensor, t: Tensor, condition: Any) -> Tensor:
    """FluxTransformer2DModel: latents (B, C, H, W) as tokens of 2×2; timestep is σ; guidance (B,) is an input."""
    batch, channels, height, width = x.shape
    if height % 2 or width % 2:
        raise ValueError(f"Flux takes latents of even height and width, not {height}×{width}: it packs them by 2×2")
    rows, columns = height // 2, width // 2
    tokens = x.reshape(batch, channels, rows, 2, columns, 2).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    places = torch.zeros(rows, columns, 3, device=x.device, dtype=x.dtype)
    places[..., 1] = torch.arange(rows, device=x.device)[:, None]
    places[..., 2] = torch.arange(columns, device=x.device)[None, :]
    entries = _keywords(condition, "encoder_hidden_states")
    words = entries["encoder_hidden_states"].shape[1]
    entries.setdefault("txt_ids", torch.zeros(words, 3, device=x.device, dtype=x.dtype))
    output = network(hidden_states=tokens, timestep=t / 1000, img_ids=places.flatten(0, 1), **entries).sample
    output = output.reshape(batch, rows, columns, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return output.reshape(batch, channels, height, width)


CALLS: dict[str, Call] = {
    "UNet2DModel": unet,
    "UNet2DConditionModel": conditional_unet,
    "DiTTransformer2DModel": dit,
    "Transformer2DModel": dit,
    "SD3Transformer2DModel": sd3,
    "FluxTransformer2DModel": flux,
}

Taken = Callable[[Mapping[str, Any]], bool]
INPUTS: dict[str, dict[str, Taken]] = {  # tensors besides x, the time and a class, by whether a configuration has them
    "UNet2DConditionModel": {
        "encoder_hidden_states": lambda _: True,
        "added_cond_kwargs.text_embeds": lambda config: config.get("addition_embed_type") == "text_time",
        "added_cond_kwargs.time_ids": lambda config: config.get("addition_embed_type") == "text_time",
    },
    "SD3Transformer2DModel": {"encoder_hidden_states": lambda _: True, "pooled_projections": lambda _: True},
    "FluxTransformer2DModel": {
        "encoder_hidden_states": lambda _: True,
        "pooled_projections": lambda _: True,
        "guidance": lambda config: bool(config.get("guidance_embeds")),
    },
}


def denoiser(
    source: Any, scheduler: Any = None, condition: Any = None, *, discrete: bool = False, device: Any = None
) -> NetworkDenoiser:
    """A denoiser on x_t (B, C, H, W), latents where the model has them, from one of:

    - a pipeline (its `unet` or `transformer`, and its scheduler's configuration);
    - a model of diffusers and a `scheduler`: an object of theirs, or its configuration;
    - a folder of a pipeline, or of a model next to a `scheduler`: configurations and tensors are read, and no code is run.

    condition: what the model takes besides x_t and t: a dict of its keywords, or class labels or text embeddings alone.
    `discrete`: times are snapped to the nearest trained step. Raises UsageError for a source that it does not know.
    """
    if isinstance(source, (str, File)):
        source, loaded = load(File(source))
        scheduler = loaded if scheduler is None else scheduler
    parts = [part for name in ("unet", "transformer") if (part := getattr(source, name, None)) is not None]
    if parts:
        scheduler = getattr(source, "scheduler", None) if scheduler is None else scheduler
        source = parts[0]
    name = next((kind.__name__ for kind in type(source).__mro__ if kind.__name__ in CALLS), None)
    if name is None:
        raise UsageError(
            f"{type(source).__name__} is not one of {', '.join(CALLS)}, or a pipeline of one; wrap another network by "
            "interop.wrap(network, convention)"
        )
    if scheduler is None:
        raise UsageError(
            f"{name}: give scheduler=, one of diffusers' or its configuration, which says on which noise levels and what it "
            "was trained to predict"
        )
    settings: Mapping[str, Any] = scheduler if isinstance(scheduler, Mapping) else scheduler.config
    own = source.config
    twice = own.get("out_channels") is not None and own.get("out_channels") == 2 * own.get("in_channels", 0)
    model = convention(settings, CALLS[name], variance=twice, discrete=discrete)
    wrapped = wrap(source.to(device) if device is not None else source, model, condition)
    classes = own.get("num_embeds_ada_norm") if CALLS[name] is dit else None
    if classes is not None:
        wrapped.network.classes = classes  # type: ignore[attr-defined]  # the null label
    return wrapped


def load(folder: File) -> tuple[Any, Mapping[str, Any] | None]:
    """(model, configuration of the scheduler or None) of a folder; nothing in it is run (`files`).

    Raises UsageError for a folder that holds neither a pipeline nor a model of a known class, OrnsteinError for a damaged one.
    """
    files = examined(folder, CALLS)
    return built(files)[0], files.scheduler


@dataclass(frozen=True, eq=False)
class Codec:
    """Images (B, 3, H, W) in [−1, 1] to latents and back, by an autoencoder of diffusers.

    latent = (mode of the encoder's distribution − shift)·scale, so that latents have about unit variance.
    """

    vae: Any
    scale: float = 1.0
    shift: float = 0.0

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Latents of images."""
        encoded = self.vae.encode(images.to(next(self.vae.parameters()).dtype))
        latent = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        return ((latent - self.shift) * self.scale).to(images.dtype)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images of latents."""
        raw = (latents / self.scale + self.shift).to(next(self.vae.parameters()).dtype)
        return self.vae.decode(raw).sample.to(latents.dtype)


def codec(source: Any) -> Codec:
    """The codec of an autoencoder, or of a pipeline with one: its `scaling_factor` and `shift_factor`.

    Raises UsageError for what is no autoencoder.
    """
    vae = getattr(source, "vae", source)
    if not hasattr(vae, "decode"):
        raise UsageError(f"{type(vae).__name__} is no autoencoder of diffusers; give pipe.vae")
    return Codec(vae, float(vae.config.get("scaling_factor") or 1.0), float(vae.config.get("shift_factor") or 0.0))


def opened(folder: File) -> Opened:
    """The model in a folder for `ornstein import`."""
    files = examined(folder, CALLS)
    network, digests = built(files)
    config: Any = network.config
    call = CALLS[files.name]
    sample_size, channels = config.get("sample_size"), int(config["in_channels"])
    if call is flux:
        sample_size, channels = None, channels // 4  # patches of 2×2
    sides = (sample_size, sample_size) if isinstance(sample_size, int) else tuple(sample_size or (None, None))
    embedded = int(config.get("num_class_embeds") or 0)
    classes = int(config.get("num_embeds_ada_norm") or 0) if call is dit else 0
    return Opened(
        files.name,
        network,
        {**files.digests, **digests},
        (channels, *sides),
        call,
        files.scheduler,
        variance=config.get("out_channels") == 2 * channels,
        label="class_labels" if embedded or classes else None,
        embedded=classes + 1 if classes else embedded,
        inputs=tuple(name for name, taken in INPUTS.get(files.name, {}).items() if taken(config)),
        classes=classes or embedded,
        latent=files.latent or call in (dit, sd3, flux),
    )
