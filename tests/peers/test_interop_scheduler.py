"""`Scheduler` inside diffusers' own pipelines, with tiny random parts. Needs the extra `peers`."""

import json
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein import exact, path, sample, solvers, tuning
from ornstein.errors import OrnsteinError, UsageError
from ornstein.interop import diffusers as ours

diffusers = pytest.importorskip("diffusers", reason="needs the extra `peers`")
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

F64 = torch.float64
SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
TABLES = ("abm", "dpmpp", "unipc", "deis", "heun", "ddim", "euler", "rk4", "ancestral", "em", "sde-dpmpp", "er-sde")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def shaken(model: Any) -> Any:
    torch.manual_seed(0)
    for weight in model.parameters():
        with torch.no_grad():
            weight.add_(0.05 * torch.randn_like(weight))
    return model.eval()


def unet() -> Any:
    return shaken(
        diffusers.UNet2DModel(
            sample_size=8,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=8,
        )
    )


def vae(channels: int = 4, **options: Any) -> Any:
    return shaken(
        diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=channels, **options)
    )


class Counted:
    """How often a model was called."""

    def __init__(self, model: Any) -> None:
        self.calls = 0
        model.register_forward_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.calls += 1


def seeds(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


# --- pipelines -------------------------------------------------------------------------------------------------------


def ddpm() -> tuple[Any, Any, Callable[..., Tensor]]:
    pipe = diffusers.DDPMPipeline(unet(), diffusers.DDPMScheduler())

    def run(count: int, steps: int, first: int = 0) -> Tensor:
        generators = seeds(first + count)[first:]
        return torch.tensor(pipe(count, generators, num_inference_steps=steps, output_type="np").images)

    return pipe, pipe.unet, run


def dit() -> tuple[Any, Any, Callable[..., Tensor]]:
    model = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=8,
    )
    pipe = diffusers.DiTPipeline(shaken(model), vae(), diffusers.DDIMScheduler())

    def run(count: int, steps: int, first: int = 0) -> Tensor:
        labels = [(7 * i) % 1000 for i in range(first, first + count)]
        generators = seeds(first + count)[first:]
        return torch.tensor(pipe(labels, 2.0, generators, num_inference_steps=steps, output_type="np").images)

    return pipe, pipe.transformer, run


def stable_diffusion(kind: str = "StableDiffusionPipeline") -> tuple[Any, Any, Callable[..., Tensor]]:
    model = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        norm_num_groups=8,
        attention_head_dim=4,
    )
    pipe = getattr(diffusers, kind)(
        vae(),
        None,
        None,
        shaken(model),
        diffusers.PNDMScheduler(**SCALED, skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )

    def run(count: int, steps: int, first: int = 0, **options: Any) -> Tensor:
        text = torch.stack([torch.randn(5, 16, generator=g) for g in seeds(first + count)[first:]])
        more = {"height": 8, "width": 8} if kind == "StableDiffusionPipeline" else options
        return torch.tensor(
            pipe(
                prompt_embeds=text,
                negative_prompt_embeds=text * 0,
                num_inference_steps=steps,
                generator=seeds(first + count)[first:],
                output_type="np",
                **more,
            ).images
        )

    return pipe, pipe.unet, run


def with_pooled_text(
    pipe: Any, side: int, negative: bool, count: int, steps: int, first: int = 0, size: bool = True, **options: Any
) -> Tensor:
    """Images of a pipeline that takes text and pooled text, and a negative of both."""
    draws = [(torch.randn(5, 16, generator=g), torch.randn(12, generator=g)) for g in seeds(first + count)[first:]]
    text, pooled = (torch.stack(list(part)) for part in zip(*draws, strict=True))
    away = {"negative_prompt_embeds": text * 0, "negative_pooled_prompt_embeds": pooled * 0} if negative else {}
    made = pipe(
        prompt_embeds=text,
        pooled_prompt_embeds=pooled,
        num_inference_steps=steps,
        generator=seeds(first + count)[first:],
        output_type="np",
        **({"height": side, "width": side} if size else {}),
        **away,
        **options,
    )
    return torch.tensor(made.images)


def stable_diffusion_xl(kind: str = "StableDiffusionXLPipeline") -> tuple[Any, Any, Callable[..., Tensor]]:
    """Its network takes pooled text and sizes besides (`added_cond_kwargs`)."""
    model = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        norm_num_groups=8,
        attention_head_dim=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=12 + 6 * 4,
    )
    scheduler = diffusers.EulerDiscreteScheduler(**SCALED)
    pipe = getattr(diffusers, kind)(vae(), None, None, None, None, shaken(model), scheduler)
    return pipe, pipe.unet, partial(with_pooled_text, pipe, 8, True, size=kind == "StableDiffusionXLPipeline")


