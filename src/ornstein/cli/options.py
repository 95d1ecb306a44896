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
class OneRun:
    """The trained run that a command works on."""

    run: str = field(default="", metadata={"positional": True, "name": "RUN"})
    """The run folder: the --out of a training."""


@dataclass(frozen=True)
class OnDevice(Shared):
    """The device of the network."""

    device: str | None = None
    """cpu, cuda, mps or cuda:1 (default: the best available)."""


@dataclass(frozen=True)
class Batched(Shared):
    """The batch of sampling."""

    batch_size: int | None = None
    """Samples per batch (default: by their size)."""


@dataclass(frozen=True)
class GuidanceFlags(Shared):
    """Guidance scale: 1 is the conditional model, above 1 samples are pulled towards the condition."""

    guidance: float = 1.0
    """Guidance scale: 1 is the conditional model; 2 or 3 give clearer and less varied samples."""
    guidance_method: str = "cfg"
    """cfg: classifier-free guidance; rescaled: the same at the contrast of the conditional model; cfg-zero: CFG-Zero*; apg:
    without the part that adds contrast."""
    guidance_interval: str | None = field(default=None, metadata={"name": "LOW,HIGH"})
    """Guide only between these noise levels σ/α, from 0 (data) to inf (noise), for data of values from -1 to 1; 0.2,5 keeps more
    variety (default: all levels)."""
    not_label: str | None = field(default=None, metadata={"name": "CLASS"})
    """Negative label: guide away from this class instead of from the unconditional model."""
    autoguidance: str | None = field(default=None, metadata={"name": "RUN|FILE"})
    """Guide away from a weak model: another run of the same data, a snapshot in RUN/averages, or a checkpoint. The run needs no
    classes."""


@dataclass(frozen=True)
class ConditionFlags:
    """What samples are drawn given."""

    label: str | None = None
    """A class by its name in the data, such as 3 or cat; several with commas, if items have sets of labels (default: classes as
    often as they occur in the data)."""
    label_index: int | None = None
    """A class by its place among the classes, from 0, in place of --label."""
    condition: str | None = field(default=None, metadata={"name": "FILE|X,..."})
    """Conditioning input: an image file, a .npy, or comma-separated numbers; one for all samples or one per row."""
    mask: str | None = field(default=None, metadata={"name": "FILE"})
    """Mask of the image in --condition, for a run trained with --degradation mask: white where the image is filled in."""
    known: str | None = field(default=None, metadata={"name": "FILE|X,..."})
    """Known numbers, for a run trained with --given: a .npy of one item, or of one for each sample, with NaN where it is unknown;
    or comma-separated numbers, with nan or ? where they are unknown. They come back unchanged."""
    text: str | None = None
    """The caption, for a run trained on captions."""
    where: str | None = field(default=None, metadata={"repeats": True, "name": "COLUMN=VALUE"})
    """Of a table: samples whose column has this value, such as income=>50K; once for each such column."""


@dataclass(frozen=True)
class Writes(Shared):
    """What happens to a file that is already where results are written."""

    force: bool = False
    """Replace a file of the same name, even if another command, other flags, other weights or other data made it."""


@dataclass(frozen=True)
class TrainingData(Shared):
    """The training data of a run."""

    train_data: str | None = field(default=None, metadata={"name": "SRC"})
    """The training data of the run, where a measure needs them besides --data (default: the training data, if they are bundled;
    other data that the run's files name are opened only if named here)."""


@dataclass(frozen=True)
class Cached(Shared):
    """The folder of decoded data."""

    cache: str | None = field(default=None, metadata={"name": "DIR"})
    """The folder for decoded data (default: ornstein/data in $XDG_CACHE_HOME, or ~/.cache)."""


@dataclass(frozen=True)
class Demo(OnDevice):
    """Train on bundled handwritten digits, sample each class, and write a report page."""

    out: str = field(default="runs/demo", metadata={"name": "RUN"})
    """The run folder."""
    minutes: float = DEMO_MINUTES
    """Minutes of training."""


@dataclass(frozen=True)
class Data(Cached):
    """Show what a data source holds, and of a table the type of each column and why, before a training."""

    data: str = field(default="", metadata={"positional": True, "name": "SRC"})
    """Any source that `train --data` takes."""
    column: str | None = field(default=None, metadata={"repeats": True, "name": "NAME=TYPE"})
    """Of a table, the type of a column: numeric, integer, category, boolean, date, bounded or drop, once for each such column;
    with a way of coding where there are several: numeric:standard, category:bits, date:%d.%m.%Y, bounded:0:100."""
    layout: str | None = None
    """Axes of an array, as in `ornstein train`."""
    missing: str | None = None
    """mask: NaN is a missing number, as in `ornstein train`."""
    time: str | None = field(default=None, metadata={"name": "COLUMN"})
    """Of a table in long form, the column of times, as in `ornstein train`."""
    id: str | None = field(default=None, metadata={"name": "COLUMN"})
    """Of a table in long form, the column that names the series of a row."""
    crop: int | None = None
    """Cut sounds, and series in long form, into pieces of this length."""


