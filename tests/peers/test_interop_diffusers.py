"""diffusers' models with random weights, wrapped: ten steps are those of diffusers' own loops. Needs the extra `peers`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein import sample, solvers
from ornstein.errors import OrnsteinError, UsageError
from ornstein.interop import diffusers as ours

diffusers = pytest.importorskip("diffusers", reason="needs the extra `peers`")
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

STEPS = 10


def unet(**options: Any) -> Any:
    sizes = {
        "sample_size": 8,
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
    }
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    return diffusers.UNet2DModel(**sizes, **blocks, norm_num_groups=8, attention_head_dim=8, **options)


def conditional_unet(**options: Any) -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        norm_num_groups=8,
        attention_head_dim=4,
        **options,
    )


def dit(**options: Any) -> Any:
    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "sample_size": 8, "patch_size": 2}
    return diffusers.DiTTransformer2DModel(**sizes, in_channels=4, out_channels=8, num_embeds_ada_norm=10, **options)


def sd3() -> Any:
    return diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=12,
        out_channels=4,
    )


def flux(guidance: bool = True) -> Any:
    return diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=12,
        guidance_embeds=guidance,
        axes_dims_rope=(4, 4, 8),
    )


def shaken(model: Any) -> Any:
    """Random weights everywhere: some layers begin at zero, where every mistake would be hidden."""
    torch.manual_seed(0)
    for weight in model.parameters():
        with torch.no_grad():
            weight.add_(0.05 * torch.randn_like(weight))
    return model.eval()


def agree(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.isfinite().all()
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


@torch.no_grad()
def ddim(scheduler: Any, x: Tensor, network: Any) -> tuple[Tensor, Tensor]:
    """diffusers' loop, and its times."""
    scheduler.set_timesteps(STEPS)
    for i in scheduler.timesteps:
        x = scheduler.step(network(x, i), i, x).prev_sample
    return x, torch.cat([(scheduler.timesteps + 1) / scheduler.config.num_train_timesteps, torch.zeros(1)])


SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
TABLES: list[dict[str, Any]] = [
    {},
    SCALED,
    {"beta_schedule": "squaredcos_cap_v2"},
    {"trained_betas": torch.linspace(1e-3, 0.02, 500).tolist(), "num_train_timesteps": 500},
    {**SCALED, "rescale_betas_zero_snr": True},
]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table)[:60])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_unets_on_every_table_and_prediction(table: dict[str, Any], kind: str) -> None:
    scheduler = diffusers.DDIMScheduler(
        **table, prediction_type=kind, clip_sample=False, timestep_spacing="trailing", set_alpha_to_one=True
    )
    model, x = shaken(unet()), torch.randn(2, 3, 8, 8)
    if kind == "epsilon" and "rescale_betas_zero_snr" in table:
        with pytest.raises(ValueError, match="signal is zero"):
            ours.denoiser(model, scheduler)
        return
    theirs, times = ddim(scheduler, x, lambda x, i: model(x, i).sample)
    agree(sample(ours.denoiser(model, scheduler), start=x, solver=solvers.DDIM(), grid=times), theirs)


def test_labels_of_unets() -> None:
    scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    model, x, labels = shaken(unet(num_class_embeds=5)), torch.randn(2, 3, 8, 8), torch.tensor([3, 1])
    theirs, times = ddim(scheduler, x, lambda x, i: model(x, i, labels).sample)
    for condition in (labels, {"class_labels": labels}):
        wrapped = ours.denoiser(model, scheduler.config, condition)
        agree(sample(wrapped, start=x, solver=solvers.DDIM(), grid=times), theirs)


@pytest.mark.parametrize("xl", [False, True])
def test_stable_diffusion(xl: bool) -> None:
    more = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 4 * 6 + 12,
    }
    model = shaken(conditional_unet(**(more if xl else {})))
    scheduler = diffusers.DDIMScheduler(**SCALED, clip_sample=False, timestep_spacing="trailing")
    x, text = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 16)
    added = {"text_embeds": torch.randn(2, 12), "time_ids": torch.rand(2, 6)} if xl else None
    theirs, times = ddim(scheduler, x, lambda x, i: model(x, i, text, added_cond_kwargs=added).sample)
    condition = {"encoder_hidden_states": text, "added_cond_kwargs": added} if xl else text
    wrapped = ours.denoiser(model, scheduler, condition)
    agree(sample(wrapped, start=x, solver=solvers.DDIM(), grid=times), theirs)
    agree(sample(wrapped, start=x, solver=solvers.DDIM(), grid=times, batch_size=1), theirs)


def test_dit_with_a_learned_variance_and_its_null_label() -> None:
    scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    model, x, labels = shaken(dit()), torch.randn(2, 4, 8, 8), torch.tensor([3, 10])
    theirs, times = ddim(scheduler, x, lambda x, i: model(x, i.expand(2), class_labels=labels).sample[:, :4])
    wrapped = ours.denoiser(model, scheduler, labels)
    agree(sample(wrapped, start=x, solver=solvers.DDIM(), grid=times), theirs)
    assert wrapped.network.classes == 10


