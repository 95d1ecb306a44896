"""The flags of the commands as plain dataclasses; a field's docstring is its help text. Nothing heavy is imported.

Of `train` the flags are `ornstein.settings.Settings` and the few below. Metadata: `positional`, `short` (a short
flag) and `name` (what stands for the value in the help).
"""

from dataclasses import dataclass, field

from ornstein.settings import Settings

DEMO_MINUTES = 0.8


class Shared:
    """Extended by flags that several commands have; the help shows them after those of a command itself."""


@dataclass(frozen=True)
class GuidanceFlags(Shared):
    """Guidance scale: 1 is the conditional model, above 1 samples are pulled towards the condition."""

    guidance: float = 1.0
    """Scale of guidance: 1 asks for a class plainly, 2 or 3 more strongly: clearer samples, and less various ones."""
    guidance_method: str = "cfg"
    """cfg: classifier-free; rescaled: with the contrast kept; cfg-zero: CFG-Zero*; apg: without the part that adds contrast."""
    guidance_interval: str | None = field(default=None, metadata={"name": "LOW,HIGH"})
    """Guided between these noise levels alone: deviations of the noise over the factor on the data, which run from -1 to 1 in
    images, and from 0 (data) to inf (noise); 0.2,5 keeps more variety (default: all)."""
    not_label: str | None = field(default=None, metadata={"name": "CLASS"})
    """Negative label: guidance away from this class, in place of the unconditional model."""
    autoguidance: str | None = field(default=None, metadata={"name": "RUN|FILE"})
    """Away from a weaker model, which needs no classes: another run of the same data, a snapshot in RUN/averages, or a
    checkpoint."""


@dataclass(frozen=True)
class Writes(Shared):
    """What is at the place of the results already."""

    force: bool = False
    """Replace a file of the same name that is not from the same command with the same flags, weights and data."""


@dataclass(frozen=True)
class TrainingData(Shared):
    """What a run was trained on."""

    train_data: str | None = field(default=None, metadata={"name": "SRC"})
    """What the run was trained on, for what needs it beside --data (default: as the run says, where that is bundled data; what
    else a run's files name is opened only when you name it)."""


@dataclass(frozen=True)
class Cached(Shared):
    """Where decoded data are."""

    cache: str | None = field(default=None, metadata={"name": "DIR"})
    """The folder for decoded data (default: ornstein/data in $XDG_CACHE_HOME, or ~/.cache)."""


@dataclass(frozen=True)
class Demo:
    """Train on bundled handwritten digits, draw them by class, and write a report page."""

    out: str = field(default="runs/demo", metadata={"name": "RUN"})
    """The run folder."""
    minutes: float = DEMO_MINUTES
    """Minutes of training."""
    device: str | None = None
    """cpu, cuda, mps or cuda:1 (default: the best there is)."""


@dataclass(frozen=True)
class Train(Settings, Cached):
    """Train a model on your data; the same command again goes on where it stopped."""

    config: str | None = field(default=None, metadata={"name": "FILE"})
    """A YAML file of these settings; flags override it. The config.yaml of a run folder is one."""
    start: str | None = field(default=None, metadata={"name": "RUN", "short": "--from"})
    """Start from the weights of another run, of the same network (a table of other classes begins anew)."""
    change: bool = False
    """Go on with another learning rate, batch size, warm-up, weight decay, clipping, precision or compiling than so far;
    `ornstein info` says from which step on."""
    dry_run: bool = False
    """Say what would be trained and write nothing."""
    profile: int | None = field(default=None, metadata={"name": "N"})
    """Train N steps, say where their time went, and write nothing."""