@dataclass(frozen=True)
class Train(Settings, Cached):
    """Train a model on your data. The same command again resumes the training."""

    config: str | None = field(default=None, metadata={"name": "FILE"})
    """A YAML file of these settings; flags override it. The config.yaml of a run folder is one."""
    start: str | None = field(default=None, metadata={"name": "RUN", "short": "--from"})
    """Fine-tune: start from the weights of another run of the same network. A class table of another size is re-initialised."""
    change: bool = False
    """Resume with another learning rate, batch size, warm-up, weight decay, clipping, precision or compiling. `ornstein info`
    shows from which step on."""
    dry_run: bool = False
    """Print what would be trained, and write nothing."""
    profile: int | None = field(default=None, metadata={"name": "N"})
    """Train N steps, print where their time went, and write nothing."""


@dataclass(frozen=True)
class Sample(OneRun, OnDevice, Batched, GuidanceFlags, Writes, ConditionFlags):
    """Draw samples from a trained run."""

    count: int = field(default=64, metadata={"short": "-n"})
    """Number of samples."""
    solver: str = "default"
    """The sampler. ODE: abm, dpmpp, unipc, deis, heun, ddim, euler, rk4, ode (adaptive steps). SDE: ancestral,
    ancestral-learned (runs with --learned-variance), em, sde-dpmpp, er-sde, pc, sde (adaptive steps). Few-step runs: jump, or
    restart (with fresh noise). tuned: the solver that `ornstein tune` fitted to this run (default: abm; for few-step
    runs jump)."""
    steps: int | None = None
    """Steps from noise to data. More steps are slower and, up to a point, better (default: 20; for a few-step run 4)."""
    seed: int = 0
    """Sample i is a function of this number and i alone."""
    first: int = 0
    """Number of the first sample: --first 64 -n 64 gives samples 64 to 127."""
    out: str | None = field(default=None, metadata={"name": "FILE|DIR"})
    """An image of all samples (grid.png), an animation from noise to data (way.gif: x_t and the estimate of the data), a folder
    of files, which the same command resumes, or arrays (samples.npz) (default: an image in the run folder)."""
    size: str | None = field(default=None, metadata={"name": "N|H,W"})
    """Other sides than those of the data, where the network allows them: 96 or 96,128 of images, 4096 of series, D,H,W of
    volumes."""
    compile: bool = False
    """Compile the network first: a minute that pays off for many samples. Used only if its outputs stay the same."""


@dataclass(frozen=True)
class Impute(OneRun, OnDevice, Batched, GuidanceFlags, Writes):
    """Fill the holes (NaN) of items with draws of a run trained with --given, given the rest of each item."""

    data: str = field(default="", metadata={"positional": True, "name": "FILE"})
    """A table with empty cells, or items in the units of the data with NaN in the holes: a .npy, a .npz, or a file of the kind
    of the training data."""
    draws: int = 1
    """Draws of all holes. Several are written one behind the other, (draws, N, ...), of a table with a column `draw`: their
    spread is the uncertainty."""
    quantiles: str | None = field(default=None, metadata={"name": "P,..."})
    """Write these quantiles of the draws of each number in place of the draws, such as 0.05,0.5,0.95: a forecast with its
    intervals, (quantiles, N, ...)."""
    label: str | None = None
    """A class of all items by its name in the data (default: none is given)."""
    solver: str = "default"
    """As in `ornstein sample`."""
    steps: int | None = None
    """Steps from noise to data (default: 20)."""
    seed: int = 0
    """Draw j of item i is a function of this number, i and j alone."""
    out: str | None = field(default=None, metadata={"name": "FILE"})
    """A file of the same kind (default: in the run folder)."""


