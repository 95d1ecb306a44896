"""Our solvers as a scheduler of diffusers: `pipe.scheduler = Scheduler.from_config(pipe.scheduler.config)`.

A scheduler steps x from timestep to timestep, knowing the model's outputs so far: that is a row of a table. So a step is
the row's few multiply-adds on the pairs (x_t, output), which are held in single precision whatever the model computes in.
"""

import inspect
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path as File
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ornstein.errors import OrnsteinError, UsageError
from ornstein.files.reading import read_json
from ornstein.interop.convention import wrap
from ornstein.interop.diffusers.config import FLOW, convention, is_edm, is_flow, must_be_known, shift_of
from ornstein.names import SOLVERS
from ornstein.path import Linear, Shift
from ornstein.solvers import ABM, TableSolver
from ornstein.solvers.solver import FALLING, grid_of, table_of
from ornstein.table import Pair, Table, combine, rows_of
from ornstein.target import V
from ornstein.tuning import Tuned

TUNED = "tuned"
ROUGH = torch.float16, torch.bfloat16
WITHOUT_MEANING = (
    "clip_sample",
    "thresholding",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_lu_lambdas",
    "shift_terminal",
    "stochastic_sampling",
)
_named: set[str] = set()


class Scheduler(SchedulerMixin, ConfigMixin):
    """A table solver of this library in the pipelines of diffusers, on β-tables, flows with a shift, and EDM's levels.

    solver: a name of `ornstein.names.SOLVERS` that is a table, "tuned:FILE" (`ornstein tune`, `tuning.fit`), or an object of
        `ornstein.solvers`, which cannot be saved with a pipeline.
    discrete: timesteps are whole trained steps, for networks that look them up.
    The rest are diffusers' own keys, of the schedulers whose configurations are read.

    `set_timesteps(n)` makes n steps of the solver's own grid; those of several calls a step (`order` > 1) have as many timesteps.
    Raises UsageError for a solver that is no table or that the path does not have.
    """

    order = 1

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: Sequence[float] | None = None,
        rescale_betas_zero_snr: bool = False,
        prediction_type: str = "epsilon",
        shift: float = 1.0,
        use_dynamic_shifting: bool = False,
        base_shift: float = 0.5,
        max_shift: float = 1.15,
        base_image_seq_len: int = 256,
        max_image_seq_len: int = 4096,
        time_shift_type: str = "exponential",
        use_flow_sigmas: bool = False,
        sigma_data: float | None = None,
        sigma_max: float | None = None,
        solver: Any = "abm",
        tuned: dict[str, Any] | None = None,
        discrete: bool = False,
    ) -> None:
        settings = {key: value for key, value in self.config.items() if value is not None}
        self.flow, self.edm = is_flow(settings), is_edm(settings)
        self.convention = convention({**settings, "shift": 1.0} if self.flow else settings, discrete=discrete)
        self.inverse = wrap(_no_network, self.convention).inverse
        if isinstance(solver, str) and solver.startswith(f"{TUNED}:"):
            tuned = _read_tuned(solver.removeprefix(f"{TUNED}:"))
            self.register_to_config(solver=TUNED, tuned=tuned)
        self.solver = self._solver_of(solver, tuned)
        if not isinstance(solver, str):
            self.register_to_config(solver=str(self.solver))
        self.order = -(-self.solver.table(Linear(), FALLING).calls // 2) if tuned is None else 1
        self.init_noise_sigma = float(self.convention.path.sigma(torch.tensor(1.0))) if self.edm else 1.0
        self._begin: int | None = None
        self._index: int | None = None
        self.num_inference_steps: int | None = None
        self._set(self._own_grid(1 if tuned is None else self.solver.fitted.calls), None)  # type: ignore[attr-defined]

    def _solver_of(self, solver: Any, tuned: Mapping[str, Any] | None) -> TableSolver:
        """The solver of a name, an object, or numbers that were fitted."""
        if tuned is not None:
            try:
                fitted = Tuned.from_dict(dict(tuned), self.convention.path)
            except (ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
                raise OrnsteinError(f"the tuned solver does not fit this scheduler: {error}") from None
            if fitted.fitted.gain != 1:
                raise UsageError(
                    "this tuned solver multiplies the start of a run, which pipelines do not; fit one with "
                    "tuning.fit(..., gain=False)"
                )
            return fitted
        chosen = SOLVERS.pick(solver) if isinstance(solver, str) else solver
        if not isinstance(chosen, TableSolver):
            tables = [name for name in SOLVERS if isinstance(SOLVERS[name], TableSolver)]
            raise UsageError(f"solver: {solver!r:.80} has no table, which a scheduler needs; use {', '.join(tables)}")
        if isinstance(chosen, ABM) and (not self._scales or self.config.discrete):
            chosen = replace(chosen, ahead=0.0)  # a first call below the start is made at a scaled, untrained point
        return chosen

    @property
    def _scales(self) -> bool:
        """Whether all levels are of one size, so that a first call below the start takes the start as it is."""
        return not (self.flow or self.edm)

    # --- configurations --------------------------------------------------------------------------------------------------

    @classmethod
    def from_config(cls, config: Any = None, return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """A scheduler from the configuration of any scheduler of diffusers, or of ours; keywords replace its entries.

        Options that cannot mean anything here (clipping, thresholding, other grids) are named once in a warning.
        Raises UsageError for what has no counterpart.
        """
        if not isinstance(config, Mapping):
            raise UsageError(
                f"Scheduler.from_config takes a configuration, such as pipe.scheduler.config, not {config!r:.80}"
            )
        if config.get("invert_sigmas"):
            raise UsageError("invert_sigmas: models whose noise levels run the other way have no counterpart here")
        settings = {**config, **kwargs}
        must_be_known(settings)
        if is_flow(settings):
            settings.update(prediction_type=FLOW, use_flow_sigmas=True, shift=shift_of(settings))
        if not is_edm(settings):
            settings.pop("sigma_max", None)
        _name_once([key for key in WITHOUT_MEANING if settings.get(key)])
        own = set(inspect.signature(cls.__init__).parameters) - {"self"}
        scheduler = cls(**{key: value for key, value in settings.items() if key in own})
        unused = {key: value for key, value in kwargs.items() if key not in own}
        return (scheduler, unused) if return_unused_kwargs else scheduler

    def save_config(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> None:
        """scheduler_config.json. Raises UsageError for a solver that was given as an object."""
        if self.config.solver != TUNED and self.config.solver not in SOLVERS:
            raise UsageError(
                f"solver: {self.config.solver} was given as an object and cannot be saved; give a name: {', '.join(SOLVERS)}"
            )
        super().save_config(save_directory, push_to_hub, **kwargs)

    # --- timesteps -------------------------------------------------------------------------------------------------------

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: Sequence[float] | Tensor | None = None,
        sigmas: Sequence[float] | Tensor | None = None,
        mu: float | None = None,
    ) -> None:
        """The run to come: so many steps of the solver's own grid, or falling `timesteps` or `sigmas` by hand (σ/α; σ of a flow).

        Flows are shifted by the configuration, or by `mu` where that is dynamic. Even sigmas from 1 to 1/n, which pipelines of
        flows pass where nobody chose any, stand for the number of steps alone.
        Raises ValueError for no number of steps, a grid that does not fall, or one that does not fit a tuned solver.
        """
        if timesteps is not None and sigmas is not None:
            raise ValueError("set_timesteps: give timesteps or sigmas, not both")
        levels = _column(sigmas) if sigmas is not None else _column(timesteps) if timesteps is not None else None
        if levels is None:
            if num_inference_steps is None:
                raise ValueError("set_timesteps needs num_inference_steps, timesteps or sigmas")
            self._set(self._own_grid(int(num_inference_steps), mu), device)
        elif sigmas is not None and self.flow and _even(levels):
            self._set(self._own_grid(len(levels), mu), device)
        else:
            self._set(self._grid_by_hand(levels, sigmas is not None, mu), device, own=False)

    def _own_grid(self, steps: int, mu: float | None = None) -> Tensor:
        grid = grid_of(self.solver, self.convention.path, steps)
        if isinstance(self.solver, Tuned):
            return grid
        if self.flow:
            grid = self._shift(mu)(grid)
        return self.convention.snapped(grid) if self.config.discrete and self.convention.levels else grid

    def _shift(self, mu: float | None) -> Shift:
        """σ -> f·σ/(1 + (f − 1)·σ), with f = e^mu or, by configuration, mu itself."""
        if mu is None or not self.config.use_dynamic_shifting:
            return Shift(self.config.shift)
        return Shift(mu if self.config.time_shift_type == "linear" else float(torch.tensor(mu).exp()))

    def _grid_by_hand(self, levels: Tensor, by_sigma: bool, mu: float | None) -> Tensor:
        if isinstance(self.solver, Tuned):
            raise ValueError("a tuned solver comes with its own timesteps; give num_inference_steps alone")
        path = self.convention.path
        levels = levels[:-1] if by_sigma and levels[-1] == 0 else levels
        if not by_sigma:
            times = self.convention.clock.time(path, levels)
        elif self.flow:
            times = self._shift(mu)(levels)
        else:
            times = path.time(-2 * levels.log())
        grid = torch.cat([times, torch.zeros(1, dtype=torch.float64)])
        if not bool(((grid >= 0) & (grid <= 1 + 1e-6)).all() and (grid.diff() < 0).all()):
            raise ValueError(
                f"timesteps and sigmas fall strictly, within what was trained, not {levels.tolist()!r:.200}"
            )
        return grid.clamp(max=1)

    def _set(self, grid: Tensor, device: Any, own: bool = True) -> None:
        self._grid, self._own = grid, own
        table = self._prepare(0)
        path, calls = self.convention.path, table.times[:-1]
        at = self.convention.clock(path, calls)[1]
        if self.config.discrete:
            at = at.round()
        whole = bool((at == at.round()).all())
        self.timesteps = at.to(torch.int64 if whole else torch.float32).to(device)
        ratio = path.sigma(calls) if self.flow else path.sigma(calls) / path.alpha(calls)
        self.sigmas = torch.cat([ratio, torch.zeros(1, dtype=torch.float64)]).float()
        self.num_inference_steps = len(grid) - 1
        self._begin = self._index = None

    def _table(self, begin: int) -> Table:
        """The table of a run that begins at a step of the grid."""
        solver, grid = self.solver, self._grid[begin:]
        if isinstance(solver, Tuned):
            if begin == 0:
                return solver.fitted
            warnings.warn(
                f"a tuned solver is fitted to whole runs; this one begins at step {begin} and goes on with ABM on its times",
                stacklevel=4,
            )
            solver = ABM(ahead=0.0)
        elif isinstance(solver, ABM) and not self._own:
            solver = replace(solver, ahead=0.0)  # timesteps by hand are where the calls are made
        return table_of(solver, self.convention.path, grid)

    @property
    def begin_index(self) -> int | None:
        """Index of the first timestep of a run, as set by `set_begin_index`."""
        return self._begin

    @property
    def step_index(self) -> int | None:
        """Index of the current timestep of `step`; None before the first."""
        return self._index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """The run begins at this timestep: image to image."""
        self._begin = begin_index

    def __len__(self) -> int:
        return int(self.config.num_train_timesteps)

    # --- steps -----------------------------------------------------------------------------------------------------------

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """c_in·x of EDM's preconditioning; x itself on β-tables and flows."""
        if not self.edm:
            return sample
        at = _column([float(timestep)])
        t = self.convention.clock.time(self.convention.path, at)
        c_in, _ = self.convention.clock(self.convention.path, t)
        return sample if c_in is None else sample * float(c_in)

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[Tensor]:
        """x at the next timestep, from x (`sample`) and what the model answered to it at this one.

        Solvers that add noise draw it from the `generator`, or one for each sample. A learned variance, the second half of the
        channels, is left out. Raises ValueError for a step beyond the last.
        """
        if self._index is None:
            self._start(timestep)
        index = self._index
        assert index is not None
        first, rows = self._rows
        if index - first >= len(rows):
            raise ValueError(f"step: all {len(rows)} steps of this run are made; call set_timesteps for another")
        terms, fresh, spent = rows[index - first]
        x = sample.float() if sample.dtype in ROUGH else sample
        if model_output.shape != x.shape and model_output.shape[1] == 2 * x.shape[1]:
            model_output = model_output[:, : x.shape[1]]
        self._pairs[index - first] = x, model_output.to(x.dtype)
        result = combine(terms, self._pairs)
        if fresh:
            result.add_(randn_tensor(x.shape, generator=generator, device=x.device, dtype=x.dtype), alpha=fresh)
        for j in spent:
            del self._pairs[j]
        self._index = index + 1
        result = result.to(sample.dtype)
        return SchedulerOutput(prev_sample=result) if return_dict else (result,)

    def _start(self, timestep: Any) -> None:
        """Rows of the run that begins here: where the pipeline said, or at the timestep that it came with."""
        index = self._index_of(timestep) if self._begin is None else self._begin
        if index % self.order:
            raise ValueError(f"a run begins at a whole step of {self.order} calls, not at timestep {index}")
        if self._rows[0] != index:
            self._prepare(index)
        self._index = index
        self._pairs: dict[int, Pair] = {}

    def _prepare(self, index: int) -> Table:
        """The table, and its rows on pairs (x_t, output), of a run that begins at this timestep."""
        table = self._table(index // self.order)
        self._rows = index, rows_of(table, self.inverse(table.times[:-1]))
        return table

    def _index_of(self, timestep: Any) -> int:
        gap = (self.timesteps.double().cpu() - float(timestep)).abs()
        near = (gap <= 0.01 + 1e-6 * abs(float(timestep))).nonzero().flatten().tolist()
        if not near:
            raise ValueError(f"timestep {float(timestep):g} is none of this run; use those of scheduler.timesteps")
        near.sort(key=lambda i: (i % self.order != 0, float(gap[i]), i))  # where a step of several calls begins
        return near[0]

    # --- noise -----------------------------------------------------------------------------------------------------------

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """α·x + σ·noise at timesteps, (B,) or one: to train, and to begin from an image.

        Where the first call of a run is made below the start, the first timestep means the start.
        """
        alpha, sigma = self.convention.path.levels(
            self._times(timesteps, len(original_samples)), original_samples.double()
        )
        mixed = alpha.to(original_samples.device) * original_samples + sigma.to(original_samples.device) * noise
        return mixed.to(original_samples.dtype)

    def scale_noise(self, sample: Tensor, timestep: Any, noise: Tensor) -> Tensor:
        """`add_noise`, by the name that flow models call it."""
        return self.add_noise(sample, noise, timestep)

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """v = α·noise − σ·x, what a v-prediction model is trained to answer."""
        a, b = V()(self.convention.path.at(self._times(timesteps, len(sample)), sample.double()))
        return (a.to(sample.device) * sample + b.to(sample.device) * noise).to(sample.dtype)

    def _times(self, timesteps: Any, batch: int) -> Tensor:
        at = _column(timesteps).flatten()
        times = self.convention.clock.time(self.convention.path, at)
        begun = (at - float(self.timesteps[0])).abs() < 1e-3
        if self._grid[0] == 1 and self._own:
            times = torch.where(begun, torch.ones_like(times), times)
        return times.clamp(0, 1).expand(batch)


def _no_network(x: Tensor, t: Tensor) -> Tensor:
    raise NotImplementedError


def _column(values: Any) -> Tensor:
    """Numbers as a 1-D tensor in double precision on the CPU."""
    return torch.as_tensor(values).detach().to("cpu", torch.float64).reshape(-1)


def _even(sigmas: Tensor) -> bool:
    """Whether sigmas are 1, ..., 1/n, evenly spaced: what pipelines pass where nobody chose any."""
    even = torch.linspace(1, 1 / len(sigmas), len(sigmas), dtype=torch.float64)
    return bool((sigmas - even).abs().max() < 1e-5)


def _name_once(options: list[str]) -> None:
    fresh = [option for option in options if option not in _named]
    if fresh:
        _named.update(fresh)
        warnings.warn(
            f"{', '.join(fresh)} of the configuration mean nothing to solvers of ornstein and are left out",
            stacklevel=3,
        )


def _read_tuned(file: str) -> dict[str, Any]:
    """The numbers of a tuned solver. Raises UsageError or OrnsteinError for a file that is missing or holds none."""
    try:
        return read_json(File(os.path.expanduser(file)))
    except FileNotFoundError:
        raise UsageError(f"solver: {file} is missing; make it with `ornstein tune` or tuning.fit") from None
    except (OSError, ValueError) as error:
        raise OrnsteinError(f"solver: {file} cannot be read ({error})") from None