def stable_diffusion_3(kind: str = "StableDiffusion3Pipeline") -> tuple[Any, Any, Callable[..., Tensor]]:
    model = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=12,
        out_channels=4,
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe = getattr(diffusers, kind)(shaken(model), scheduler, vae(shift_factor=0.1), None, None, None, None, None, None)

    return pipe, pipe.transformer, partial(with_pooled_text, pipe, 8, True)


def flux(kind: str = "FluxPipeline") -> tuple[Any, Any, Callable[..., Tensor]]:
    model = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=12,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    pipe = getattr(diffusers, kind)(scheduler, vae(shift_factor=0.1), None, None, None, None, shaken(model))

    return pipe, pipe.transformer, partial(with_pooled_text, pipe, 16, False)


PIPELINES = (ddpm, dit, stable_diffusion, stable_diffusion_xl, stable_diffusion_3, flux)


@pytest.mark.parametrize(
    ("make", "solver"),  # the other pipelines give their generators to the start alone
    [*((make, "abm") for make in PIPELINES), (ddpm, "ancestral"), (stable_diffusion, "ancestral")],
)
def test_pipelines_run_count_calls_and_do_not_depend_on_the_batch(make: Any, solver: str, tmp_path: Path) -> None:
    pipe, model, run = make()
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = ours.Scheduler.from_config(pipe.scheduler.config, solver=solver)
    counted = Counted(model)
    batch = run(8, 5)
    assert counted.calls == 5
    assert batch.isfinite().all()
    assert (batch[0] - batch[1]).abs().max() > 1e-3
    alone = torch.cat([run(1, 5, first=i) for i in (0, 3, 7)])
    assert (alone - batch[[0, 3, 7]]).abs().max() <= 1e-4
    pipe.save_pretrained(tmp_path)
    again = type(pipe).from_pretrained(
        tmp_path, **dict.fromkeys(name for name, part in pipe.components.items() if part is None)
    )
    assert type(again.scheduler) is ours.Scheduler
    assert all(again.scheduler.config[key] == value for key, value in pipe.scheduler.config.items() if key[0] != "_")
    again.scheduler.set_timesteps(5)
    pipe.scheduler.set_timesteps(5)
    assert torch.equal(again.scheduler.timesteps, pipe.scheduler.timesteps)


@pytest.mark.parametrize("strength", [0.3, 0.75, 1.0])
@pytest.mark.parametrize("solver", ["abm", "dpmpp", "heun", "ddim"])
def test_image_to_image_begins_where_the_strength_says(strength: float, solver: str) -> None:
    pipe, model, run = stable_diffusion("StableDiffusionImg2ImgPipeline")
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = ours.Scheduler.from_config(pipe.scheduler.config, solver=solver)
    images = torch.stack([torch.rand(3, 8, 8, generator=g) for g in seeds(2)])
    counted = Counted(model)
    batch = run(2, 10, image=images, strength=strength)
    steps = int(10 * strength)
    assert counted.calls == (2 * steps - 1 if solver == "heun" else steps)
    assert batch.isfinite().all()
    assert (run(1, 10, first=1, image=images[1:], strength=strength) - batch[1:]).abs().max() <= 1e-4


@pytest.mark.parametrize("strength", [0.3, 1.0])
@pytest.mark.parametrize("solver", ["abm", "dpmpp"])
@pytest.mark.parametrize(
    ("make", "kind", "side"),
    [
        (stable_diffusion_xl, "StableDiffusionXLImg2ImgPipeline", 8),
        (stable_diffusion_3, "StableDiffusion3Img2ImgPipeline", 8),
        (flux, "FluxImg2ImgPipeline", 16),
    ],
)
def test_image_to_image_of_later_pipelines(make: Any, kind: str, side: int, solver: str, strength: float) -> None:
    pipe, model, run = make(kind)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = ours.Scheduler.from_config(pipe.scheduler.config, solver=solver)
    images = torch.stack([torch.rand(3, side, side, generator=g) for g in seeds(2)])
    counted = Counted(model)
    batch = run(2, 10, image=images, strength=strength)
    assert counted.calls == int(10 * strength)
    assert batch.isfinite().all()
    assert (batch[0] - batch[1]).abs().max() > 1e-3
    assert (run(1, 10, first=1, image=images[1:], strength=strength) - batch[1:]).abs().max() <= 1e-4