@dataclass(frozen=True)
class Sample(GuidanceFlags, Writes):
    """Draw samples from a trained run."""

    run: str = field(default="", metadata={"positional": True, "name": "RUN"})
    """The run folder: the --out of a training."""
    count: int = field(default=64, metadata={"short": "-n"})
    """How many samples."""
    solver: str = "default"
    """ODE: abm, dpmpp, unipc, deis, heun, ddim, euler, rk4, ode (adaptive). With noise: ancestral,
    ancestral-learned (of runs with --learned-variance), em, sde-dpmpp, er-sde, pc, sde (adaptive). Of a few-step run: jump, or
    restart (with noise). Made for this run by `ornstein tune`: tuned. By default abm, and jump for a few-step run."""
    steps: int | None = None
    """Steps from noise to data; more are slower and, up to a point, better (default: 20, of a few-step run 4)."""
    label: str | None = None
    """A class as the data call it, such as 3 or cat; of a run with sets of labels several, with commas (default: classes as often
    as they occur in the data)."""
    condition: str | None = field(default=None, metadata={"name": "FILE|X,..."})
    """Conditioning input: an image file, a .npy, or comma-separated numbers; one for all samples or one per row."""
    mask: str | None = field(default=None, metadata={"name": "FILE"})
    """With an image, of a run that was trained by --degradation mask: white where it is to be filled in."""
    text: str | None = None
    """What a run that was trained on captions is to draw."""
    seed: int = 0
    """Sample i is a function of this number and i alone."""
    first: int = 0
    """The number of the first sample: samples 64 to 127 are --first 64 -n 64."""
    out: str | None = field(default=None, metadata={"name": "FILE|DIR"})
    """An image (grid.png), the way from noise to data (way.gif: x_t, and the data in it as the network sees them), a folder of
    files, which the same command goes on with, or arrays (samples.npz) (default: an image in the run folder)."""
    batch_size: int | None = None
    """Samples made at once (default: by their size)."""
    compile: bool = False
    """Compile the network first, which takes a minute and pays for many samples; used where its answers stay the same."""
    device: str | None = None
    """cpu, cuda, mps or cuda:1 (default: the best there is)."""


@dataclass(frozen=True)
class Distil:
    """Make a few-step model of a run: a flow map, which samples in one to four network calls and still is a denoiser for every
    other solver; the same command again goes on where it stopped."""

    run: str = field(default="", metadata={"positional": True, "name": "RUN"})
    """The run that is distilled; it stays as it is."""
    out: str = field(default="", metadata={"name": "RUN"})
    """The folder of the new run."""
    method: str = "progressive"
    """How a flow map is learned: progressive (the fastest a step), lagrangian or eulerian."""
    guidance: float = 1.0
    """Distil the run guided at this scale: the new run draws guided samples without guidance."""
    minutes: float | None = None
    """Minutes of training (default: 5)."""
    steps: int | None = None
    """Optimiser steps instead."""
    learning_rate: float | None = None
    """Peak learning rate (default: as in train)."""
    batch_size: int | None = None
    """Items per optimiser step (default: that of the run)."""
    data: str | None = field(default=None, metadata={"name": "SRC"})
    """The data (default: those of the run)."""
    seed: int = 0
    """Order of the data, noise and times are functions of this number and the step."""
    device: str | None = None
    """cpu, cuda, mps or cuda:1 (default: the best there is)."""


@dataclass(frozen=True)
class Edit(GuidanceFlags, Writes):
    """Change an image (or vectors) with a trained run: repaint what a mask marks, or make all of it anew to some degree.

    A mask is an image of the image's size, white where it is painted anew and black where it is kept:

         image    + mask    -> edited
        +-------+  ....####  +-------+
        | o   o |  ....####  | o   ? |    . black: kept
        |  ---  |  ....####  |  --?? |    # white: painted anew
        +-------+  ....####  +-------+
    """

    run: str = field(default="", metadata={"positional": True, "name": "RUN"})
    """The run folder: the --out of a training."""
    image: str = field(default="", metadata={"positional": True, "name": "IMAGE"})
    """An image, brought to the run's size and colours; or items in the data's own units (.npy, .npz)."""
    mask: str | None = field(default=None, metadata={"name": "FILE"})
    """Where to paint anew (white); for vectors a .npy of D numbers, not 0 where to make anew."""
    strength: float | None = None
    """Without a mask: how much noise to begin from, above 0 (the image as it is) to 1 (nothing left of it)."""
    method: str = "repaint"
    """With a mask. repaint: goes back and forth until the new part fits; replacement: once through, five times faster."""
    count: int = field(default=1, metadata={"short": "-n"})
    """How many versions."""
    label: str | None = None
    """A class as the data call it, such as 3 or cat (default: the null condition)."""
    steps: int = 20
    """Steps from noise to data."""
    seed: int = 0
    """Version i is a function of this number and i alone."""
    out: str | None = field(default=None, metadata={"name": "FILE|DIR"})
    """An image, a folder, or arrays (.npz) (default: in the run folder)."""
    device: str | None = None
    """cpu, cuda, mps or cuda:1 (default: the best there is)."""