@dataclass(frozen=True)
class Predict(OneRun, OnDevice, Batched, Writes):
    """Predict a column of a table from the others: the probabilities of categories, or quantiles of numbers."""

    data: str = field(default="", metadata={"positional": True, "name": "FILE"})
    """A table with the columns of the run; what is missing in it, this column above all, is not used."""
    column: str = field(default="", metadata={"name": "COLUMN"})
    """The column to predict."""
    draws: int = 100
    """Draws of each number, whose quantiles are written; for categories, draws of noise over which the prediction is averaged."""
    steps: int | None = None
    """Steps from noise to data (default: 20)."""
    seed: int = 0
    """Draw j of row i is a function of this number, i and j alone."""
    out: str | None = field(default=None, metadata={"name": "FILE"})
    """A file of a table, a row for each (default: a .csv in the run folder)."""


@dataclass(frozen=True)
class Retrained(OnDevice):
    """How long and how fast a run is trained that begins with the weights of another."""

    minutes: float | None = None
    """Minutes of training (default: 5)."""
    steps: int | None = None
    """Optimiser steps instead."""
    learning_rate: float | None = None
    """Peak learning rate (default: as in train)."""


@dataclass(frozen=True)
class Distil(Retrained):
    """Distil a run into a flow map, which samples in one to four network calls. The same command again resumes.

    A flow map is also a denoiser, so every other solver samples it too.
    """

    run: str = field(default="", metadata={"positional": True, "name": "RUN"})
    """The run to distil; it is not changed."""
    out: str = field(default="", metadata={"name": "RUN"})
    """The folder of the new run."""
    method: str = "progressive"
    """How the flow map is learned: progressive (the fastest steps), lagrangian or eulerian."""
    guidance: float = 1.0
    """Guidance scale at which the run is distilled. The new run samples at this scale without guidance."""
    batch_size: int | None = None
    """Items per optimiser step (default: as for the run)."""
    data: str | None = field(default=None, metadata={"name": "SRC"})
    """The data (default: the training data of the run)."""
    seed: int = 0
    """Order of the data, noise and times are functions of this number and the step."""


@dataclass(frozen=True)
class Reflow(Retrained):
    """Straighten the flow of a run (rectified flow) by training on its pairs of noise and sample. The same command again resumes.

    The new run needs fewer steps of any ODE solver.
    """

    run: str = field(default="", metadata={"positional": True, "name": "RUN"})
    """The run that the pairs are drawn from; it is not changed."""
    out: str = field(default="", metadata={"name": "RUN"})
    """The folder of the new run. The pairs go to `pairs` in it, which is a data source too."""
    pairs: int = 10000
    """Number of pairs."""
    solver_steps: int = 32
    """Steps of the default solver for each sample."""
    guidance: float = 1.0
    """Guidance scale at which the run is sampled. The new run samples at this scale without guidance."""
    batch_size: int | None = None
    """Pairs per optimiser step (default: as for the run)."""
    seed: int = 0
    """Pair i is a function of this number, the run and i; order and times of this number and the step."""


@dataclass(frozen=True)
class Edit(OneRun, OnDevice, GuidanceFlags, Writes):
    """Edit an image (or vectors): inpaint what a mask marks, or change the whole image (SDEdit).

    A mask is an image of the same size: white where the image is repainted, black where it stays:

         image    + mask    -> edited
        +-------+  ....####  +-------+
        | o   o |  ....####  | o   ? |    . black: stays
        |  ---  |  ....####  |  --?? |    # white: repainted
        +-------+  ....####  +-------+
    """

    image: str = field(default="", metadata={"positional": True, "name": "IMAGE"})
    """An image, converted to the size and colours of the run; or items in the units of the data (.npy, .npz)."""
    mask: str | None = field(default=None, metadata={"name": "FILE"})
    """Where to repaint: white in an image; for vectors a .npy of D numbers, non-zero where a number is redrawn."""
    strength: float | None = None
    """Without a mask: the noise level to start from, above 0 (the image itself) to 1 (pure noise)."""
    method: str = "repaint"
    """With a mask. repaint: RePaint, which resamples until the new part fits; replacement: one pass, five times faster."""
    count: int = field(default=1, metadata={"short": "-n"})
    """Number of versions."""
    label: str | None = None
    """A class by its name in the data, such as 3 or cat (default: the null condition)."""
    label_index: int | None = None
    """A class by its place among the classes, from 0, in place of --label."""
    steps: int = 20
    """Steps from noise to data."""
    seed: int = 0
    """Version i is a function of this number and i alone."""
    out: str | None = field(default=None, metadata={"name": "FILE|DIR"})
    """An image, a folder, or arrays (.npz) (default: in the run folder)."""


