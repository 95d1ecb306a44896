"""Networks of the library as networks of diffusers, weight by weight, where the layout is the same.

    arguments, state = as_unet2d(run.model.network)              # a U-Net with DDPM's features of time
    theirs = diffusers.UNet2DModel(**arguments); theirs.load_state_dict(state)
    theirs(x, 1000 * c_noise, labels).sample                     # what network(x, c_noise, labels) answers

x is c_in·x_t, and c_noise is in [0, 1], as in the file of the loop; a null label is the last row of the table.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ornstein.errors import UsageError
from ornstein.networks import DDPM, DiT, UNet

Named = Iterator[tuple[str, Tensor]]


def as_unet2d(network: UNet) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The arguments and the state of a `UNet2DModel` that answers alike.

    Raises UsageError for what it has no place for: other features of time, other conditions than a class, other than two
    dimensions, different counts of blocks or of groups, or heads of different widths.
    """
    config = network.config
    widths = [config["width"] * m for m in config["multipliers"]]
    attended = config["attention_levels"]
    groups = {module.num_groups for module in network.modules() if isinstance(module, torch.nn.GroupNorm)}
    heads = {*(widths[level] for level in attended), widths[-1]}
    per_head = min(config["head_width"], *heads)
    _must_have_the_layout(
        config,
        {
            "two dimensions": config["dims"] == 2,
            "as many blocks in each level": len(set(config["blocks"])) == 1,
            "as many groups in each norm": len(groups) == 1,
            "heads of one width": all(width % per_head == 0 for width in heads)
            and (per_head == config["head_width"] or len(heads) == 1),
        },
    )
    last = len(widths) - 1
    arguments = {
        "in_channels": config["channels"],
        "out_channels": config["out_channels"] or config["channels"],
        "block_out_channels": tuple(widths),
        "layers_per_block": config["blocks"][0],
        "down_block_types": tuple("AttnDownBlock2D" if i in attended else "DownBlock2D" for i in range(last + 1)),
        "up_block_types": tuple("AttnUpBlock2D" if i in attended else "UpBlock2D" for i in range(last, -1, -1)),
        "downsample_padding": 0,
        "norm_num_groups": max(groups),
        "attn_norm_num_groups": max(groups),
        "norm_eps": 1e-6,
        "resnet_time_scale_shift": "default" if config["additive"] else "scale_shift",
        "attention_head_dim": per_head,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "num_class_embeds": config["classes"] + 1 if config["classes"] else None,
    }
    return arguments, dict(_unet(network, config["blocks"][0]))


def _must_have_the_layout(config: Mapping[str, Any], more: Mapping[str, bool]) -> None:
    needed = {
        "DDPM's features of time": tuple(config["frequencies"]) == DDPM and not config["fourier"],
        "no condition but a class": not (config["vector"] or config["image"] or config["aim"]),
        **more,
    }
    if lacking := [name for name, there in needed.items() if not there]:
        raise UsageError(
            f"this network has no counterpart in diffusers, which needs {lacking[0]}; export it as onnx, torch or diffusers"
        )


def _linear(theirs: str, module: torch.nn.Module) -> Named:
    for name, tensor in module.state_dict().items():
        yield f"{theirs}.{name}", tensor


def _unet(network: Any, blocks: int) -> Named:
    conditioning = network.conditioning
    yield from _linear("conv_in", network.stem)
    yield from _linear("time_embedding.linear_1", conditioning.time[0])
    yield from _linear("time_embedding.linear_2", conditioning.time[2])
    if conditioning.labels is not None:
        yield from _linear("class_embedding", conditioning.labels)
    yield from _stages("down_blocks", list(network.down), blocks, "downsamplers.0.conv")
    for i, stage in enumerate(network.middle):
        yield from _stage("mid_block", i, stage)
    yield from _stages("up_blocks", list(network.up), blocks + 1, "upsamplers.0.conv")
    yield from _linear("conv_norm_out", network.norm)
    yield from _linear("conv_out", network.head)


def _stages(theirs: str, layers: list[Any], blocks: int, between: str) -> Named:
    """Levels of so many stages, with a layer that changes the size between them."""
    for i, layer in enumerate(layers):
        level, place = divmod(i, blocks + 1)
        if place == blocks:
            yield from _linear(f"{theirs}.{level}.{between}", layer.conv)
        else:
            yield from _stage(f"{theirs}.{level}", place, layer)