@dataclass(frozen=True)
class Interpolate(GuidanceFlags, Writes):
    """Go from one image (or vector) to another through the noise that a trained run encodes them to."""

    run: str = field(default="", metadata={"positional": True, "name": "RUN"})
    """The run folder: the --out of a training."""
    first: str = field(default="", metadata={"positional": True, "name": "A"})
    """An image, brought to the run's size and colours; or one item in the data's own units (.npy, .npz)."""
    last: str = field(default="", metadata={"positional": True, "name": "B"})
    """The other one."""
    frames: int = 8
    """How many, with both ends."""
    label: str | None = None
    """A class as the data call it, such as 3 or cat, for all frames (default: the null condition)."""
    steps: int = 40
    """Steps to the noise, and back again."""
    out: str | None = field(default=None, metadata={"name": "FILE|DIR"})
    """An image of all frames, an animation there and back (.gif), a folder, or arrays (.npz) (default: in the run folder)."""
    device: str | None = None
    """cpu, cuda, mps or cuda:1 (default: the best there is)."""


@dataclass(frozen=True)
class Restore(GuidanceFlags, Writes):
    """Sample the posterior given a degraded image (blurred, downsampled or masked)."""

    run: str = field(default="", metadata={"positional": True, "name": "RUN"})
    """The run folder: the --out of a training."""
    image: str = field(default="", metadata={"positional": True, "name": "IMAGE"})
    """What was seen: an image of the run's size (for downsample, of that size divided by the factor), or a .npy of it."""
    operator: str = "downsample"
    """How it was seen. blur: through a Gaussian; downsample: as the means of squares; mask: with a part hidden."""
    factor: int = 2
    """Of downsample: the side of the squares in pixels."""
    width: float = 1.0
    """Of blur: the standard deviation in pixels."""
    mask: str | None = field(default=None, metadata={"name": "FILE"})
    """Of mask: an image of the image's size, white where it is hidden."""
    noise: float = 0.02
    """The standard deviation of the noise in the image, where black to white is 1."""
    method: str = "mmps"
    """mmps: the covariance of the network itself; pigdm: an isotropic one; dps: none, --zeta instead; diffpir: no gradients."""
    zeta: float = 5.0
    """Of dps: how strongly it pulls, to be tuned."""
    count: int = field(default=1, metadata={"short": "-n"})
    """How many draws."""
    label: str | None = None
    """A class as the data call it, such as 3 or cat (default: the null condition)."""
    steps: int = 20
    """Steps from noise to data."""
    seed: int = 0
    """Draw i is a function of this number and i alone."""
    out: str | None = field(default=None, metadata={"name": "FILE|DIR"})
    """An image, a folder, or arrays (.npz) (default: in the run folder)."""
    device: str | None = None
    """cpu, cuda, mps or cuda:1 (default: the best there is)."""


@dataclass(frozen=True)
class Tune(GuidanceFlags, Writes):
    """Fit a few-step solver to a trained run: the quality of many more network calls."""

    run: str = field(default="", metadata={"positional": True, "name": "RUN"})
    """The run folder: the --out of a training."""
    steps: int = 6
    """Network calls of the solver."""
    seconds: float = 60.0
    """How long it may take."""
    label: str | None = None
    """For this class alone, as the data call it (default: for classes as often as they occur in the data)."""
    starts: int = 768
    """The most noises to fit to; fewer where a network call is slow."""
    teacher: int = 100
    """Network calls of the fine solve that it imitates."""
    seed: int = 0
    """Of the noises and their classes."""
    out: str | None = field(default=None, metadata={"name": "FILE"})
    """A .json file for the solver, used as --solver tuned:FILE (default: in the run folder, used as --solver tuned)."""
    device: str | None = None
    """cpu, cuda, mps or cuda:1 (default: the best there is)."""


@dataclass(frozen=True)
class EMA:
    """Give a trained run weights averaged over another length, from the snapshots it kept."""

    run: str = field(default="", metadata={"positional": True, "name": "RUN"})
    """The run folder: the --out of a training."""
    length: float | None = None
    """Length of the average, relative to the training: 0.02 to 0.2, about."""
    out: str | None = field(default=None, metadata={"name": "RUN"})
    """A new run folder for the model (default: it becomes the model of this run)."""
    list: bool = False
    """Say which averages are kept and which lengths they reach, and write nothing."""