@dataclass(frozen=True)
class Interpolate(OneRun, OnDevice, GuidanceFlags, Writes):
    """Interpolate between two images (or vectors) through the noise that a run encodes them to."""

    first: str = field(default="", metadata={"positional": True, "name": "A"})
    """The first image, converted to the size and colours of the run; or one item in the units of the data (.npy, .npz)."""
    last: str = field(default="", metadata={"positional": True, "name": "B"})
    """The last image, or item."""
    frames: int = 8
    """Number of frames, both ends included."""
    label: str | None = None
    """A class by its name in the data, such as 3 or cat, for all frames (default: the null condition)."""
    label_index: int | None = None
    """A class by its place among the classes, from 0, in place of --label."""
    steps: int = 40
    """Steps from data to noise, and as many back."""
    out: str | None = field(default=None, metadata={"name": "FILE|DIR"})
    """An image of all frames (of vectors of 2 to 4 dimensions their points), an animation there and back (.gif), a folder, or
    arrays (.npz) (default: in the run folder)."""


@dataclass(frozen=True)
class Restore(OneRun, OnDevice, GuidanceFlags, Writes):
    """Sample the posterior given a degraded image, series or volume (blurred, downsampled or masked), or a masked vector."""

    image: str = field(default="", metadata={"positional": True, "name": "IMAGE"})
    """The degraded image: of the run's size (for downsample, of that size divided by the factor), or a .npy of it or of another
    item."""
    operator: str = "downsample"
    """The degradation. blur: a Gaussian blur; downsample: the means of squares (blocks of other items); mask: a part is
    hidden."""
    factor: int = 2
    """For downsample: the side of the squares in pixels."""
    width: float = 1.0
    """For blur: the standard deviation in pixels."""
    mask: str | None = field(default=None, metadata={"name": "FILE"})
    """For mask: an image of the same size, white where the image is hidden; of other items a .npy, non-zero there."""
    noise: float = 0.02
    """Standard deviation of the noise in the image, in units of black to white = 1."""
    method: str = "mmps"
    """Posterior approximation. mmps: covariance from the network's Jacobian; pigdm: isotropic covariance; dps: no covariance,
    --zeta instead; diffpir: no gradients."""
    zeta: float = 5.0
    """For dps: step size towards the measurement; tune it."""
    count: int = field(default=1, metadata={"short": "-n"})
    """Number of draws."""
    label: str | None = None
    """A class by its name in the data, such as 3 or cat (default: the null condition)."""
    label_index: int | None = None
    """A class by its place among the classes, from 0, in place of --label."""
    steps: int = 20
    """Steps from noise to data."""
    seed: int = 0
    """Draw i is a function of this number and i alone."""
    out: str | None = field(default=None, metadata={"name": "FILE|DIR"})
    """An image, a folder, or arrays (.npz) (default: in the run folder)."""


@dataclass(frozen=True)
class Tune(OneRun, OnDevice, GuidanceFlags, Writes, ConditionFlags):
    """Fit a few-step solver to a run, for the quality of many more network calls.

    Fitted to several conditions, the rows of a file, it serves any condition like them; fitted to one, that one alone.
    """

    steps: int = 6
    """Network calls of the solver."""
    seconds: float = 60.0
    """Time limit of the fit."""
    starts: int = 768
    """Largest number of starting noises to fit to; fewer are used if network calls are slow."""
    teacher: int = 100
    """Network calls of the fine solve that the solver is fitted to."""
    seed: int = 0
    """The starting noises and their classes are functions of this number."""
    out: str | None = field(default=None, metadata={"name": "FILE"})
    """A .json file for the solver, for --solver tuned:FILE (default: in the run folder, for --solver tuned)."""


