"""Settings of a training as plain values: the flags of `ornstein train` and the keys of config.yaml. Needs no torch."""

from dataclasses import dataclass, field, fields
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
OPEN = (
    *("given", "network", "preset", "time_features", "target", "weight", "times"),
    *("batch_size", "precision", "threads"),
)


@dataclass(frozen=True)
class Settings:
    """Settings of a training run. Left at None, a value is chosen to fit the data and the length of the run."""

    data: str = ""
    """Training data: digits, fashion-mnist, mnist, emoji, moons, swiss-roll, checkerboard, rings, a folder or zip of images,
    .npy, .npz, IDX, a variable (FILE.h5?variable, also .nc and .zarr), a folder of WAV, FLAC or NIfTI files, a table (.csv, .tsv,
    .parquet, .feather, .xlsx, sqlite:FILE?table), or hf:NAME."""
    out: str = ""
    """The run folder. The same command again resumes the run."""
    size: int | None = None
    """Resize images to this many pixels a side (default: their own size, or the most common one)."""
    channels: int | None = None
    """Convert images to 1 (grey), 3 (colour) or 4 (with transparency) channels (default: their own, transparency on white)."""
    hold_out: float = 0.0
    """Part of the items held out of the training, such as 0.1: for a validation loss, and by default for `evaluate`."""
    balance: bool = False
    """Draw each class equally often, whatever its number of items (default: each item equally often)."""
    balance_by: str | None = field(default=None, metadata={"name": "COLUMN"})
    """Of a table, draw each category of this column equally often; samples have them equally often too (default: each row)."""
    layout: str | None = None
    """Axes of the array, if its shape has several readings: NHWC, NCHW, NHW, NCL, NLC, NL, NDHW, NCDHW, NDHWC, ND (default: from
    its shape)."""
    missing: str | None = None
    """mask: NaN in a floating array is a missing number, 0 for the network and no part of the loss (default: NaN is refused)."""
    time: str | None = field(default=None, metadata={"name": "COLUMN"})
    """Of a table in long form, the column of times: each --id is then a series, and the other columns are its channels."""
    id: str | None = field(default=None, metadata={"name": "COLUMN"})
    """Of a table in long form, the column that names the series that a row belongs to."""
    crop: int | None = None
    """Cut sounds, and series in long form, into pieces of this length (default: they are whole, and must have one length)."""
    column: str | None = field(default=None, metadata={"repeats": True, "name": "NAME=TYPE"})
    """Of a table, the type of a column that is not to be guessed: numeric, integer, category, boolean, date, bounded or drop,
    once for each such column (default: as `ornstein data FILE` shows)."""
    degradation: str | None = None
    """Condition on a degraded image: low-res:4 (super-resolution by 4), grey (colourisation) or mask (inpainting)."""
    given: str | None = None
    """Condition on a part of each item, so that one model gives p(any | any): any (a random subset of the columns of a vector;
    any:1,3,1 for columns of several dimensions), past:64 (the first 64 places of a series), gaps (all but one gap), every:4
    (each fourth place: super-resolution; every:4,2 along the second axis), none (default: any for tables, else none)."""
    text: str | None = None
    """Condition on captions through an encoder: minilm (needs the extra `text`) or words (spelling alone)."""
    network: str | None = None
    """unet, dit, mlp, or columns (a transformer over the columns of vectors and tables) (default: mlp for these, unet for images,
    series and volumes)."""
    preset: str | None = None
    """Size of the network: mini (of the MLP), tiny, small, or a paper's name such as S/2 (default: by the size of the data)."""
    time_features: str | None = None
    """Time embedding: slow (sinusoids of 1 to 8 radians, smooth in time), ddpm (up to 1000 radians, as in DDPM and DiT) or
    gaussian (random Fourier features) (default: slow; ddpm for the papers' presets)."""
    path: str = "linear"
    """Noise schedule: linear, cosine, trigonometric, vp, sub-vp, ve, edm, ddpm, ..."""
    target: str | None = None
    """Prediction of the network: velocity, noise, clean, v, score or edm (default: velocity; clean for tables)."""
    times: str | None = None
    """Distribution of training times: stratified, uniform, logit-normal or log-normal."""
    weight: str | None = None
    """Loss weight by noise level: one, min-snr, sigmoid, elbo or edm (default: one; edm for tables)."""
    uncertainty: bool = False
    """Learn the uncertainty of each noise level, so that all levels count equally in the loss."""
    learned_variance: bool = False
    """Learn the variances of reverse steps (improved DDPM), for --solver ancestral-learned and tighter bounds."""
    few_steps: str | None = None
    """Learn a flow map, which samples in one to four network calls: progressive, lagrangian or eulerian."""
    teacher: str | None = None
    """With few_steps: the run to distil (default: the flow map is learned from the data)."""
    teacher_guidance: float = 1.0
    """Scale of classifier-free guidance of the teacher."""
    coupling: str = "independent"
    """Pairing of noise and data: independent, ot (optimal transport within batch and class; for ODE solvers only), or pairs (of
    data that hold them, see `ornstein reflow`)."""
    steps: int | None = None
    """Optimiser steps (default: 2000, unless --minutes is set). Runs by steps repeat and resume bit for bit."""
    minutes: float | None = None
    """Length of the training in minutes instead of steps, learning-rate decay included."""
    batch_size: int | None = None
    """Items per optimiser step, over all processes (default: 64; on a CPU 32 for images beyond 16 pixels; 256 for vectors)."""
    accumulate: int = 1
    """Gradient accumulation: split the batch of each process into this many parts, for less memory."""
    shard: bool = False
    """On several processes: shard weights, averages and optimiser (FSDP2) instead of a copy in each (DDP)."""
    learning_rate: float | None = None
    """Peak learning rate of AdamW (default: 1e-3 for small networks, lower for large ones)."""
    warmup: float = 0.05
    """Part of the run with a rising learning rate."""
    weight_decay: float = 0.0
    """AdamW's decoupled weight decay."""
    clip: float = 1.0
    """Largest norm of the gradient (gradient clipping)."""
    ema: float = 0.1
    """EMA length relative to the training so far (a power-function average)."""
    snapshots: int = 4
    """Number of snapshots for `ornstein ema`, each of two averages (4 bytes per parameter); more reach longer averages, 0 writes
    none."""
    label_dropout: float = 0.1
    """Condition dropout: part of the examples that are trained with the null condition, for classifier-free guidance."""
    flips: bool = False
    """Random horizontal flips, of half of the images."""
    augment: float = 0.0
    """Non-leaking augmentation: probability of each of mirroring, shift, scaling and rotation. Samples are not augmented."""
    freeze: str | None = None
    """Frozen parameters, by comma-separated patterns of names, such as 'embedding.*'."""
    precision: str | None = None
    """float32, or bf16 for automatic mixed precision (default: bf16 where the device is fast at it)."""
    compile: bool = False
    """torch.compile the network, after a check of its gradients (for GPUs; a minute or more of warm-up)."""
    keep_memory: bool = True
    """On a CPU with glibc: reuse freed memory in the next step instead of returning it to the system."""
    channels_last: bool = True
    """Channels-last memory of convolutions where it is faster: on GPUs, and on CPUs with group norms of 16 channels."""
    split_batch: bool = True
    """On a CPU, two threads compute half of each batch each (not if dropout or a coupling needs the whole batch)."""
    threads: int | None = None
    """Threads on a CPU (default: one per core that this process may use; a resumed run uses its earlier number)."""
    prefetch: bool = True
    """On a GPU, prefetch: a thread makes the next batch during a step."""
    onednn: bool = True
    """On a CPU in float32, matrix products through oneDNN if a trial product is accurate."""
    device: str | None = None
    """cpu, cuda, mps or cuda:1 (default: the best available)."""
    seed: int = 0
    """Seed: weights, order of the data, noise and times are functions of it and the step."""
    save_minutes: float = 1.0
    """Minutes between checkpoints."""
    save_every: int | None = None
    """Steps between checkpoints instead."""
    keep: int = 2
    """Number of checkpoints; older ones are removed."""
    samples: int = 40
    """Samples in each sample sheet, which are drawn at growing intervals; 0 draws none."""
    solver: str | None = None
    """Solver of the sample sheets (default: abm, of flow maps jump)."""
    sample_steps: int | None = None
    """Steps of that solver (default: 20, of flow maps 4)."""
    log: str | None = None
    """Also log to tensorboard, wandb or trackio, or several with commas (each needs its own package)."""

    @property
    def flow_map(self) -> str:
        """How a flow map is learned: the method, and whose flow. Empty for other runs."""
        if self.few_steps is None:
            return ""
        guided = f" guided at {self.teacher_guidance:g}" if self.teacher_guidance != 1 else ""
        return f"{self.few_steps}, from {'the data' if self.teacher is None else f'{self.teacher}{guided}'}"

    def to_dict(self) -> dict[str, Any]:
        """All keys and their values."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def differences(self, other: "Settings", allowed: tuple[str, ...] = ()) -> dict[str, str]:
        """`theirs -> mine` by key, for keys that change what is learned and are not `allowed` to."""
        mine, theirs = self.to_dict(), other.to_dict()
        keys = [key for key in mine if key not in (*FREE, *allowed) and mine[key] != theirs[key]]
        return {key: f"{theirs[key]} -> {mine[key]}" for key in keys}


KEYS = tuple(f.name for f in fields(Settings))