@dataclass(frozen=True)
class Likelihood(TrainingData, Writes, Cached):
    """How likely a trained run holds data, with standard errors: bits per dimension, or nats for vectors."""

    run: str = field(default="", metadata={"positional": True, "name": "RUN"})
    """The run folder: the --out of a training."""
    data: str | None = field(default=None, metadata={"name": "SRC"})
    """Data in the units of the training, best held out from it: what --data of a training takes (default: its own data,
    where they are bundled)."""
    count: int = field(default=1000, metadata={"short": "-n"})
    """How many items, drawn at random where there are more."""
    method: str = "ode"
    """ode (exact up to its errors), elbo (the continuous bound) or bound (the discrete one, as in DDPM)."""
    steps: int | None = None
    """Steps of the ODE (default: 96), calls of the elbo (32), or steps of the bound (100)."""
    trace: str | None = None
    """Of the ODE's divergence: exact, rademacher, gaussian or hutch++ (default: exact up to 16 dimensions, else rademacher)."""
    probes: int = 2
    """Probes of an item at each step, where the trace is not exact."""
    tolerance: float | None = None
    """Adaptive steps of the ODE with this tolerance in place of even ones; needs torchdiffeq."""
    dequantise: str = "path"
    """Noise for whole numbers in the ODE: path (the path's own, within the bin), uniform, or variational (fitted to the model
    on its training data first: the tightest)."""
    unconditional: bool = False
    """Of a run with classes: the unconditional model, in place of each item's own label."""
    seed: int = 0
    """Of the choice of items and of all noise."""
    per_item: bool = False
    """Write the value of each item as well."""
    out: str | None = field(default=None, metadata={"name": "FILE"})
    """A .json file for all that was found (default: in the run folder, and as a section of its report page)."""
    batch_size: int | None = None
    """Items at once (default: by their size)."""
    device: str | None = None
    """cpu, cuda, mps or cuda:1 (default: the best there is)."""


@dataclass(frozen=True)
class Verify:
    """Prove every solver, path, target, guidance and likelihood on every path against closed forms."""

    solver: str | None = field(default=None, metadata={"name": "NAME"})
    """Only solvers whose printed name holds this, and nothing else."""
    path: str | None = field(default=None, metadata={"name": "NAME"})
    """Only paths whose printed name holds this."""


@dataclass(frozen=True)
class Info:
    """What a run was trained on, how far it is, and how to use it, in one screen."""

    run: str = field(default="", metadata={"positional": True, "name": "RUN"})
    """The run folder: the --out of a training."""


@dataclass(frozen=True)
class Evaluate(GuidanceFlags, TrainingData, Writes, Cached):
    """Measure how good a run's samples are, with intervals, beside real data."""

    run: str = field(default="", metadata={"positional": True, "name": "RUN"})
    """The run folder: the --out of a training."""
    data: str | None = field(default=None, metadata={"name": "SRC"})
    """Real data to compare with, best of all data the model has not seen (default: what it was trained on,
    where that is bundled)."""
    count: int = field(default=10000, metadata={"short": "-n"})
    """How many samples."""
    steps: int | None = None
    """Steps from noise to data (default: 20, of a few-step run 4)."""
    solver: str = "default"
    """As in `ornstein sample`."""
    seed: int = 0
    """Sample i is a function of this number and i alone."""
    samples: str | None = field(default=None, metadata={"name": "FILE|DIR"})
    """Measure these samples, made before: a .npz of `ornstein sample` or a folder of images."""
    features: str | None = field(default=None, metadata={"name": "NAME"})
    """What is compared: pixels, cnn (of a classifier trained here), efficientnet, inception:FILE (the weights that FID is
    defined with), or a torch module of your own as PACKAGE.MODULE:NAME (default: cnn where there are classes, else the numbers
    themselves)."""
    metrics: str | None = field(default=None, metadata={"name": "NAMES"})
    """Only these: kid, frechet, precision-recall, density-coverage, sliced-wasserstein, mmd, c2st, agreement, memorisation."""
    out: str | None = field(default=None, metadata={"name": "FILE"})
    """A .json file for all that was found (default: in the run folder, and as a section of its report page)."""
    batch_size: int | None = None
    """Samples made at once (default: by their size)."""
    device: str | None = None
    """cpu, cuda, mps or cuda:1 (default: the best there is)."""