@dataclass(frozen=True)
class Import:
    """Make a run of a model of another library: a folder of diffusers, or an ONNX file. The model stays where it is.

    The run refers to the model by path and hash. No code in its files is run.
    """

    model: str = field(
        default="",
        metadata={"positional": True, "name": "MODEL", "what": "a folder of diffusers or an .onnx file"},
    )
    """A folder of diffusers (a pipeline, or a model beside its scheduler), or an .onnx file."""
    out: str = field(default="", metadata={"name": "RUN"})
    """The folder of the new run."""
    convention: str | None = field(default=None, metadata={"name": "NAME[:X,...]"})
    """How the network is called and what it predicts: edm, edm-raw:0.5, flow, sit, flow-matching, torchcfm, score-sde-vp,
    score-sde-sub-vp, score-sde-ve, guided-diffusion or ddpm, some with numbers of theirs (default: by the scheduler's
    configuration)."""
    scheduler: str | None = field(default=None, metadata={"name": "FILE"})
    """A scheduler_config.json of diffusers that says the convention (default: that of the folder)."""
    range: str | None = field(default=None, metadata={"name": "LOW,HIGH"})
    """The numbers that -1 and 1 of the model stand for in samples and data: 0,255 makes 8-bit images (default: 0,255 for images
    of 1 or 3 channels, -1,1 for latents and all else)."""
    channels: int | None = None
    """Channels of an item, where the files leave them open."""
    size: str | None = field(default=None, metadata={"name": "N[,N]"})
    """Sides of an item, where the files leave them open: 32, or height and width as 32,48."""
    classes: str | None = field(default=None, metadata={"name": "N|NAMES"})
    """Number of classes, or their names with commas (default: as in the configuration). 10+1 or a,b,c+1: the index
    after them is the null class, which guidance needs; for diffusers' models it is known."""
    bind: str | None = field(default=None, metadata={"name": "FILE|NAME=X,..."})
    """Other inputs, the same for all samples: a .safetensors file of one row each, such as the embeddings of a prompt, or numbers
    by name."""
    away: str | None = field(default=None, metadata={"name": "FILE"})
    """With --guidance: a .safetensors file of the inputs to guide away from, such as the embeddings of no prompt."""
    guidance: float = 1.0
    """Guidance scale of --away. The run samples at this scale without guidance."""
    discrete: bool = False
    """The network knows whole timesteps alone, which it looks up."""


@dataclass(frozen=True)
class Export(OneRun, GuidanceFlags, Writes):
    """Write a trained run for other programs: ONNX, torch.export, safetensors, or a pipeline of diffusers."""

    to: str = "onnx"
    """onnx and torch: the network, and the sampler as a JSON file; safetensors: weights with all that gives them a meaning;
    diffusers: a folder for DiffusionPipeline.from_pretrained."""
    out: str | None = field(default=None, metadata={"name": "FILE|DIR"})
    """A .onnx, .pt2 or .safetensors file, or a new folder."""
    solver: str = "default"
    """Of the sampler that goes with it: a name as in `ornstein sample`, tuned or tuned:FILE (default: abm, or jump of few-step
    runs)."""
    steps: int | None = None
    """Steps of the sampler (default: 20, of few-step runs 4)."""


@dataclass(frozen=True)
class EMA(OneRun):
    """Change the EMA length of a trained run, from the snapshots of its averages (post-hoc EMA)."""

    length: float | None = None
    """EMA length relative to the training, about 0.02 to 0.2."""
    out: str | None = field(default=None, metadata={"name": "RUN"})
    """A new run folder for the model (default: the model of this run is replaced)."""
    list: bool = False
    """List the snapshots and the EMA lengths that they reach, and write nothing."""


@dataclass(frozen=True)
class Likelihood(OneRun, OnDevice, TrainingData, Writes, Cached):
    """Log-likelihood of data under a run, with standard errors: bits per dimension, or nats for vectors."""

    data: str | None = field(default=None, metadata={"name": "SRC"})
    """Data in the units of the training data, at best held out from the training; any source that `train --data` takes (default:
    the training data, if they are bundled)."""
    count: int = field(default=1000, metadata={"short": "-n"})
    """Number of items, drawn at random if there are more."""
    method: str = "ode"
    """ode: exact up to solver and trace errors; elbo: the continuous-time bound; bound: the discrete bound of DDPM."""
    steps: int | None = None
    """Steps of the ODE (default: 96), network calls of the elbo (default: 32), or steps of the bound (default: 100)."""
    trace: str | None = None
    """Trace estimator of the ODE: exact, rademacher, gaussian or hutch++ (default: exact to 16 dimensions, then rademacher)."""
    probes: int = 2
    """Probe vectors per item and step, if the trace is not exact."""
    tolerance: float | None = None
    """Adaptive steps of the ODE with this tolerance; needs torchdiffeq."""
    dequantise: str = field(default="auto", metadata={"short": "--dequantisation"})
    """Dequantisation of whole numbers: path (noise of the path within the bin; for elbo and bound, their decoder), uniform,
    variational (for ode: fitted to the model on its training data first; the tightest), or auto (path or uniform, whichever has
    the tighter bound on training items; both values are printed)."""
    prior: str = "centred"
    """The density of the model at t = 1, for bounds: centred (normal, at its estimate of the data's mean) or normal (N(0, I))."""
    unconditional: bool = False
    """Use the null condition instead of each item's label."""
    seed: int = 0
    """The choice of items and all noise are functions of this number."""
    per_item: bool = False
    """Also write the value of each item."""
    out: str | None = field(default=None, metadata={"name": "FILE"})
    """A .json file of all results (default: in the run folder, and a section of its report page)."""
    batch_size: int | None = None
    """Items per batch (default: by their size)."""


