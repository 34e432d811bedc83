"""Plug-ins in whole jobs: workers in other processes find what is installed, and what a notebook registered."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from plugin_packages import install_toy
from sklearn.datasets import load_digits
from tiny_runs import IN_A_WORKER, arguments, artifact, described, files, start_job

import dpt_ray
from dpt_ray import plugins
from dpt_ray.cli.job import run_job
from dpt_ray.core.diffusion.samplers import SAMPLERS
from dpt_ray.core.semi_supervised.algorithms.fixmatch import FixMatch
from dpt_ray.data.shards.archive_samples import iter_samples

SHORT = ["stage1.images=1600", "stage2.images=640", "stage3.images=1600", "sampling.per_class=4", "sampling.steps=3"]
TOY = [
    "data.format=npz",
    "stage1.model={name: plain_cnn, hidden: 4}",
    "stage1.algorithm={name: soft_labels, threshold: 0.3}",
    "stage2.model={name: tiny_unet, hidden: 6}",
    "sampling.sampler=ddim",
]


def write_digits(folder: Path) -> list[str]:
    """Write digits as files of the toy format; return the settings that name them."""
    digits = load_digits()
    images, labels = (digits.images * 15).astype(np.uint8)[..., None], digits.target
    for name, part in (("train", slice(0, 400)), ("test", slice(400, 500))):
        np.savez(folder / f"{name}.npz", images=images[part], labels=labels[part])
    return [f"data.{name}={folder / name}.npz" for name in ("train", "test")]


@pytest.mark.slow
def test_a_job_runs_with_plug_ins_that_are_installed_outside_the_package(tmp_path):
    site, root = install_toy(tmp_path / "site"), tmp_path / "results"
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    data = [*write_digits(tmp_path), "data.on_overlap=report"]
    job = start_job("dpt_full", root, *SHORT, *TOY, *data, PYTHONPATH=path)
    output, _ = job.communicate(timeout=900)
    assert job.returncode == 0, output
    run = json.loads((root / "runs" / "digits" / "run.json").read_text())["artifacts"]
    settings = {
        id: json.loads((root / address / "manifest.json").read_text())["settings"] for id, address in run.items()
    }
    for id in ("classifier", "retrained"):
        training = settings[id]["training"]
        assert training["model"]["plug-in"] == training["algorithm"]["plug-in"] == "dpt-toy 1.0"
    assert settings["generator"]["training"]["model"] == {"name": "tiny_unet", "hidden": 6, "plug-in": "dpt-toy 1.0"}
    assert (settings["pseudo_images"]["sampler"], settings["pseudo_images"]["plug-in"]) == ("ddim", "dpt-toy 1.0")
    shards = [json.loads(path.read_text()) for path in root.glob("shards/*/manifest.json")]
    assert sorted(shard["facts"]["images"] for shard in shards) == [100, 400]
    assert {shard["settings"]["plug-in"] for shard in shards} == {"dpt-toy 1.0"}


@pytest.fixture
def nothing_registered(monkeypatch):
    monkeypatch.setattr(plugins, "_registered", {})


def test_inference_finds_what_a_notebook_registered(finished, nothing_registered):
    dpt_ray.register_plugin("samplers", "mine", SAMPLERS["euler"], version="1")

    def pseudo_images(sampler: str) -> dict[str, bytes]:
        given = ["sampling.per_class=4", "sampling.steps=3", f"sampling.sampler={sampler}"]
        assert run_job("test", lambda run: [run.pseudo_images], None, arguments(finished, *given)) == 0
        _, run = described(finished, *given)
        drawn = files(artifact(finished, run.pseudo_images), "shards/*.tar")
        return {s.key: s.files["png"] for name, data in drawn.items() for s in iter_samples(data, name)}

    drawn = pseudo_images("mine")
    assert len(drawn) == 40
    assert drawn == pseudo_images("euler")


def test_training_finds_what_a_notebook_registered(finished, nothing_registered):
    dpt_ray.register_plugin("algorithms", "mine", FixMatch, version="1")

    def weights(algorithm: str, *place: str) -> bytes:
        given = [*place, "stage1.images=320", f"stage1.algorithm={{name: {algorithm}, threshold: 0.5}}"]
        assert run_job("test", lambda run: [run.classifier], None, arguments(finished, *given)) == 0
        _, run = described(finished, *given)
        return files(artifact(finished, run.classifier), "network.safetensors")["network.safetensors"]

    assert weights("mine", IN_A_WORKER) == weights("fixmatch")