# --- exactness -------------------------------------------------------------------------------------------------------

MEANS = torch.tensor([[-1.0, 0.4], [1.0, 0.1]], dtype=F64)


def mixture(p: path.Path) -> exact.GaussianMixture:
    return exact.GaussianMixture([0.3, 0.7], MEANS, 0.05, p)


def run(
    scheduler: Any, answer: Callable[[Tensor, Tensor], Tensor], x: Tensor, begin: int = 0, **options: Any
) -> Tensor:
    for t in scheduler.timesteps[begin:]:
        x = scheduler.step(answer(scheduler.scale_model_input(x, t), t), t, x, **options).prev_sample
    return x


@pytest.mark.parametrize("solver", TABLES)
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample", "flow_prediction"])
def test_every_table_solver_is_the_librarys_own_run(solver: str, kind: str) -> None:
    scheduler = ours.Scheduler.from_config({**SCALED, "prediction_type": kind}, solver=solver)
    p = scheduler.convention.path
    model, method = mixture(p), scheduler.solver

    def answer(x: Tensor, t: Tensor) -> Tensor:
        at = scheduler.convention.clock.time(p, t.double().reshape(1))[0]
        return model(x, at).of(scheduler.convention.target(p.at(at, x)))

    x = torch.randn(6, 2, dtype=F64, generator=torch.Generator().manual_seed(3))
    scheduler.set_timesteps(7)
    fresh = torch.Generator().manual_seed(5)
    theirs = run(scheduler, answer, x, generator=torch.Generator().manual_seed(5))
    expected = sample(
        model,
        start=x,
        solver=method,
        steps=7,
        noise=lambda x, t, s: torch.randn(x.shape, generator=fresh, dtype=x.dtype),
    )
    assert (theirs - expected).abs().max() < 1e-4 * (1 + expected.abs().max())  # timesteps are in single precision


def test_edm_configurations() -> None:
    config = diffusers.EDMEulerScheduler(sigma_data=0.5).config
    scheduler = ours.Scheduler.from_config(config)
    p = scheduler.convention.path
    model = mixture(p)

    def answer(scaled: Tensor, c_noise: Tensor) -> Tensor:
        sigma = (4 * c_noise.double()).exp()
        size = (sigma**2 + 0.25).sqrt()
        x = scaled * size
        clean = model(x, float(sigma / 80)).clean
        return (clean - 0.25 / size**2 * x) / (sigma * 0.5 / size)

    scheduler.set_timesteps(9)
    x = torch.randn(6, 2, dtype=F64) * scheduler.init_noise_sigma
    expected = sample(model, start=x, solver=scheduler.solver, steps=9)
    assert (run(scheduler, answer, x) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("begin", [0, 2, 5])
@pytest.mark.parametrize("said", [True, False])
def test_a_run_may_begin_at_any_step(begin: int, said: bool) -> None:
    scheduler = ours.Scheduler.from_config(SCALED, solver="dpmpp")
    model = mixture(scheduler.convention.path)
    scheduler.set_timesteps(8)
    if said:
        scheduler.set_begin_index(begin)
    x = torch.randn(6, 2, dtype=F64)
    at = scheduler.timesteps[begin].repeat(6)
    noisy = scheduler.add_noise(x, torch.randn(6, 2, dtype=F64), at)
    result = run(scheduler, lambda x, t: model(x, (float(t) + 1) / 1000).noise, noisy, begin)
    grid = solvers.DPMSolverPP().grid(scheduler.convention.path, 8)[begin:]
    expected = sample(model, start=noisy, solver=scheduler.solver, grid=grid)
    assert (result - expected).abs().max() < 1e-4


def test_noise_is_added_as_by_diffusers() -> None:
    x, noise, at = torch.randn(4, 2), torch.randn(4, 2), torch.tensor([0, 500, 999, 3])
    scheduler, theirs = ours.Scheduler.from_config(SCALED), diffusers.DDPMScheduler(**SCALED)
    assert torch.allclose(scheduler.add_noise(x, noise, at), theirs.add_noise(x, noise, at), rtol=0, atol=1e-5)
    assert torch.allclose(scheduler.get_velocity(x, noise, at), theirs.get_velocity(x, noise, at), rtol=0, atol=1e-5)
    flow = ours.Scheduler.from_config(diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0).config)
    mixed = flow.scale_noise(x, torch.tensor([250.0]), noise)
    assert torch.allclose(mixed, 0.75 * x + 0.25 * noise, rtol=0, atol=1e-6)