@dataclass(frozen=True)
class Compare(TrainingData, Writes, Cached):
    """Plot the quality of several runs, or of several solvers, against network calls, with intervals, beside real data."""

    runs: tuple[str, ...] = field(default=(), metadata={"positional": True, "name": "RUN"})
    """Run folders, trained on data of one kind."""
    steps: str = field(default="5,10,20,50", metadata={"name": "LIST"})
    """Numbers of steps from noise to data. What is plotted are the network calls they took."""
    solver: str | None = field(default=None, metadata={"name": "LIST"})
    """One or several, as in `ornstein sample`: abm,heun,tuned (default: abm, and the tuned solvers that a run has)."""
    data: str | None = field(default=None, metadata={"name": "SRC"})
    """Real data to compare with, best of all data the models have not seen (default: what they were
    trained on, where that is bundled)."""
    count: int = field(default=2000, metadata={"short": "-n"})
    """How many samples for each point."""
    features: str | None = field(default=None, metadata={"name": "NAME"})
    """As in `ornstein evaluate`."""
    metrics: str | None = field(default=None, metadata={"name": "NAMES"})
    """As in `ornstein evaluate` (default: kid, frechet and agreement; of vectors mmd and sliced-wasserstein)."""
    seed: int = 0
    """Sample i is a function of this number, the run and i alone."""
    out: str = field(default="compare.png", metadata={"name": "FILE"})
    """The image; the numbers go beside it as a .json, and the same command again goes on with them."""
    batch_size: int | None = None
    """Samples made at once (default: by their size)."""
    device: str | None = None
    """cpu, cuda, mps or cuda:1 (default: the best there is)."""


@dataclass(frozen=True)
class Diagnose(TrainingData, Writes, Cached):
    """Ask a run's model itself: its errors, its consistency and its calibration at each noise level."""

    run: str = field(default="", metadata={"positional": True, "name": "RUN"})
    """The run folder: the --out of a training."""
    data: str | None = field(default=None, metadata={"name": "SRC"})
    """Real data to ask with, best of all data the model has not seen (default: what it was trained on,
    where that is bundled)."""
    count: int = field(default=512, metadata={"short": "-n"})
    """How many items."""
    levels: int = 10
    """How many noise levels."""
    seed: int = 0
    """Of the noise."""
    out: str | None = field(default=None, metadata={"name": "FILE"})
    """A .json file for all that was found (default: in the run folder, and as a section of its report page)."""
    device: str | None = None
    """cpu, cuda, mps or cuda:1 (default: the best there is)."""


@dataclass(frozen=True)
class CleanRun:
    """Remove from a run what sampling does not need: checkpoints, snapshots of averages, what kills left half written.

    Nothing goes that is not provably this library's own, nor anything while the run is being trained.
    """

    run: str = field(default="", metadata={"positional": True, "name": "RUN"})
    """The run folder: the --out of a training."""
    dry_run: bool = False
    """Say what would go, and remove nothing."""


@dataclass(frozen=True)
class Cache(Cached):
    """List the decoded data and features that are kept for the next time, or remove them; none of it cannot be made again.

    Beyond $ORNSTEIN_CACHE_LIMIT (default: 50GB; none: no limit) what was used longest ago goes whenever more is added. What a
    running command uses stays.
    """

    prune: bool = False
    """Remove all of it, or what the next two flags say."""
    older_than: str | None = field(default=None, metadata={"name": "AGE"})
    """With --prune: what was not used for so long: 30d, 12h or 2w."""
    to: str | None = field(default=None, metadata={"name": "SIZE"})
    """With --prune: what was used longest ago, until the rest takes this at most: 5GB or 500MB."""


COMMANDS: dict[str, type] = {
    "demo": Demo,
    "train": Train,
    "sample": Sample,
    "edit": Edit,
    "interpolate": Interpolate,
    "restore": Restore,
    "tune": Tune,
    "distil": Distil,
    "ema": EMA,
    "evaluate": Evaluate,
    "compare": Compare,
    "diagnose": Diagnose,
    "likelihood": Likelihood,
    "info": Info,
    "clean": CleanRun,
    "cache": Cache,
    "verify": Verify,
}

