"""What `ornstein help TOPIC` answers: the words of the documentation, each with its commands and its page. Needs no torch."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from ornstein.cli.options import COMMANDS
from ornstein.errors import UsageError
from ornstein.spelling import near


@dataclass(frozen=True)
class Topic:
    """An answer of a few lines."""

    text: str
    page: str
    """The page in docs/ that says more."""
    commands: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    """Other words under which it is looked for."""


TOPICS: dict[str, Topic] = {
    "average": Topic(
        "What is saved and sampled is an average of the weights (EMA) whose length is a part of the training so "
        "far, 0.1 by default. Averages of other lengths are computed afterwards from snapshots.",
        "notes/training.md",
        ("ornstein ema runs/mine --length 0.05",),
        ("ema",),
    ),
    "checkpoint": Topic(
        "Weights, averages and optimiser after a step, with sha256 sums. The same command again goes on from the "
        "newest whole one, bit for bit; a damaged one is set aside. `clean` removes what sampling does not need.",
        "robustness.md",
        ("ornstein info runs/mine", "ornstein clean runs/mine --dry-run"),
        ("resume", "continue", "run", "folder", "trainer"),
    ),
    "condition": Topic(
        "An input of the network besides x_t and t: a class (--label), several (--label a,b), numbers or an image"
        " (--condition), a caption (--text). In training a condition is dropped at random (condition dropout) and"
        " replaced by the null condition, so that one network is the conditional and the unconditional model.",
        "conditions.md",
        ("ornstein sample runs/mine --label cats", "ornstein train --data photos --text words --out runs/text"),
        ("conditioning", "condition dropout", "null condition", "class", "label", "caption", "text", "annotation"),
    ),
    "coupling": Topic(
        "Which noise meets which data in training. `ot` re-pairs those of a batch by least distance, which "
        "straightens the flow; scores are then no longer those of the path, so samplers that add noise are not "
        "exact. `reflow` keeps pairs of a run.",
        "notes/couplings.md",
        ("ornstein train --data moons --coupling ot --out runs/ot",),
        ("ot", "optimal transport", "reflow", "rectified flow"),
    ),
    "data": Topic(
        "--data takes digits, fashion-mnist, mnist, emoji, moons, rings and other names, a folder or zip of "
        "images (its sub-folders are classes), .npy, .npz, IDX files, tables such as .csv, or hf:NAME. Samples come back in "
        "the data's own type, range and axes.",
        "notes/data.md",
        ("ornstein train --data ~/images --size 32 --out runs/mine --dry-run", "ornstein cache"),
        (
            "data spec",
            "origin",
            "dataset",
            "images",
            "image",
            "folder of images",
            "units",
            "layout",
            "missing",
            "cache",
            "prefetch",
        ),
    ),
    "denoiser": Topic(
        "A network with its path and its target. Called with x_t and t it gives an estimate: the pair (clean, "
        "noise) with alpha*clean + sigma*noise = x_t, the posterior means E[x | x_t] and E[noise | x_t]. Solvers,"
        " guidance, likelihoods and editing know nothing else of a model.",
        "notes/targets.md",
        (),
        ("estimate", "model"),
    ),
    "distillation": Topic(
        "A flow map says where the flow arrives, so that a run draws samples in one to four calls. `distil` "
        "learns it from a run, `train --few-steps` from data alone.",
        "notes/flow-maps.md",
        ("ornstein distil runs/mine --out runs/few --minutes 5", "ornstein sample runs/few --steps 1"),
        ("distil", "flow map", "few steps", "few-step", "consistency", "meanflow", "shortcut"),
    ),
    "editing": Topic(
        "Change an image more or less (--strength: the part of the noise, SDEdit), paint a part of it anew "
        "(--mask, white where new), go from one to another, or undo a degradation by sampling the posterior given"
        " a measurement.",
        "editing.md",
        (
            "ornstein edit runs/mine a.png --strength 0.5",
            "ornstein edit runs/mine a.png --mask hole.png -n 8",
            "ornstein restore runs/mine soft.png --operator blur",
        ),
        (
            "edit",
            "inpainting",
            "inpaint",
            "sdedit",
            "restore",
            "interpolate",
            "measurement",
            "posterior",
            "degradation",
        ),
    ),
    "evaluation": Topic(
        "How good samples are: KID, Fréchet distance, precision and recall, density and coverage, sliced "
        "Wasserstein distance, memorisation, each with an interval, beside data that the run was not trained on.",
        "evaluation.md",
        ("ornstein evaluate runs/mine --data ~/held-out", "ornstein compare runs/a runs/b --steps 5,10,20"),
        ("evaluate", "metrics", "fid", "kid", "quality", "compare", "memorisation", "diagnose"),
    ),
    "export": Topic(
        "A run as ONNX, torch.export, safetensors or a pipeline of diffusers; the sampler goes with it as JSON.",
        "export.md",
        ("ornstein export runs/mine --to onnx --out mine.onnx",),
        ("onnx", "safetensors"),
    ),
    "fine-tune": Topic(
        "Training that starts from the weights of a run of the same network. A table of classes of another size "
        "begins anew.",
        "notes/python.md",
        ("ornstein train --data ~/more --from runs/mine --out runs/more",),
        ("finetune", "start", "freeze", "lora"),
    ),
    "flow matching": Topic(
        "Training on the target `velocity` of the path `linear`, which is the default of `train`. Time runs here "
        "from 0 (data) to 1 (noise): texts that run the other way are read with 1 - t.",
        "notes/flow-matching.md",
        ("ornstein train --data digits --path linear --target velocity --out runs/flow",),
        ("rectified", "velocity"),
    ),
    "guidance": Topic(
        "The scale multiplies the difference of the conditional and the unconditional estimate: 1 is the "
        "conditional model, that is no guidance; 0 the unconditional one; 2 gives clearer and less various "
        "samples. A guided model does not sample p(x) p(y | x)^w.",
        "guidance.md",
        (
            "ornstein sample runs/mine --label cats --guidance 2",
            "ornstein sample runs/mine --label cats --not-label dogs",
        ),
        (
            *("cfg", "classifier-free guidance", "guidance scale", "guidance config", "scale"),
            *("negative label", "negative prompt", "autoguidance", "weak model"),
        ),
    ),
    "likelihood": Topic(
        "Bits per dimension of images, nats of vectors, with an error in three parts: along the ODE, or two "
        "variational bounds (--method elbo, bound).",
        "likelihood.md",
        ("ornstein likelihood runs/mine --data ~/held-out",),
        ("bits per dimension", "bpd", "nll", "log-likelihood", "elbo", "dequantisation"),
    ),
    "network": Topic(
        "U-Net in one to three dimensions, DiT with the papers' sizes, MLP for vectors, a transformer over "
        "columns. In Python any module with"
        " forward(x, t, condition=None).",
        "notes/networks.md",
        ("ornstein train --data digits --network dit --preset tiny --out runs/dit",),
        ("unet", "u-net", "dit", "mlp", "preset", "attention", "preconditioning", "time features"),
    ),
    "path": Topic(
        "alpha(t) and sigma(t) of x_t = alpha*x + sigma*noise, elsewhere called the noise schedule. linear (flow "
        "matching), cosine, trigonometric, vp, sub-vp, ve, edm, and tables of beta: ddpm, ddpm-cosine and others.",
        "notes/paths.md",
        ("ornstein train --data digits --path vp --target noise --out runs/vp",),
        ("noise schedule", "schedule", "alpha", "sigma", "beta", "log-snr", "snr", "vp", "ve", "sde", "chart"),
    ),
    "python": Topic(
        "ornstein.load(RUN) gives a run: sample, edit, restore, interpolate, log_prob, in the data's own units. "
        "ornstein.train(data) trains one, with your network, conditions, objective or loop.",
        "notes/python.md",
        (),
        ("api", "library", "learning rate", "recipe", "settings", "loss module", "objective"),
    ),
    "sample": Topic(
        "Draw from a run, as an image, a folder, .npz, or an animation. Sample i depends on the seed and i alone,"
        " never on the batch.",
        "solvers.md",
        ("ornstein sample runs/mine -n 64 --out grid.png", "ornstein sample runs/mine -n 16 --out noise-to-data.gif"),
        ("sampling", "seed", "sample sheet", "samples", "generate"),
    ),
    "solver": Topic(
        "The sampler, elsewhere called the scheduler. The default, abm, is the one to take in 10 to 50 calls; a "
        "tuned one in 5 to 10; ancestral is DDPM as published. An ODE solver adds no noise on the way; an SDE "
        "solver does.",
        "solvers.md",
        ("ornstein sample runs/mine --solver ddim --steps 50", "ornstein tune runs/mine --steps 6"),
        ("scheduler", "sampler", "steps", "grid", "times", "ddim", "ddpm", "euler", "heun", "dpm-solver", "table"),
    ),
    "speed": Topic(
        "`doctor` says what would make this machine faster, `train --profile 20` where the time of a step goes. "
        "Several processes train one model under torchrun.",
        "speed.md",
        ("ornstein doctor", "ornstein train --data digits --profile 20"),
        ("fast", "slow", "gpu", "cuda", "ddp", "fsdp", "torchrun", "compile", "bfloat16"),
    ),
    "studio": Topic(
        "A page in the browser that shows runs at work: samples form live, solvers race, guidance is a slider, a brush "
        "inpaints. Without a run it opens exact mixtures in the plane.",
        "studio.md",
        ("ornstein studio runs/mine",),
        ("browser", "watch", "live"),
    ),
    "tables": Topic(
        "Rows of a CSV, TSV, Parquet, Feather, Excel or SQLite file: each column has its own type, a missing value is a state "
        "of its column, and samples come back as the same kind of file. "
        "`impute` fills holes with draws of a run that was trained with "
        "--given, given the rest of each item.",
        "tabular.md",
        ("ornstein train --data people.csv --out runs/people", "ornstein sample runs/people -n 1000 --out fake.csv"),
        ("tabular", "csv", "parquet", "impute", "imputation", "known numbers", "mask law", "rows", "columns"),
    ),
    "target": Topic(
        "What the network predicts: noise (DDPM), clean (data prediction), velocity (flow matching), v, score, "
        "edm. All are pairs of numbers on (data, noise), so any of them gives all others.",
        "notes/targets.md",
        ("ornstein train --data digits --target v --path cosine --out runs/v",),
        ("prediction", "noise prediction", "data prediction", "epsilon", "v-prediction", "score", "x0"),
    ),
    "timestep": Topic(
        "t is a real number from 0 (data) to 1 (noise). Step i of a table of T betas is t = i/T, so the timestep "
        "of diffusers, which counts from 0, is T*t - 1. Flow-matching texts that run from noise to data are read "
        "with 1 - t.",
        "notes/paths.md",
        (),
        ("time", "t"),
    ),
    "tuned": Topic(
        "A solver whose times and table are fitted to one model, in a minute or less: at 6 calls nearer to the "
        "model's own curves than most solvers at 18.",
        "notes/tuning.md",
        ("ornstein tune runs/mine --steps 6", "ornstein sample runs/mine --solver tuned --steps 6"),
        ("tune", "tuning"),
    ),
}


def answer(words: list[str]) -> list[str]:
    """The lines about a topic. Raises UsageError for a word that is none, with the nearest."""
    word = " ".join(words).lower()
    for name, topic in TOPICS.items():
        if word == name or word in topic.aliases:
            return list(_lines(name, topic))
    known = [*TOPICS, *(alias for topic in TOPICS.values() for alias in topic.aliases), *COMMANDS]
    nearest = near(word, known)
    hint = f"did you mean `ornstein help {nearest}`?" if nearest else f"the topics are {', '.join(TOPICS)}"
    raise UsageError(f"there is no topic {word!r}; {hint}")


def _lines(name: str, topic: Topic) -> Iterator[str]:
    yield name
    yield from textwrap.wrap(topic.text, 96, initial_indent="  ", subsequent_indent="  ")
    if topic.commands:
        yield ""
        yield from (f"  {line}" for line in topic.commands)
    also = f"; also under: {', '.join(topic.aliases)}" if topic.aliases else ""
    yield ""
    yield from textwrap.wrap(f"More: docs/{topic.page}{also}", 96, initial_indent="  ", subsequent_indent="  ")


def overview() -> list[str]:
    """A line that names all topics, folded."""
    return textwrap.wrap(", ".join(TOPICS), 96, initial_indent="  ", subsequent_indent="  ")
