"""Models of diffusers and graphs of ONNX as runs: what the command makes of them is what the library makes. Needs the peers."""

import importlib.util
import json
import shutil
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import ornstein
from ornstein import interop, sample, solvers
from ornstein.cli import main
from ornstein.runs.imported import take

diffusers = pytest.importorskip("diffusers", reason="needs the extra `peers`")
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


def small() -> ModuleType:
    """Tiny models, in the module beside this one."""
    spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("test_interop_diffusers.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TINY = small()


def saved(model: Any, scheduler: Any, place: Path) -> Path:
    torch.manual_seed(0)
    TINY.shaken(model).save_pretrained(place)
    scheduler.save_pretrained(place / "scheduler")
    return place


def test_a_pipeline_as_a_run_draws_what_its_own_denoiser_does(tmp_path: Path) -> None:
    pipe = diffusers.DDPMPipeline(TINY.shaken(TINY.unet()), diffusers.DDPMScheduler())
    pipe.save_pretrained(tmp_path / "pipe")
    run = take(tmp_path / "pipe", tmp_path / "run")
    assert (run.spec.shape, run.spec.dtype, run.spec.low, run.spec.high) == ((3, 8, 8), "uint8", 0, 255)
    x = torch.randn(4, 3, 8, 8)
    expected = sample(interop.diffusers.denoiser(pipe), start=x, solver="dpmpp", steps=10)
    assert np.array_equal(run.sample(start=x, solver="dpmpp", steps=10), run.spec.from_model(expected))


def test_early_names_of_attention_and_parts_and_the_hubs_cache(tmp_path: Path) -> None:
    folder = saved(TINY.unet(), diffusers.DDPMScheduler(), tmp_path / "unet")
    plain = take(folder, tmp_path / "plain")
    weights = folder / "diffusion_pytorch_model.safetensors"
    from safetensors.torch import load_file

    early = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(weights)
    renamed = {}
    for name, tensor in state.items():
        for new, old in early.items():
            name = name.replace(f".{new}.", f".{old}.")
        renamed[name] = tensor
    assert renamed.keys() != state.keys()
    halves = sorted(renamed)[: len(renamed) // 2]
    weights.unlink()
    save_file({name: renamed[name] for name in halves}, folder / "a.safetensors")
    save_file({name: part for name, part in renamed.items() if name not in halves}, folder / "b.safetensors")
    index = {"weight_map": {name: "a.safetensors" if name in halves else "b.safetensors" for name in renamed}}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "main", tmp_path / "models--a--b" / "blobs"
    shutil.copytree(folder, snapshot)
    blobs.mkdir()
    for number, file in enumerate(sorted(file for file in snapshot.rglob("*") if file.is_file())):
        file.rename(blobs / str(number))
        file.symlink_to(blobs / str(number))
    x = torch.randn(2, 3, 8, 8)
    for number, place in enumerate((folder, snapshot)):
        run = take(place, tmp_path / f"run-{number}")
        assert torch.equal(run.denoiser(x, 0.5).clean, plain.denoiser(x, 0.5).clean)


def test_classes_of_a_dit_and_their_guidance(tmp_path: Path) -> None:
    model = TINY.dit()
    run = take(saved(model, diffusers.DDIMScheduler(), tmp_path / "dit"), tmp_path / "run")
    assert len(run.spec.classes) == 10
    denoiser = interop.diffusers.denoiser(model, diffusers.DDIMScheduler())
    label, null = torch.tensor([3, 3]), torch.tensor([10, 10])
    x = torch.randn(2, 4, 8, 8)
    guided = ornstein.guidance.ClassifierFree(denoiser.given(label), denoiser.given(null), 2.0)
    expected = sample(guided, start=x, steps=4)
    made = run.sample(start=x, steps=4, label=3, guide=ornstein.guidance.GuidanceConfig(2.0))
    assert np.abs(made - run.spec.from_model(expected)).max() < 1e-5 * np.abs(made).max()


def test_prompts_are_bound_and_guided_away_from(tmp_path: Path) -> None:
    model, scheduler = TINY.conditional_unet(), diffusers.DDIMScheduler(beta_schedule="scaled_linear")
    folder = saved(model, scheduler, tmp_path / "sd")
    prompt, none = torch.randn(1, 7, 16), torch.randn(1, 7, 16)
    save_file({"encoder_hidden_states": prompt}, tmp_path / "prompt.safetensors")
    save_file({"encoder_hidden_states": none}, tmp_path / "none.safetensors")
    words = [
        "--bind",
        str(tmp_path / "prompt.safetensors"),
        "--away",
        str(tmp_path / "none.safetensors"),
        "--guidance",
        "7",
    ]
    assert main(["import", str(folder), *words, "--out", str(tmp_path / "run")]) == 0
    run = ornstein.load(tmp_path / "run")
    x = torch.randn(3, 4, 8, 8)
    denoiser = interop.diffusers.denoiser(model, scheduler)
    guided = ornstein.guidance.ClassifierFree(
        denoiser.given(prompt.expand(3, -1, -1)), denoiser.given(none.expand(3, -1, -1)), 7.0
    )
    made, expected = run.denoiser(x, 0.7).clean, guided(x, 0.7).clean
    assert float((made - expected).abs().max() / expected.abs().max()) < 1e-5
    assert main(["sample", str(tmp_path / "run"), "-n", "2", "--steps", "3", "--out", str(tmp_path / "s.npz")]) == 0


def test_a_solver_tuned_by_the_command_is_read_by_the_scheduler(tmp_path: Path) -> None:
    folder, out = saved(TINY.unet(), diffusers.DDPMScheduler(), tmp_path / "unet"), tmp_path / "four.json"
    words = ["--steps", "4", "--teacher", "12", "--starts", "48", "--seconds", "60"]
    assert main(["tune", str(folder), *words, "--out", str(out)]) == 0
    assert main(["tune", str(folder), *words]) == 2  # a foreign folder is not written into
    scheduler = interop.diffusers.Scheduler.from_config(diffusers.DDPMScheduler().config, solver=f"tuned:{out}")
    scheduler.set_timesteps(4)
    x = start = torch.randn(2, 3, 8, 8)
    network = diffusers.UNet2DModel.from_pretrained(folder)
    with torch.inference_mode():
        for t in scheduler.timesteps:
            x = scheduler.step(network(x, t).sample, t, x).prev_sample
    run = take(folder, tmp_path / "run")
    tuned = ornstein.tuning.Tuned.from_dict(json.loads(out.read_text()), run.model.path)
    expected = sample(run.denoiser, start=start, solver=tuned, steps=4)
    assert float((x - expected).abs().max() / expected.abs().max()) < 1e-5


def test_an_exact_likelihood_and_a_posterior_of_a_foreign_model(tmp_path: Path) -> None:
    run = take(saved(TINY.unet(), diffusers.DDPMScheduler(), tmp_path / "unet"), tmp_path / "run")
    items = run.sample(2, steps=4)
    assert np.isfinite(run.log_prob(items, steps=8)).all()
    np.save(tmp_path / "items.npy", np.repeat(items, 50, 0))
    words = ["--data", str(tmp_path / "items.npy"), "-n", "100", "--levels", "3", "--device", "cpu"]
    assert main(["diagnose", str(tmp_path / "run"), *words]) == 0
    assert [*(tmp_path / "run" / "evaluation").glob("diagnos*")]
    np.save(tmp_path / "item.npy", items[0])
    words = ["--operator", "blur", "--steps", "3", "--out", str(tmp_path / "restored.npz")]
    assert main(["restore", str(tmp_path / "run"), str(tmp_path / "item.npy"), *words]) == 0


def test_a_published_few_step_model_as_a_run(tmp_path: Path) -> None:
    pytest.importorskip("terrain_diffusion")
    pytest.importorskip("onnxruntime")
    file = str(files("terrain_diffusion").joinpath("weights/terrain_consistency_unet_difficulty100.onnx"))
    words = ["--convention", "edm", "--bind", "difficulty=0.5", "--range", "-1,1", "--out", str(tmp_path / "run")]
    assert main(["import", file, *words]) == 0
    run = ornstein.load(tmp_path / "run")
    x = 80 * torch.randn(2, 1, 128, 128)
    plain = interop.onnx.denoiser(file, interop.edm.convention()).given({"difficulty": torch.full((2,), 0.5)})
    assert torch.equal(run.denoiser(x, 1.0).clean, plain(x, 1.0).clean)
    assert run.sample(start=x, solver=solvers.DDIM(), steps=1).shape == (2, 128, 128, 1)