def test_half_precision_keeps_its_pairs_in_single() -> None:
    scheduler = ours.Scheduler.from_config(SCALED)
    model = mixture(scheduler.convention.path)
    scheduler.set_timesteps(12)
    x = torch.randn(64, 2)

    def answer(x: Tensor, t: Tensor) -> Tensor:
        return model(x.double(), (float(t) + 1) / 1000).noise.to(x.dtype)

    full = run(scheduler, answer, x)
    scheduler.set_timesteps(12)
    rough = run(scheduler, answer, x.bfloat16())
    assert rough.dtype == torch.bfloat16
    assert all(part.dtype == torch.float32 for pair in scheduler._pairs.values() for part in pair)
    gap = (rough.float() - full).abs()
    assert gap.median() < 0.02


def test_grids_by_hand_and_shifts() -> None:
    scheduler = ours.Scheduler.from_config(SCALED)
    scheduler.set_timesteps(timesteps=[900, 500, 100])
    assert scheduler.timesteps.tolist() == [900, 500, 100]
    assert scheduler.sigmas[-1] == 0
    bar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)
    ratio = ((1 - bar) / bar).sqrt()[[900, 500, 100]]
    assert torch.allclose(scheduler.sigmas[:-1], ratio, rtol=1e-4)
    scheduler.set_timesteps(sigmas=[*ratio.tolist(), 0.0])
    assert torch.allclose(scheduler.timesteps.float(), torch.tensor([900.0, 500.0, 100.0]), atol=0.1)
    for bad in ([100, 500], [5000, 100], [100, 100]):
        with pytest.raises(ValueError, match="fall strictly"):
            scheduler.set_timesteps(timesteps=bad)
    with pytest.raises(ValueError, match="needs num_inference_steps"):
        scheduler.set_timesteps()
    with pytest.raises(ValueError, match="not both"):
        scheduler.set_timesteps(timesteps=[1], sigmas=[1])
    flow = ours.Scheduler.from_config(diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0).config)
    flow.set_timesteps(sigmas=[1.0, 0.6])
    assert torch.allclose(flow.sigmas, torch.tensor([1.0, 1.8 / 2.2, 0.0]))
    flow.set_timesteps(6)
    own = flow.timesteps.clone()
    flow.set_timesteps(sigmas=torch.linspace(1, 1 / 6, 6).numpy())
    assert torch.equal(flow.timesteps, own)
    dynamic = ours.Scheduler.from_config(diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True).config)
    dynamic.set_timesteps(6, mu=float(torch.tensor(3.0).log()))
    assert torch.allclose(dynamic.timesteps, own)


def test_whole_timesteps_for_networks_that_look_them_up() -> None:
    scheduler = ours.Scheduler.from_config(SCALED, discrete=True)
    for steps in (3, 20, 200):
        scheduler.set_timesteps(steps)
        assert scheduler.timesteps.dtype == torch.int64
        assert scheduler.timesteps.min() >= 0
        assert scheduler.timesteps[0] == 999