EXAMPLES = {
    "demo": ["ornstein demo"],
    "train": [
        "ornstein train --data digits --out runs/digits --minutes 2",
        "ornstein train --data ~/images --size 64 --flips --out runs/images --minutes 60",
        "ornstein train --data points.npy --out runs/points --steps 2000 --path cosine --target noise",
        "ornstein train --data fashion-mnist --degradation low-res:4 --out runs/sharper --minutes 10",
        "ornstein train --data emoji --size 32 --text minilm --out runs/emoji --minutes 30",
        "ornstein train --config runs/digits/config.yaml --seed 1 --out runs/digits-1",
        "torchrun --nproc-per-node 4 -m ornstein train --data ~/images --batch-size 256 --out runs/on-four-gpus",
    ],
    "sample": [
        "ornstein sample runs/digits",
        "ornstein sample runs/digits -n 100 --label 3 --out threes.png",
        "ornstein sample runs/digits -n 16 --out noise-to-data.gif",
        "ornstein sample runs/digits --label 3 --guidance 2",
        "ornstein sample runs/digits --guidance 3 --guidance-interval 0.2,5 --guidance-method apg",
        "ornstein sample runs/digits --guidance 2 --autoguidance runs/digits/averages/update-00000212.safetensors",
        "ornstein sample runs/points -n 1000 --condition 0.3,1.2 --out points.npz",
        "ornstein sample runs/inpainting --condition torn.png --mask hole.png -n 8",
        "ornstein sample runs/emoji --text 'a smiling cat'",
        "ornstein sample runs/digits -n 10000 --solver heun --steps 10 --out samples.npz",
        "ornstein sample runs/digits -n 50000 --out samples",
        "torchrun --nproc-per-node 4 -m ornstein sample runs/digits -n 50000 --out samples",
    ],
    "distil": [
        "ornstein distil runs/digits --out runs/digits-few --minutes 5",
        "ornstein distil runs/digits --out runs/digits-few --guidance 2 --method lagrangian",
        "ornstein sample runs/digits-few --steps 1",
    ],
    "edit": [
        "ornstein edit runs/faces me.png --mask mask.png -n 8",
        "ornstein edit runs/digits three.png --strength 0.5 --label 8 --guidance 2",
    ],
    "interpolate": [
        "ornstein interpolate runs/digits three.png eight.png --frames 8",
        "ornstein interpolate runs/digits three.png eight.png --frames 24 --out three-to-eight.gif",
    ],
    "restore": [
        "ornstein restore runs/faces small.png --operator downsample --factor 4 -n 8",
        "ornstein restore runs/faces soft.png --operator blur --width 2 --noise 0.05 --method diffpir",
        "ornstein restore runs/faces torn.png --operator mask --mask hole.png",
    ],
    "tune": [
        "ornstein tune runs/digits --steps 6",
        "ornstein sample runs/digits --solver tuned --steps 6",
        "ornstein tune runs/digits --steps 6 --guidance 2",
        "ornstein sample runs/digits --solver tuned --steps 6 --guidance 2 --label 3",
    ],
    "ema": ["ornstein ema runs/digits --length 0.05", "ornstein ema runs/digits --list"],
    "evaluate": [
        "ornstein evaluate runs/digits -n 1000 --data digits:test",
        "ornstein evaluate runs/digits --samples samples.npz --metrics kid,memorisation",
        "ornstein evaluate runs/images --data ~/images -n 5000 --features efficientnet",
        "ornstein evaluate runs/images --data ~/images --features inception:pt_inception-2015-12-05-6726825d.pth",
    ],
    "compare": [
        "ornstein compare runs/a runs/b --steps 5,10,20,50 --data digits:test",
        "ornstein compare runs/digits --solver abm,heun,ddim -n 5000 --out solvers.png",
    ],
    "diagnose": ["ornstein diagnose runs/digits --data digits:test"],
    "likelihood": [
        "ornstein likelihood runs/digits --data digits:test",
        "ornstein likelihood runs/digits --data digits:test --method elbo -n 200",
        "ornstein likelihood runs/points --data held-out.npy --trace exact",
        "ornstein likelihood runs/digits --data digits:test --dequantise variational --per-item --out likelihood.json",
    ],
    "info": ["ornstein info runs/digits"],
    "clean": ["ornstein clean runs/digits --dry-run", "ornstein clean runs/digits"],
    "cache": ["ornstein cache", "ornstein cache --prune --older-than 30d", "ornstein cache --prune --to 5GB"],
    "verify": ["ornstein verify", "ornstein verify --solver heun --path linear"],
}