@dataclass(frozen=True)
class Verify:
    """Check every solver, target, guidance and likelihood on every path against closed forms."""

    solver: str | None = field(default=None, metadata={"name": "NAME"})
    """Check only solvers whose printed name contains this."""
    path: str | None = field(default=None, metadata={"name": "NAME"})
    """Check only paths whose printed name contains this."""


@dataclass(frozen=True)
class Info(OneRun):
    """Show a run on one screen: its data, model, progress, and the commands that use it."""


@dataclass(frozen=True)
class Evaluate(OneRun, OnDevice, Batched, GuidanceFlags, TrainingData, Writes, Cached):
    """Compare the samples of a run with real data: metrics with confidence intervals."""

    data: str | None = field(default=None, metadata={"name": "SRC"})
    """Real data to compare with, at best held out from the training (default: the training data, if they are bundled)."""
    count: int = field(default=10000, metadata={"short": "-n"})
    """Number of samples."""
    steps: int | None = None
    """Steps from noise to data (default: 20; for a few-step run 4)."""
    solver: str = "default"
    """As in `ornstein sample`."""
    seed: int = 0
    """Sample i is a function of this number and i alone."""
    samples: str | None = field(default=None, metadata={"name": "FILE|DIR"})
    """Measure these existing samples: a .npz of `ornstein sample`, a folder of images, or rows of a table."""
    features: str | None = field(default=None, metadata={"name": "NAME"})
    """Features to compare: pixels, cnn (of a classifier trained here), efficientnet, inception:FILE (the weights that define
    FID), or a torch module of your own as PACKAGE.MODULE:NAME (default: cnn for images with classes, else the numbers
    themselves)."""
    metrics: str | None = field(default=None, metadata={"name": "NAMES"})
    """Only these: kid, frechet, precision-recall, density-coverage, sliced-wasserstein, mmd, c2st, agreement, memorisation."""
    target: str | None = field(default=None, metadata={"name": "COLUMN"})
    """Of a table: the column that models trained on samples, and on data, predict (default: the last of categories)."""
    out: str | None = field(default=None, metadata={"name": "FILE"})
    """A .json file of all results (default: in the run folder, and a section of its report page)."""


@dataclass(frozen=True)
class Compare(OnDevice, Batched, TrainingData, Writes, Cached):
    """Plot the quality of several runs or solvers against network calls, with confidence intervals."""

    runs: tuple[str, ...] = field(default=(), metadata={"positional": True, "name": "RUN"})
    """Run folders, trained on data of the same kind."""
    steps: str | None = field(default=None, metadata={"name": "LIST"})
    """Numbers of steps from noise to data. The plot shows the network calls that they take (default: 5,10,20,50; of few-step runs
    1,2,4,8)."""
    solver: str | None = field(default=None, metadata={"name": "LIST"})
    """One or several solvers of `ornstein sample`, such as abm,heun,tuned (default: abm, of few-step runs jump, and the tuned
    solvers of a run)."""
    data: str | None = field(default=None, metadata={"name": "SRC"})
    """Real data to compare with, at best held out from the trainings (default: the training data, if they are bundled)."""
    count: int = field(default=2000, metadata={"short": "-n"})
    """Number of samples for each point."""
    features: str | None = field(default=None, metadata={"name": "NAME"})
    """As in `ornstein evaluate`."""
    metrics: str | None = field(default=None, metadata={"name": "NAMES"})
    """As in `ornstein evaluate` (default: kid, frechet and agreement; of vectors mmd and sliced-wasserstein)."""
    seed: int = 0
    """Sample i is a function of this number, the run and i alone."""
    out: str = field(default="compare.png", metadata={"name": "FILE"})
    """The plot. Its numbers are written next to it as a .json, with which the same command resumes."""


@dataclass(frozen=True)
class Diagnose(OneRun, OnDevice, TrainingData, Writes, Cached):
    """Diagnose a model by noise level: its errors, consistency and calibration."""

    data: str | None = field(default=None, metadata={"name": "SRC"})
    """Real data, at best held out from the training (default: the training data, if they are bundled)."""
    count: int = field(default=512, metadata={"short": "-n"})
    """Number of items."""
    levels: int = 10
    """Number of noise levels."""
    seed: int = 0
    """The noise is a function of this number."""
    out: str | None = field(default=None, metadata={"name": "FILE"})
    """A .json file of all results (default: in the run folder, and a section of its report page)."""


