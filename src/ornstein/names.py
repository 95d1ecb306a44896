"""Names for what a user chooses: the same for the command and for Python. Importing this imports nothing of what is named."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from ornstein.errors import UsageError, brief
from ornstein.spelling import near

T = TypeVar("T")


def pick(key: str, name: str, choices: Mapping[str, T]) -> T:
    """choices[name]. Raises UsageError that names the key and the nearest choice."""
    if name in choices:
        return choices[name]
    nearest = near(name, choices)
    hint = f"; did you mean {nearest!r}?" if nearest else ""
    raise UsageError(f"{key}: {brief(name)} is not one of {', '.join(choices)}{hint}")


class Names(Mapping[str, Any]):
    """A registry: names to objects made when they are looked up. `what` is the kind of thing, for error messages.

    `makers` are names of functions or classes of `module`, which are called without arguments; or functions of the module and of
    what `pick` passes on.
    """

    def __init__(self, what: str, module: str, makers: Mapping[str, str | Callable[..., Any]]) -> None:
        self.what, self._module, self._makers = what, module, dict(makers)

    def __getitem__(self, name: str) -> Any:
        return self._made(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def pick(self, name: str, *arguments: Any) -> Any:
        """The object of that name, for data of these `arguments`. Raises UsageError that says which names there are.

        The arguments of a registry are those of its functions; what is made by a plain name depends on none.
        """
        pick(self.what, name, dict.fromkeys(self))
        return self._made(name, *arguments)

    def _made(self, name: str, *arguments: Any) -> Any:
        maker, module = self._makers[name], import_module(self._module)
        return maker(module, *arguments) if callable(maker) else attrgetter(maker)(module)()


SOLVERS = Names(
    "solver",
    "ornstein.solvers",
    {
        "abm": "ABM",
        "dpmpp": "DPMSolverPP",
        "unipc": "UniPC",
        "deis": "DEIS",
        "heun": "Heun",
        "ddim": "DDIM",
        "euler": "Euler",
        "rk4": "rk4",
        "ode": "AdaptiveODE",
        "ancestral": "Ancestral",
        "ancestral-learned": "LearnedAncestral",
        "em": "EulerMaruyama",
        "sde-dpmpp": "SDEDPMSolverPP",
        "er-sde": "ERSDE",
        "pc": "PredictorCorrector",
        "sde": "AdaptiveSDE",
        "jump": "Jump",
        "restart": "Restart",
    },
)
PATHS = Names(
    "path",
    "ornstein.path",
    {
        "linear": "Linear",
        "cosine": "Cosine",
        "trigonometric": "Trigonometric",
        "vp": "VariancePreserving",
        "sub-vp": "SubVariancePreserving",
        "ve": "VarianceExploding",
        "edm": "EDM",
        "ddpm": "ddpm",
        "ddpm-scaled-linear": "ddpm_scaled_linear",
        "ddpm-cosine": "ddpm_cosine",
        "ddpm-zero-snr": "ddpm_zero_snr",
    },
)
TARGETS = Names(  # for data of a standard deviation
    "target",
    "ornstein.target",
    {
        "velocity": "Velocity",
        "noise": "Noise",
        "clean": "Clean",
        "v": "V",
        "score": "Score",
        "edm": lambda target, sigma_data=0.5: target.EDM(sigma_data),
    },
)
TIMES = Names(  # a distribution, and whether a batch is stratified over it
    "times",
    "ornstein.objective",
    {
        "stratified": lambda objective: (objective.Uniform(), True),
        "uniform": lambda objective: (objective.Uniform(), False),
        "logit-normal": lambda objective: (objective.LogitNormal(), True),
        "log-normal": lambda objective: (objective.LogNormal(), True),
    },
)
WEIGHTS = Names(  # for data of a standard deviation
    "weight",
    "ornstein.objective",
    {
        "one": "One",
        "min-snr": "MinSNR",
        "sigmoid": "Sigmoid",
        "elbo": "ELBO",
        "edm": lambda objective, sigma_data=0.5: objective.EDM(sigma_data),
    },
)
FEW_STEPS = Names(
    "few_steps",
    "ornstein.distillation",
    {"progressive": "Progressive", "lagrangian": "Lagrangian", "eulerian": "Eulerian"},
)
COUPLINGS = Names(
    "coupling", "ornstein.coupling", {"independent": "Independent", "ot": "OptimalTransport", "pairs": "Paired"}
)
LOGGERS = Names(  # that write below a folder
    "log",
    "ornstein.training.loggers",
    {
        "tensorboard": lambda loggers, folder=Path(): loggers.TensorBoard(folder),
        "wandb": lambda loggers, folder=Path(): loggers.Tracker("wandb", folder),
        "trackio": lambda loggers, folder=Path(): loggers.Tracker("trackio", folder),
    },
)
DEGRADATIONS = Names(  # classes
    "degradation",
    "ornstein.degradations",
    {"low-res": attrgetter("LowRes"), "grey": attrgetter("Grey"), "mask": attrgetter("RandomMask")},
)
MASKINGS = Names(  # by the word behind the colon, or None
    "given",
    "ornstein.masking",
    {
        "any": lambda masking, sizes=None: masking.AnyColumns(
            () if sizes is None else tuple(map(int, sizes.split(",")))
        ),
        "past": lambda masking, length=None: masking.Past(int(length)),
        "gaps": "Gaps",
        "every": lambda masking, step=None: masking.Every(*map(int, step.split(","))),
    },
)
NETWORKS = Names(  # classes
    "network",
    "ornstein.networks",
    {
        "unet": attrgetter("UNet"),
        "dit": attrgetter("DiT"),
        "mlp": attrgetter("MLP"),
        "columns": attrgetter("ColumnTransformer"),
    },
)
TIME_FEATURES = Names(  # arguments of a network
    "time_features",
    "ornstein.networks",
    {
        "slow": lambda networks: {"frequencies": networks.SLOW},
        "ddpm": lambda networks: {"frequencies": networks.DDPM},
        "gaussian": lambda _: {"fourier": 1.0},
    },
)

FORMATS = Names(  # of exports
    "to",
    "ornstein.export",
    {"onnx": "ONNX", "torch": "TorchExport", "safetensors": "Safetensors", "diffusers": "Diffusers"},
)

GUIDANCE = Names(  # the method, and how far its contrast is that of the conditional model (`Rescaled`)
    "guidance-method",
    "ornstein.guidance",
    {
        "cfg": lambda guidance: (guidance.ClassifierFree, 0.0),
        "rescaled": lambda guidance: (guidance.ClassifierFree, 0.7),
        "cfg-zero": lambda guidance: (guidance.CFGZeroStar, 0.0),
        "apg": lambda guidance: (guidance.APG, 0.0),
    },
)
CONVENTIONS = Names(  # how networks of other libraries are called and what they predict, of some numbers each
    "convention",
    "ornstein.interop",
    {
        "edm": lambda interop, *numbers: interop.edm.convention(*numbers),
        "edm-raw": lambda interop, *numbers: interop.edm.raw(*numbers),
        "flow": lambda interop, *numbers: interop.flows.towards_noise(*numbers),
        "sit": lambda interop: interop.flows.sit(),
        "flow-matching": lambda interop: interop.flows.flow_matching(),
        "torchcfm": lambda interop: interop.flows.torchcfm(),
        "score-sde-vp": lambda interop, *numbers: interop.score_sde.vp(*numbers),
        "score-sde-sub-vp": lambda interop, *numbers: interop.score_sde.sub_vp(*numbers),
        "score-sde-ve": lambda interop, *numbers: interop.score_sde.ve(*numbers),
        "guided-diffusion": lambda interop: interop.guided_diffusion.convention(),
        "ddpm": lambda interop: interop.diffusers.convention({}),
    },
)
FOREIGN = Names(  # functions that open the files of other libraries
    "model",
    "ornstein.interop",
    {
        "diffusers": lambda _: import_module("ornstein.interop.diffusers.models").opened,
        "onnx": lambda _: import_module("ornstein.interop.onnx").opened,
    },
)

LEAST_SIGNAL = 0.3  # of a network, whose Jacobian is less exact than a closed form's
POSTERIORS = Names(  # functions of (denoiser, measurement), for data of a standard deviation
    "method",
    "ornstein.editing",
    {
        "mmps": lambda editing, *_: partial(editing.MMPS, least_signal=LEAST_SIGNAL),
        "pigdm": lambda editing, data_std=1.0, *_: partial(editing.PiGDM, data_std=data_std, least_signal=LEAST_SIGNAL),
        "dps": lambda editing, data_std=1.0, zeta=5.0: partial(editing.DPS, zeta=zeta, least_signal=LEAST_SIGNAL),
        "diffpir": lambda editing, *_: editing.DiffPIR,
    },
)
"""Posterior sampling given a measurement."""