def _stage(theirs: str, place: int, stage: Any) -> Named:
    residual, resnet = stage.residual, f"{theirs}.resnets.{place}"
    for name in ("norm1", "conv1", "conv2"):
        yield from _linear(f"{resnet}.{name}", getattr(residual, name))
    if residual.additive:
        yield from _linear(f"{resnet}.norm2", residual.norm2)
        yield from _linear(f"{resnet}.time_emb_proj", residual.modulation)
    else:  # its norm has an affine map besides, and the scale comes before the shift
        channels = residual.norm2.num_channels
        yield f"{resnet}.norm2.weight", torch.ones(channels)
        yield f"{resnet}.norm2.bias", torch.zeros(channels)
        for name, tensor in residual.modulation.state_dict().items():
            yield f"{resnet}.time_emb_proj.{name}", tensor.roll(channels, 0)
    if not isinstance(residual.skip, torch.nn.Identity):
        yield from _linear(f"{resnet}.conv_shortcut", residual.skip)
    if stage.attention is not None:
        attention = f"{theirs}.attentions.{place}"
        yield from _linear(f"{attention}.group_norm", stage.attention.norm)
        yield from _attention(attention, stage.attention.attention)


def _attention(theirs: str, attention: Any) -> Named:
    for name, tensor in attention.qkv.state_dict().items():
        for part, rows in zip("qkv", tensor.chunk(3), strict=True):
            yield f"{theirs}.to_{part}.{name}", rows
    yield from _linear(f"{theirs}.to_out.0", attention.out)


def as_dit(network: DiT) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The arguments and the state of a `DiTTransformer2DModel` that answers alike.

    It embeds time and class in every block and encodes columns before rows: the halves of the width change places throughout.
    Raises UsageError for what it has no place for: images that are not square, no classes, other features of time or conditions.
    """
    config = network.config
    _must_have_the_layout(
        config,
        {
            "square images": len(config["size"]) == 2 and len(set(config["size"])) == 1,
            "classes": bool(config["classes"]),
            "no dropout": not config["dropout"],
        },
    )
    arguments = {
        "num_attention_heads": config["heads"],
        "attention_head_dim": config["width"] // config["heads"],
        "in_channels": config["channels"],
        "out_channels": config["out_channels"] or config["channels"],
        "num_layers": config["depth"],
        "sample_size": config["size"][0],
        "patch_size": config["patch"],
        "num_embeds_ada_norm": config["classes"],
        "activation_fn": "gelu",
        "norm_eps": 1e-6,
    }
    return arguments, dict(_dit(network, config["patch"], config["channels"]))


def _dit(network: Any, patch: int, channels: int) -> Named:
    def swapped(tensor: Tensor, *axes: int) -> Tensor:
        """The halves of the width exchanged; an axis of several widths, in each of them."""
        width = network.config["width"]
        for axis in axes:
            parts = [part.roll(width // 2, axis) for part in tensor.split(width, axis)]
            tensor = torch.cat(parts, axis)
        return tensor

    time, labels = network.conditioning.time, network.conditioning.labels
    stem = swapped(network.stem.weight, 0).unflatten(1, (patch, patch, channels)).permute(0, 3, 1, 2)
    yield "pos_embed.proj.weight", stem
    yield "pos_embed.proj.bias", swapped(network.stem.bias, 0)
    for i, block in enumerate(network.blocks):
        theirs = f"transformer_blocks.{i}"
        embedder = f"{theirs}.norm1.emb.timestep_embedder"
        yield f"{embedder}.linear_1.weight", time[0].weight.roll(128, 1)  # cosines first
        yield f"{embedder}.linear_1.bias", time[0].bias
        yield from _linear(f"{embedder}.linear_2", time[2])
        yield f"{theirs}.norm1.emb.class_embedder.embedding_table.weight", labels.weight
        yield f"{theirs}.norm1.linear.weight", swapped(block.modulation.weight, 0)
        yield f"{theirs}.norm1.linear.bias", swapped(block.modulation.bias, 0)
        qkv, out = block.attention.qkv, block.attention.out
        for part, weight, bias in zip("qkv", qkv.weight.chunk(3), qkv.bias.chunk(3), strict=True):
            yield f"{theirs}.attn1.to_{part}.weight", swapped(weight, 1)
            yield f"{theirs}.attn1.to_{part}.bias", bias
        yield f"{theirs}.attn1.to_out.0.weight", swapped(out.weight, 0)
        yield f"{theirs}.attn1.to_out.0.bias", swapped(out.bias, 0)
        yield f"{theirs}.ff.net.0.proj.weight", swapped(block.mlp[0].weight, 1)
        yield f"{theirs}.ff.net.0.proj.bias", block.mlp[0].bias
        yield f"{theirs}.ff.net.2.weight", swapped(block.mlp[3].weight, 0)
        yield f"{theirs}.ff.net.2.bias", swapped(block.mlp[3].bias, 0)
    yield "proj_out_1.weight", swapped(network.modulation.weight, 0)
    yield "proj_out_1.bias", swapped(network.modulation.bias, 0)
    yield "proj_out_2.weight", swapped(network.head.weight, 1)
    yield "proj_out_2.bias", network.head.bias