@dataclass(frozen=True)
class Calibrate(OneRun, OnDevice, Batched, TrainingData, Writes, Cached):
    """Check the calibration of a conditional model: ranks, coverage, TARP and CRPS of its draws on held-out items.

    The run gets the condition that it was trained with: the observation of a posterior, or the known part of --given.
    """

    data: str | None = field(default=None, metadata={"name": "SRC"})
    """Items with their conditions, at best held out from the training (default: the training data, if they are bundled)."""
    count: int = field(default=200, metadata={"short": "-n"})
    """Number of items."""
    draws: int = 100
    """Draws of each item."""
    density: bool = False
    """Also the coverage of regions of highest density: a likelihood of each draw."""
    solver: str = "default"
    """As in `ornstein sample`."""
    steps: int | None = None
    """Steps from noise to data (default: 20)."""
    seed: int = 0
    """The choice of items and all noise are functions of this number."""
    out: str | None = field(default=None, metadata={"name": "FILE"})
    """A .json file of all results (default: in the run folder, and a section of its report page)."""


@dataclass(frozen=True)
class CleanRun(OneRun):
    """Remove from a run what sampling does not need: checkpoints, snapshots of averages, unfinished files.

    Files that this library did not provably write stay, and nothing is removed while the run is being trained.
    """

    dry_run: bool = False
    """Print what would be removed, and remove nothing."""


@dataclass(frozen=True)
class Cache(Cached):
    """List or remove cached data and features. Everything in the cache can be made again.

    When the cache grows beyond $ORNSTEIN_CACHE_LIMIT (default: 50GB; none: no limit), the least recently used entries are
    removed. Entries that a running command uses stay.
    """

    prune: bool = False
    """Remove all entries, or those that the next two flags select."""
    older_than: str | None = field(default=None, metadata={"name": "AGE"})
    """With --prune: entries that were not used for this long: 30d, 12h or 2w."""
    to: str | None = field(default=None, metadata={"name": "SIZE"})
    """With --prune: the least recently used entries, until the rest takes at most this: 5GB or 500MB."""


@dataclass(frozen=True)
class Doctor:
    """Say what is installed and missing, how fast this machine is, and what would make it faster."""

    device: str | None = None
    """cpu, cuda, mps or cuda:1 (default: the best there is)."""
    json: bool = False
    """Print all of it as JSON."""


@dataclass(frozen=True)
class StudioPage(OnDevice):
    """Open a page in the browser that shows runs at work: samples as they form, solvers, guidance, edits, fields, curves.

    Without a run it shows exact mixtures in the plane. The page comes from this machine and loads nothing from elsewhere.
    """

    runs: tuple[str, ...] = field(default=(), metadata={"positional": True, "optional": True, "name": "RUN"})
    """Run folders: the --out of trainings, finished or at work."""
    port: int | None = None
    """Port to listen at (default: the first free one from 8765 on)."""
    host: str = "127.0.0.1"
    """Address to listen at. 127.0.0.1 is this machine alone; 0.0.0.0 lets every machine of the network in that has the token,
    unencrypted."""
    no_browser: bool = False
    """Print the address, and open no browser."""
    data: str | None = None
    """Data to measure and draw beside the runs, as `train --data` takes them (default: bundled training data alone)."""
    export: str | None = field(default=None, metadata={"name": "FILE.html"})
    """Write one file that works without a server, and serve nothing."""
    force: bool = False
    """With --export: replace a file of that name."""


COMMANDS: dict[str, type] = {
    "demo": Demo,
    "data": Data,
    "train": Train,
    "sample": Sample,
    "edit": Edit,
    "interpolate": Interpolate,
    "impute": Impute,
    "predict": Predict,
    "restore": Restore,
    "tune": Tune,
    "distil": Distil,
    "reflow": Reflow,
    "export": Export,
    "import": Import,
    "ema": EMA,
    "evaluate": Evaluate,
    "compare": Compare,
    "diagnose": Diagnose,
    "likelihood": Likelihood,
    "calibrate": Calibrate,
    "info": Info,
    "studio": StudioPage,
    "clean": CleanRun,
    "cache": Cache,
    "verify": Verify,
    "doctor": Doctor,
}