def test_options_without_meaning_are_named_once() -> None:
    from ornstein.interop.diffusers import scheduler as module

    module._named.clear()
    config = {**diffusers.DDPMScheduler(thresholding=True).config}
    with pytest.warns(UserWarning, match="clip_sample, thresholding of the configuration mean nothing"):
        ours.Scheduler.from_config(config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.Scheduler.from_config(config)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'ode' has no table.*use abm, dpmpp"):
        ours.Scheduler.from_config(SCALED, solver="ode")
    with pytest.raises(UsageError, match="did you mean 'dpmpp'"):
        ours.Scheduler.from_config(SCALED, solver="dpmp")
    with pytest.raises(UsageError, match="takes a configuration"):
        ours.Scheduler.from_config(diffusers.DDPMScheduler())
    for other in (
        diffusers.ScoreSdeVeScheduler(),
        diffusers.IPNDMScheduler(),
        diffusers.CMStochasticIterativeScheduler(),
    ):
        with pytest.raises(UsageError, match="is no β-table, flow or EDM level"):
            ours.Scheduler.from_config(other.config)
    with pytest.raises(UsageError, match="run the other way"):
        ours.Scheduler.from_config({"shift": 1.0, "invert_sigmas": True})
    with pytest.raises(UsageError, match="is missing"):
        ours.Scheduler.from_config(SCALED, solver=f"tuned:{tmp_path / 'none.json'}")
    (tmp_path / "bad.json").write_text('{"table": 3}')
    with pytest.raises(OrnsteinError, match="does not fit this scheduler"):
        ours.Scheduler.from_config(SCALED, solver=f"tuned:{tmp_path / 'bad.json'}")
    own = ours.Scheduler.from_config(SCALED, solver=solvers.DEIS(2))
    with pytest.raises(UsageError, match="was given as an object and cannot be saved"):
        own.save_pretrained(tmp_path / "saved")
    own.set_timesteps(2)
    x = torch.randn(1, 2)
    for t in own.timesteps:
        own.step(x, t, x)
    with pytest.raises(ValueError, match="all 2 steps of this run are made"):
        own.step(x, t, x)
    own.set_timesteps(2)
    with pytest.raises(ValueError, match="is none of this run"):
        own.step(x, 17.3, x)


# --- tuned -----------------------------------------------------------------------------------------------------------


def test_a_solver_tuned_to_the_pipelines_own_denoiser(tmp_path: Path) -> None:
    scheduler = diffusers.DDPMScheduler(**SCALED)
    denoiser = ours.denoiser(unet(), scheduler)
    tuned = tuning.fit(
        denoiser, (3, 8, 8), 4, starts=16, held_out=8, batch_size=8, teacher=20, iterations=3, gain=False
    )
    (tmp_path / "tuned.json").write_text(json.dumps(tuned.to_dict()))
    pipe = diffusers.DDPMPipeline(denoiser.network.network, scheduler)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = ours.Scheduler.from_config(scheduler.config, solver=f"tuned:{tmp_path / 'tuned.json'}")
    counted = Counted(pipe.unet)
    pipe.scheduler.set_timesteps(4)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        result = run(pipe.scheduler, lambda x, t: pipe.unet(x, t).sample, x)
    assert counted.calls == 4
    expected = sample(denoiser, start=x, solver=tuned, steps=4)
    assert (result - expected).norm() <= 1e-4 * expected.norm()
    pipe.save_pretrained(tmp_path / "pipe")
    again = diffusers.DDPMPipeline.from_pretrained(tmp_path / "pipe")
    assert torch.equal(again.scheduler.timesteps, pipe.scheduler.timesteps)
    with pytest.raises(ValueError, match="tuned for 4 steps, not 5"):
        pipe.scheduler.set_timesteps(5)
    with pytest.raises(ValueError, match="own timesteps"):
        pipe.scheduler.set_timesteps(timesteps=[900, 100])
    with pytest.raises(OrnsteinError, match="other noise levels"):
        ours.Scheduler.from_config({"shift": 1.0}, solver=f"tuned:{tmp_path / 'tuned.json'}")


def test_a_step_costs_less_than_a_third_of_diffusers() -> None:
    torch.set_num_threads(1)
    x, out = torch.randn(1, 4, 64, 64), torch.randn(1, 4, 64, 64)

    def seconds(scheduler: Any) -> float:
        best = float("inf")
        for _ in range(15):
            scheduler.set_timesteps(20)
            begun = time.perf_counter()
            for t in scheduler.timesteps:
                scheduler.step(out, t, x, return_dict=False)
            best = min(best, time.perf_counter() - begun)
        return best

    theirs = seconds(diffusers.DPMSolverMultistepScheduler(**SCALED))
    assert seconds(ours.Scheduler.from_config(SCALED, solver="dpmpp")) <= theirs / 3