@torch.no_grad()
def flow(scheduler: Any, x: Tensor, network: Any, **options: Any) -> tuple[Tensor, Tensor]:
    scheduler.set_timesteps(STEPS, **options)
    for i in scheduler.timesteps:
        x = scheduler.step(network(x, i), i, x).prev_sample
    return x, scheduler.sigmas


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_stable_diffusion_3(shift: float) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    model, x = shaken(sd3()), torch.randn(2, 4, 8, 8)
    condition = {"encoder_hidden_states": torch.randn(2, 5, 16), "pooled_projections": torch.randn(2, 12)}
    theirs, sigmas = flow(scheduler, x, lambda x, i: model(x, timestep=i.expand(2), **condition).sample)
    wrapped = ours.denoiser(model, scheduler, condition)
    times = wrapped.path.time(2 * ((1 - sigmas.double()) / sigmas.double()).log())
    agree(sample(wrapped, start=x, solver=solvers.DDIM(), grid=times), theirs)


@pytest.mark.parametrize("guided", [False, True])
def test_flux(guided: bool) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    model, x = shaken(flux(guided)), torch.randn(2, 4, 8, 6)
    condition = {"encoder_hidden_states": torch.randn(2, 5, 16), "pooled_projections": torch.randn(2, 12)}
    if guided:
        condition["guidance"] = torch.tensor([3.5, 2.0])
    pipeline = diffusers.FluxPipeline
    ids = pipeline._prepare_latent_image_ids(2, 4, 3, "cpu", torch.float32)

    def network(tokens: Tensor, i: Tensor) -> Tensor:
        return model(tokens, timestep=i.expand(2) / 1000, img_ids=ids, txt_ids=torch.zeros(5, 3), **condition).sample

    packed = pipeline._pack_latents(x, 2, 4, 8, 6)
    theirs, sigmas = flow(scheduler, packed, network, mu=0.7)
    wrapped = ours.denoiser(model, scheduler, condition)
    result = sample(wrapped, start=x, solver=solvers.Euler(), grid=sigmas.double())
    agree(result, pipeline._unpack_latents(theirs, 8 * 8, 6 * 8, 8))
    with pytest.raises(ValueError, match="even height and width, not 7×6"):
        wrapped(torch.randn(2, 4, 7, 6), 0.5)


@pytest.mark.parametrize("shift", [None, 0.3])
def test_codecs(shift: float | None) -> None:
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8,), norm_num_groups=4, latent_channels=4, scaling_factor=0.3, shift_factor=shift
    ).eval()
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    codec = ours.codec(vae)
    latents = codec.encode(images)
    expected = (vae.encode(images).latent_dist.mode() - (shift or 0)) * 0.3
    assert torch.equal(latents, expected)
    assert torch.allclose(codec.decode(latents), vae.decode(latents / 0.3 + (shift or 0)).sample, rtol=0, atol=1e-6)
    with pytest.raises(UsageError, match="is no autoencoder"):
        ours.codec(object())


# --- sources ---------------------------------------------------------------------------------------------------------


def test_pipelines_folders_and_models_are_one_denoiser(tmp_path: Path) -> None:
    scheduler = diffusers.DDPMScheduler(prediction_type="v_prediction")
    pipe = diffusers.DDPMPipeline(shaken(unet()), scheduler)
    pipe.save_pretrained(tmp_path / "pipe")
    pipe.unet.save_pretrained(tmp_path / "model")
    x = torch.randn(2, 3, 8, 8)
    expected = ours.denoiser(pipe)(x, 0.5)
    for source, given in (
        (tmp_path / "pipe", None),
        (str(tmp_path / "pipe"), None),
        (tmp_path / "model", scheduler),
        (pipe.unet, dict(scheduler.config)),
    ):
        assert torch.equal(ours.denoiser(source, given)(x, 0.5).clean, expected.clean)


def test_sources_that_are_refused(tmp_path: Path) -> None:
    scheduler = diffusers.DDPMScheduler()
    pipe = diffusers.DDPMPipeline(shaken(unet()), scheduler)
    pipe.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    (pickled,) = (tmp_path / "pickled" / "unet").glob("*.bin")
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(ours.denoiser(tmp_path / "pickled")(x, 0.5).clean, ours.denoiser(pipe)(x, 0.5).clean)
    pickled.rename(pickled.with_suffix(".pkl"))
    with pytest.raises(UsageError, match="may hold code: load them in your own process and pass the object"):
        ours.denoiser(tmp_path / "pickled")
    with pytest.raises(UsageError, match="is no folder"):
        ours.denoiser(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"config\.json is missing"):
        ours.denoiser(tmp_path / "empty")
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "config.json").write_text('{"_class_name": "os.system"}')
    with pytest.raises(UsageError, match=r"'os\.system' is not one of"):
        ours.denoiser(tmp_path / "strange")
    pipe.save_pretrained(tmp_path / "damaged")
    weights = next((tmp_path / "damaged" / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(OrnsteinError, match="cannot be read"):
        ours.denoiser(tmp_path / "damaged")
    with pytest.raises(UsageError, match="give scheduler="):
        ours.denoiser(pipe.unet)
    with pytest.raises(UsageError, match="Linear is not one of"):
        ours.denoiser(torch.nn.Linear(1, 1), scheduler)
