"""What a training run is, as plain values: the flags of the command and the keys of config.yaml. Needs no torch."""

from dataclasses import dataclass, fields
from typing import Any

# Keys that do not change what is learned: a run may be continued with other values of these.
FREE = (
    "data",  # which data these are is known by their hash, wherever they lie (`training.continuing.as_before`)
    *("out", "device", "save_minutes", "save_every", "samples", "keep", "snapshots", "steps", "minutes"),
    *("accumulate", "shard"),  # the batch and all that is drawn for it stay the same
    *("log", "solver", "sample_steps"),
    "teacher",  # which is known by the hash of its weights
    *("keep_memory", "channels_last", "split_batch", "prefetch", "threads"),
)

# Keys that change what is learned from now on, and leave what was learned so far a beginning: `--change` allows other values.
CHANGEABLE = ("learning_rate", "batch_size", "warmup", "weight_decay", "clip", "precision", "compile")

# Keys that are chosen to fit the data and the machine when left open; a run that goes on keeps its choice.
OPEN = ("network", "preset", "time_features", "times", "batch_size", "precision", "threads")


@dataclass(frozen=True)
class Settings:
    """Settings of a training run. Left at None, a value is chosen to fit the data and the length of the run."""

    data: str = ""
    """What to learn: digits, fashion-mnist, mnist, emoji, moons, swiss-roll, checkerboard, rings, a folder or zip of images,
    .npy, .npz, IDX, or hf:NAME."""
    out: str = ""
    """The run folder; the same command again goes on where it stopped."""
    size: int | None = None
    """Resize images to this many pixels a side (default: as they are, or the most common size)."""
    channels: int | None = None
    """Ask for 1 (grey), 3 (colour) or 4 (with transparency) channels (default: as they are, transparency on white)."""
    hold_out: float = 0.0
    """Part of the items that is held out of the training, such as 0.1: for a validation loss, and `evaluate` by default."""
    balance: bool = False
    """Draw each class as often, however many items it has (default: each item as often)."""
    layout: str | None = None
    """The axes of an array whose shape has several readings: NHWC, NCHW, NHW, NCL, NLC, NL, NDHW, NCDHW, NDHWC, ND (default: as
    its shape says, where that has one reading)."""
    degradation: str | None = None
    """What the network sees of each image, to give the rest: low-res:4 (super-resolution by 4), grey (colourisation) or mask
    (inpainting)."""
    text: str | None = None
    """Captions as condition, through an encoder: minilm (needs the extra `text`) or words (by spelling alone)."""
    network: str | None = None
    """unet, dit or mlp (default: mlp for vectors, unet for images, series and volumes)."""
    preset: str | None = None
    """A size of that network: tiny, small, or a paper's name such as S/2 (default: by the data's size)."""
    time_features: str | None = None
    """How the network sees time: slow (sinusoids of 1 to 8 radians, smooth in time), ddpm (up to 1000, as in DDPM and DiT) or
    gaussian (random Fourier features) (default: slow, and ddpm for the papers' presets)."""
    path: str = "linear"
    """The way from data to noise: linear, cosine, trigonometric, vp, sub-vp, ve, edm, ddpm, ..."""
    target: str = "velocity"
    """What the network predicts: velocity, noise, clean, v, score or edm."""
    times: str | None = None
    """How training times are drawn: stratified, uniform, logit-normal or log-normal."""
    weight: str = "one"
    """How errors are weighed by noise level: one, min-snr, sigmoid, elbo or edm."""
    uncertainty: bool = False
    """Learn how hard each noise level is, and weigh them all alike."""
    learned_variance: bool = False
    """Learn the variances of reverse steps too (improved DDPM), for --solver ancestral-learned and tighter bounds."""
    few_steps: str | None = None
    """Learn a flow map, which samples in one to four calls, by this method: progressive, lagrangian or eulerian."""
    teacher: str | None = None
    """With few_steps: the run whose flow is learned, in place of that of the data alone (distillation)."""
    teacher_guidance: float = 1.0
    """The scale of classifier-free guidance at which the teacher is learned from."""
    coupling: str = "independent"
    """How noise is paired with data: independent, or ot (optimal transport within batch and class; for ODE solvers only)."""
    steps: int | None = None
    """Optimiser steps (default: 2000 when no minutes are given). Runs by steps repeat and resume bit for bit."""
    minutes: float | None = None
    """Train for this long instead, learning-rate decay included."""
    batch_size: int | None = None
    """Images per optimiser step, of all processes together (default: 64, on a CPU 32 for images beyond 16 pixels, 256 for
    vectors)."""
    accumulate: int = 1
    """Split each batch (on several processes: each one's share) into this many parts, for less memory."""
    shard: bool = False
    """On several processes: shard weights, averages and optimiser over them (FSDP2) in place of a copy in each (DDP)."""
    learning_rate: float | None = None
    """Peak learning rate of AdamW (default: 1e-3 for small networks, less for large ones)."""
    warmup: float = 0.05
    """Part of the run in which the learning rate rises."""
    weight_decay: float = 0.0
    """AdamW's decoupled weight decay."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.1
    """Length of the weight average, relative to the training so far (a power-function average)."""
    snapshots: int = 4
    """Snapshots kept for `ornstein ema`, of this average and one of half its length: 4 bytes a parameter each; 0 keeps none, more
    reach longer averages."""
    label_dropout: float = 0.1
    """Part of the examples that are trained without their condition (label, vector, text, image), so that the model also works
    without."""
    flips: bool = False
    """Mirror every other image left to right."""
    augment: float = 0.0
    """Probability with which images are mirrored, moved, scaled and turned, each, which does not show in samples."""
    freeze: str | None = None
    """Parameters that stay as they are, by patterns of their names with commas between them, such as 'embedding.*'."""
    precision: str | None = None
    """float32, or bf16 for automatic mixed precision (default: bf16 where the device computes it fast)."""
    compile: bool = False
    """Compile the network with torch.compile (worth it on GPUs; a minute or more of warm-up). Its gradients are checked first."""
    keep_memory: bool = True
    """On a CPU, keep freed memory for the next step in place of giving it back to the system after each (glibc)."""
    channels_last: bool = True
    """Weights of convolutions lie channels-last where that is faster: on GPUs, and on CPUs with group norms of 16 channels."""
    split_batch: bool = True
    """On a CPU, two threads learn from half of each batch, side by side (not where dropout or a coupling needs it whole)."""
    threads: int | None = None
    """Threads on a CPU (default: one for each core that this process may use; a run that goes on keeps its number)."""
    prefetch: bool = True
    """On a GPU, a thread makes the next batch while a step is at work (a CPU would only take the time from the step)."""
    onednn: bool = True
    """On a CPU in float32, matrix products through oneDNN where a trial product shows that they stay accurate."""
    device: str | None = None
    """cpu, cuda, mps or cuda:1 (default: the best there is)."""
    seed: int = 0
    """Weights, order of the data, noise and times are functions of this number and the step."""
    save_minutes: float = 1.0
    """Minutes between checkpoints."""
    save_every: int | None = None
    """Steps between checkpoints instead."""
    keep: int = 2
    """Checkpoints kept; older ones are removed."""
    samples: int = 40
    """Images in the sample grids drawn at growing intervals; 0 draws none."""
    solver: str = "abm"
    """The solver of the sample grids."""
    sample_steps: int = 20
    """Steps of that solver."""
    log: str | None = None
    """Log also to tensorboard, wandb or trackio, or to several with commas between them (each needs its own package)."""

    def to_dict(self) -> dict[str, Any]:
        """All keys and their values."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def differences(self, other: "Settings", allowed: tuple[str, ...] = ()) -> dict[str, str]:
        """`theirs -> mine` by key, for keys that change what is learned and are not `allowed` to."""
        mine, theirs = self.to_dict(), other.to_dict()
        keys = [key for key in mine if key not in (*FREE, *allowed) and mine[key] != theirs[key]]
        return {key: f"{theirs[key]} -> {mine[key]}" for key in keys}


KEYS = tuple(f.name for f in fields(Settings))