EXAMPLES = {
    "demo": ["ornstein demo"],
    "data": ["ornstein data people.csv", "ornstein data people.csv --column zip=category --column id=drop"],
    "train": [
        "ornstein train --data digits --out runs/digits --minutes 2",
        "ornstein train --data ~/images --size 64 --flips --out runs/images --minutes 60",
        "ornstein train --data points.npy --out runs/points --steps 2000 --path cosine --target noise",
        "ornstein train --data people.csv --column zip=category --out runs/people --minutes 5",
        "ornstein train --data fashion-mnist --degradation low-res:4 --out runs/sharper --minutes 10",
        "ornstein train --data emoji --size 32 --text minilm --out runs/emoji --minutes 30",
        "ornstein train --data table.npy --given any --out runs/table --minutes 5",
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
        "ornstein sample runs/people -n 1000 --where 'income=>50K' --where age=40 --out fake.csv",
        "ornstein sample runs/inpainting --condition torn.png --mask hole.png -n 8",
        "ornstein sample runs/table -n 1000 --known '?,2.5,?' --out given.npz",
        "ornstein sample runs/emoji --text 'a smiling cat'",
        "ornstein sample runs/digits -n 10000 --solver heun --steps 10 --out samples.npz",
        "ornstein sample runs/digits -n 50000 --out samples",
        "torchrun --nproc-per-node 4 -m ornstein sample runs/digits -n 50000 --out samples",
    ],
    "export": [
        "ornstein export runs/digits --to onnx --out digits.onnx",
        "ornstein export runs/digits --to onnx --guidance 2 --solver tuned --steps 6 --out digits.onnx",
        "ornstein export runs/digits --to diffusers --out digits-pipeline",
    ],
    "import": [
        "ornstein import models/ddpm-cifar10 --out runs/theirs",
        "ornstein import terrain.onnx --convention edm --bind difficulty=0.5 --range -1,1 --out runs/terrain",
        "ornstein import models/sdxl --bind prompt.safetensors --away no-prompt.safetensors --guidance 7 --out runs/astronaut",
    ],
    "distil": [
        "ornstein distil runs/digits --out runs/digits-few --minutes 5",
        "ornstein distil runs/digits --out runs/digits-few --guidance 2 --method lagrangian",
        "ornstein sample runs/digits-few --steps 1",
    ],
    "reflow": [
        "ornstein reflow runs/digits --pairs 20000 --out runs/digits-straight --minutes 5",
        "ornstein distil runs/digits-straight --data runs/digits-straight/pairs --out runs/digits-few",
    ],
    "edit": [
        "ornstein edit runs/faces me.png --mask mask.png -n 8",
        "ornstein edit runs/digits three.png --strength 0.5 --label 8 --guidance 2",
    ],
    "interpolate": [
        "ornstein interpolate runs/digits three.png eight.png --frames 8",
        "ornstein interpolate runs/digits three.png eight.png --frames 24 --out three-to-eight.gif",
    ],
    "predict": [
        "ornstein predict runs/people new.csv --column income --out predictions.csv",
        "ornstein predict runs/people new.csv --column age --draws 200",
    ],
    "impute": [
        "ornstein impute runs/people holes.csv --draws 5 --out filled.csv",
        "ornstein impute runs/table holes.npy --out filled.npy",
        "ornstein impute runs/table holes.npy --draws 5 --out five-times-filled.npy",
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
        "ornstein tune runs/posterior --steps 10 --condition observations.npy",
        "ornstein tune models/ddpm-cifar10 --steps 6 --out six.json",
        "ornstein sample runs/digits --solver tuned --steps 6 --guidance 2 --label 3",
    ],
    "ema": ["ornstein ema runs/digits --length 0.05", "ornstein ema runs/digits --list"],
    "evaluate": [
        "ornstein evaluate runs/digits -n 1000 --data digits:test",
        "ornstein evaluate runs/digits --samples samples.npz --metrics kid,memorisation",
        "ornstein evaluate runs/people --data people-test.csv --train-data people.csv --target income",
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
        "ornstein likelihood runs/people --data people-test.csv --per-item",
        "ornstein likelihood runs/points --data held-out.npy --trace exact",
        "ornstein likelihood runs/digits --data digits:test --dequantise variational --per-item --out likelihood.json",
    ],
    "calibrate": [
        "ornstein calibrate runs/posterior --data held-out.npz",
        "ornstein calibrate runs/table --data held-out.npy -n 500 --draws 200",
    ],
    "info": ["ornstein info runs/digits"],
    "studio": [
        "ornstein studio runs/digits",
        "ornstein studio",
        "ornstein studio runs/a runs/b --port 9000 --no-browser",
        "ornstein studio runs/digits --export digits.html",
    ],
    "clean": ["ornstein clean runs/digits --dry-run", "ornstein clean runs/digits"],
    "cache": ["ornstein cache", "ornstein cache --prune --older-than 30d", "ornstein cache --prune --to 5GB"],
    "doctor": ["ornstein doctor", "ornstein doctor --json"],
    "verify": ["ornstein verify", "ornstein verify --solver heun --path linear"],
}
