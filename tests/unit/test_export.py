"""Exported networks: whole or not there, loaded without Ray, the same images and probabilities, told in a card."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from autoencoder_folders import save_kl
from encoder_folders import save_msn
from exported_runs import CLASSES, write_run
from PIL import Image

import dpt_ray
from dpt_ray.config.generator_section import LatentsConfig
from dpt_ray.config.probe_section import ProbeConfig
from dpt_ray.core.probe.heads import MixtureHead
from dpt_ray.core.probe.mixture import fit_mixture
from dpt_ray.core.probe.normalisation import normalise_rows
from dpt_ray.core.probe.principal import principal_components
from dpt_ray.core.seeds import derive_seed
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.export import folder as export_folder
from dpt_ray.export.folder import CONFIG_FILE, WEIGHTS_FILE
from dpt_ray.export.onnx_graph import onnx_files
from dpt_ray.networks.classifier import Classifier
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.generator import Generator, generator_file
from dpt_ray.networks.latent_decoder import latent_description
from dpt_ray.networks.pretrained.autoencoders import find_autoencoder
from dpt_ray.networks.pretrained.encoders import open_encoder
from dpt_ray.networks.probe import Probe, head_file, probe_file
from dpt_ray.networks.snapshots import snapshot_files
from dpt_ray.pipeline.export_run import export_classifier, export_generator

REPOSITORY = Path(__file__).parents[2]
IMAGES = torch.randint(256, (7, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def generator_folder(run, tmp_path_factory):
    return export_generator(run[0], str(tmp_path_factory.mktemp("exports") / "generator"))


@pytest.fixture(scope="module")
def classifier_folder(run, tmp_path_factory):
    return export_classifier(run[0], str(tmp_path_factory.mktemp("exports") / "classifier"), onnx=True)


def told(call, *arguments, **options) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_no_settings_draw_the_runs_pseudo_images_and_settings_draw_others(run, generator_folder):
    url, config = run
    network = Generator(f"{stores.join(url, '..', '..')}/generator/g/{NETWORK_FILE}")
    seed = derive_seed("sampling", config.sampling.seed, config.seed)
    wanted = network.draw(config.sampling, seed, [(2, 0), (0, 0), (2, 1)])
    generator = dpt_ray.load_generator(generator_folder, "cpu")
    drawn = generator.sample([2, 0, 2])
    assert (drawn.dtype, drawn.shape) == (torch.uint8, (3, 1, 8, 8))
    assert torch.equal(drawn, wanted)
    assert torch.equal(generator.sample(["cat", "ant", "cat"], seed=2), wanted)
    assert torch.equal(generator.sample(torch.tensor([2]), first=1), wanted[2:])
    assert (generator.sample([2, 0, 2], batch=2).int() - wanted.int()).abs().max() <= 1
    for other in ({"seed": 3}, {"guidance_scale": 5.0}, {"steps": 2}, {"sampler": "euler"}):
        assert not torch.equal(generator.sample([2, 0, 2], **other), wanted), other
    assert generator.sample([]).shape == (0, 1, 8, 8)


def test_what_cannot_be_sampled_is_one_line(generator_folder):
    generator = dpt_ray.load_generator(generator_folder, "cpu")
    assert told(generator.sample, [3]) == "there is no class 3; ids go from 0 to 2"
    assert told(generator.sample, [-1]).startswith("there is no class -1")
    assert told(generator.sample, [0.5]).startswith("there is no class 0.5")
    assert told(generator.sample, "dog") == "there is no class 'dog'; there are: ant, bee, cat"
    assert told(generator.sample, 0, steps=0).startswith("steps = 0 is not allowed: ")
    assert told(generator.sample, 0, sampler="magic").startswith("sampler = 'magic' is not allowed: ")
    assert told(generator.sample, 0, guidance_scale=-1).startswith("guidance_scale = -1 is not allowed: ")
    assert "noise levels only; take heun" in told(generator.sample, 0, sampler="dpm_solver_pp_fast")
    assert "first must not be negative" in told(generator.sample, 0, first=-1)
    assert "batch must be at least 1" in told(generator.sample, 0, batch=0)
    assert "the device 'nonsense' cannot be used here" in told(dpt_ray.load_generator, generator_folder, "nonsense")


def test_guidance_of_a_generator_without_label_dropout_is_refused_and_its_card_says_so(tmp_path):
    settings = ("stage2.label_dropout=0", "sampling.guidance_scale=0")
    url, _ = write_run(tmp_path / "r", *settings)
    exported = export_generator(url, str(tmp_path / "e"))
    generator = dpt_ray.load_generator(exported)
    assert "was trained without label dropout" in told(generator.sample, [0], guidance_scale=0.4)
    assert generator.sample([0]).shape == (1, 1, 8, 8)
    card = (tmp_path / "e" / "README.md").read_text()
    assert "so it cannot be guided" in card
    assert "| guidance scale | 0: no guidance |" in card


def test_an_average_and_an_interval_that_the_run_sampled_with_are_exported(tmp_path):
    settings = ("stage2.ema_snapshots=1", "sampling.ema_width=0.1", "sampling.guidance_interval=[0.5, 9]")
    url, config = write_run(tmp_path / "r", *settings)
    folder = tmp_path / "r" / "generator" / "g"
    state = generator_training(config.stage2, image_size=8, channels=1, num_classes=3, seed=1)
    for average in state.power_averages:
        average.update(state.model, 0, 1)
    state.images_seen = 1
    for name, content in snapshot_files(state):
        stores.write_bytes(f"{folder}/{name}", content)
    averaged = Generator(str(folder / NETWORK_FILE), ema_width=0.1)
    expected = averaged.draw(config.sampling, derive_seed("sampling", 2, 5), [(1, 0)])
    exported = export_generator(url, str(tmp_path / "e"))
    assert torch.equal(dpt_ray.load_generator(exported, "cpu").sample("bee"), expected)
    assert not torch.equal(
        Generator(str(folder / NETWORK_FILE)).draw(config.sampling, derive_seed("sampling", 2, 5), [(1, 0)]), expected
    )
    assert "| guidance scale | 0.4 at noise levels 0.5 to 9, in the paper" in (tmp_path / "e" / "README.md").read_text()


def test_the_early_network_of_autoguidance_goes_along(tmp_path):
    settings = ("stage2.ema_snapshots=4", "sampling.guidance_method=autoguidance", "sampling.weak_snapshot=2")
    url, config = write_run(tmp_path / "r", *settings, "sampling.guidance_scale=300")
    folder = tmp_path / "r" / "generator" / "g"
    state = generator_training(config.stage2, image_size=8, channels=1, num_classes=3, seed=1)
    for images in (1, 2, 3, 4):
        torch.nn.init.normal_(state.power_averages[1].model.to_pixels.weight, std=images)
        state.images_seen = images
        for name, content in snapshot_files(state):
            stores.write_bytes(f"{folder}/{name}", content)
    expected = Generator(str(folder / NETWORK_FILE)).draw(config.sampling, derive_seed("sampling", 2, 5), [(1, 0)])
    exported = export_generator(url, str(tmp_path / "e"))
    shutil.rmtree(tmp_path / "r")
    generator = dpt_ray.load_generator(exported, "cpu")
    assert torch.equal(generator.sample("bee"), expected)
    assert not torch.equal(generator.sample("bee", guidance_scale=0), expected)


def test_the_autoencoder_of_latents_goes_along(tmp_path):
    latents = LatentsConfig(autoencoder=save_kl(tmp_path / "autoencoder"), downsampling=2, scale=0.5)
    url, config = write_run(tmp_path / "r", f"stage2.latents.autoencoder={latents.autoencoder}",
                            "stage2.latents.downsampling=2", "stage2.latents.scale=0.5")  # fmt: skip
    form = {"image_size": 4, "channels": 4, "num_classes": 3}
    state = generator_training(config.stage2, **form, seed=0)
    described = latent_description(find_autoencoder(latents.autoencoder), latents)
    file = tmp_path / "r" / "generator" / "g" / NETWORK_FILE
    file.write_bytes(generator_file(config.stage2, {**form, **described}, state))
    expected = Generator(str(file)).draw(config.sampling, derive_seed("sampling", 2, 5), [(1, 0)])
    exported = export_generator(url, str(tmp_path / "e"))
    shutil.rmtree(tmp_path / "autoencoder")
    assert torch.equal(dpt_ray.load_generator(exported, "cpu").sample("bee"), expected)
    assert "a copy in `autoencoder/`" in (tmp_path / "e" / "README.md").read_text()


def test_ray_and_torch_stay_out_until_they_are_needed(generator_folder, classifier_folder):
    script = (
        "import sys, dpt_ray\n"
        "assert not {'torch', 'ray', 'pydantic'} & set(sys.modules), 'import dpt_ray is not light'\n"
        f"images = dpt_ray.load_generator({generator_folder!r}, 'cpu').sample([0, 1], guidance_scale=0.4, seed=1)\n"
        f"labels = dpt_ray.load_classifier({classifier_folder!r}, 'cpu').predict(images)\n"
        "assert images.shape == (2, 1, 8, 8) and labels.shape == (2,)\n"
        "assert 'torch' in sys.modules\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] == 'ray'], 'Ray was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_card_and_the_configuration_tell_where_it_is_from(run, generator_folder, classifier_folder):
    card = Path(generator_folder, "README.md").read_text()
    for text in (
        "# Class-conditional image generator: tiny",
        "3: ant, bee, cat",
        "| guidance scale | 0.4",
        "pseudo-labels of all images, by a small_cnn (freematch) that saw 12 true labels",
        "| images by label | 9, 10, 11 |",
        "| pseudo-label accuracy | 0.625 |",
        "| Fréchet distance (features of stage 1) | 1.5 |",
        'dpt_ray.load_generator("generator")',
    ):
        assert text in card, text
    assert "stage 3 accuracy" not in card
    config = json.loads(Path(generator_folder, CONFIG_FILE).read_text())
    assert config["sampling"]["guidance_scale"] == 0.4
    assert config["artifact"] == "generator/g"
    assert config["files"].keys() == {WEIGHTS_FILE, "README.md"}
    card = Path(classifier_folder, "README.md").read_text()
    assert "12 true labels, and those of 36 pseudo images" in card
    assert "| stage 3 accuracy | 0.75 |" in card
    assert "stage 1 accuracy" not in card
    assert "`model.onnx` takes `images`" in card


def test_the_classifier_is_the_runs_and_reads_files(run, classifier_folder, tmp_path):
    root = stores.join(run[0], "..", "..")
    classifier = dpt_ray.load_classifier(classifier_folder, "cpu")
    expected = Classifier(f"{root}/classifier/c1/{NETWORK_FILE}")(IMAGES)[0]
    assert torch.equal(classifier.probabilities(IMAGES), expected)
    assert torch.equal(classifier.predict(IMAGES, batch=2), expected.argmax(1))
    assert classifier.classes == CLASSES
    first = export_classifier(run[0], str(tmp_path / "first"), stage=1)
    assert not torch.equal(dpt_ray.load_classifier(first).probabilities(IMAGES), expected)
    Image.fromarray(np.full((16, 24), 200, np.uint8)).save(tmp_path / "grey.png")
    read = classifier.read([str(tmp_path / "grey.png")])
    assert torch.equal(read, torch.full((1, 1, 8, 8), 200, dtype=torch.uint8))
    wrong = told(classifier.probabilities, IMAGES.float())
    assert wrong == (
        "images must be uint8 (N, 1, 8, 8), not float32 (7, 1, 8, 8); classifier.read(files) makes them so"
    )
    assert "not uint8 (7, 1, 8, 4)" in told(classifier.probabilities, IMAGES[..., :4])
    assert classifier.probabilities(IMAGES[:0]).shape == (0, 3)


def probabilities_of(file, images: torch.Tensor) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list(CLASSES)
    return session.run(None, {"images": images.numpy()})[0]


def test_an_exported_classifier_reads_16_bit_images_as_its_training_did(tmp_path):
    run, _ = write_run(tmp_path / "root")
    values = np.linspace(0, 4095, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "scan.png")
    scans = {}
    for white in (None, 4095):
        url = stores.join(str(tmp_path / "root"), "dataset", "d")
        index = read_index(url)
        shards = tuple(replace(shard, white=white) for shard in index.shards)
        stores.write_json(f"{url}/index.json", replace(index, shards=shards).to_json(url))
        classifier = dpt_ray.load_classifier(export_classifier(run, str(tmp_path / f"exported-{white}")))
        scans[white] = classifier.read([str(tmp_path / "scan.png")]).numpy()[0, 0]
    assert np.array_equal(scans[4095], values >> 4)
    assert np.array_equal(scans[None], values >> 8)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_onnxruntime_agrees_with_torch_for_any_number_of_images(classifier_folder, rows):
    expected = dpt_ray.load_classifier(classifier_folder, "cpu").probabilities(IMAGES[:rows])
    computed = probabilities_of(Path(classifier_folder, "model.onnx"), IMAGES[:rows])
    np.testing.assert_allclose(computed, expected.numpy(), atol=1e-6)


def test_large_weights_lie_beside_the_graph(classifier_folder, tmp_path):
    classifier = dpt_ray.load_classifier(classifier_folder, "cpu")
    files = onnx_files(classifier.network.graph(), {"size": 8, "channels": 1}, CLASSES, largest=100)
    assert files.keys() == {"model.onnx", "model.onnx.data"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    computed = probabilities_of(tmp_path / "model.onnx", IMAGES)
    np.testing.assert_allclose(computed, classifier.probabilities(IMAGES).numpy(), atol=1e-6)


def test_a_probe_takes_its_encoder_along_and_becomes_one_graph(tmp_path):
    url, _ = write_run(tmp_path / "r")
    encoder = save_msn(tmp_path / "encoder")
    weight = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    config = ProbeConfig(encoder=encoder, resize=12, crop=8, blocks=2)
    file = tmp_path / "r" / "classifier" / "c1" / NETWORK_FILE
    file.write_bytes(probe_file(config, 3, 0.1, weight))
    images = torch.randint(256, (5, 3, 12, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    expected = Probe(str(file))(images)[0]
    exported = Path(export_classifier(url, str(tmp_path / "e"), onnx=True))
    (tmp_path / "encoder").rename(tmp_path / "gone")
    classifier = dpt_ray.load_classifier(str(exported), "cpu")
    assert classifier.image_shape == (3, 12, 12)
    assert torch.equal(classifier.probabilities(images), expected)
    np.testing.assert_allclose(probabilities_of(exported / "model.onnx", images), expected.numpy(), atol=1e-5)
    assert "linear probe" in (exported / "README.md").read_text()


@pytest.mark.parametrize("shared", [True, False])
def test_a_mixture_is_exported_as_a_linear_probe_is(tmp_path, shared):
    url, _ = write_run(tmp_path / "r")
    config = ProbeConfig(encoder=save_msn(tmp_path / "encoder"), resize=8, crop=8, head="mixture")
    images = torch.randint(256, (60, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    features = normalise_rows(open_encoder(config.encoder, crop=8, blocks=1)(images))
    projection = principal_components([features], 4)
    labels = torch.full((60,), -1)
    labels[:6] = torch.arange(6) % 3
    fit = fit_mixture(projection(features), labels, 3, components=4, shared=shared)
    file = tmp_path / "r" / "classifier" / "c1" / NETWORK_FILE
    file.write_bytes(head_file(config, 2.0, MixtureHead.fitted(projection, fit.mixture)))
    expected = Probe(str(file))(images)[0]
    tempered = (fit.mixture.log_joint(projection(features).double()).softmax(1) @ fit.mixture.classes).sqrt()
    torch.testing.assert_close(expected, (tempered / tempered.sum(1, keepdim=True)).float(), rtol=1e-3, atol=1e-4)
    exported = Path(export_classifier(url, str(tmp_path / "e"), onnx=True))
    assert torch.equal(dpt_ray.load_classifier(str(exported), "cpu").probabilities(images), expected)
    np.testing.assert_allclose(probabilities_of(exported / "model.onnx", images), expected.numpy(), atol=1e-4)
    assert "Gaussian mixture" in (exported / "README.md").read_text()


class Killed(BaseException):
    pass


def test_an_interrupted_export_is_no_export_and_the_same_command_ends_it(run, tmp_path, monkeypatch):
    destination, write = str(tmp_path / "e"), stores.write_bytes

    def die_before_the_card(url, content):
        if url.endswith("README.md"):
            raise Killed
        write(url, content)

    monkeypatch.setattr(export_folder.stores, "write_bytes", die_before_the_card)
    with pytest.raises(Killed):
        export_generator(run[0], destination)
    monkeypatch.setattr(export_folder.stores, "write_bytes", write)
    assert (tmp_path / "e" / WEIGHTS_FILE).exists()
    (tmp_path / "e" / f".{WEIGHTS_FILE}.0123456789abcdef.partial").write_bytes(b"half")
    assert "holds no exported generator" in told(dpt_ray.load_generator, destination)
    export_generator(run[0], destination)
    assert {path.name for path in (tmp_path / "e").iterdir()} == {WEIGHTS_FILE, "README.md", CONFIG_FILE}
    dpt_ray.load_generator(destination).sample([0])


def test_a_folder_with_something_in_it_is_left_alone(run, generator_folder, tmp_path):
    before = Path(generator_folder, CONFIG_FILE).stat().st_mtime_ns
    assert "holds a model already; remove it, or export to another folder" in told(
        export_classifier, run[0], generator_folder
    )
    assert Path(generator_folder, CONFIG_FILE).stat().st_mtime_ns == before
    (tmp_path / "thesis.tex").touch()
    assert "holds other files (thesis.tex)" in told(export_generator, run[0], str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_any_storage_will_do(run):
    exported = export_generator(run[0], "memory://exports/generator")
    assert exported == "memory://exports/generator"
    assert dpt_ray.load_generator(exported, "cpu").sample(["bee"]).shape == (1, 1, 8, 8)


def test_what_is_no_export_is_refused_by_name(run, generator_folder, classifier_folder, tmp_path):
    assert "holds a classifier, not a generator" in told(dpt_ray.load_generator, classifier_folder)
    assert "holds a generator, not a classifier" in told(dpt_ray.load_classifier, generator_folder)
    assert "holds no exported generator" in told(dpt_ray.load_generator, str(tmp_path / "nowhere"))
    assert "holds neither a finished run (run.json)" in told(export_generator, str(tmp_path), str(tmp_path / "e"))
    assert "does not exist; give the name of a run" in told(export_generator, str(tmp_path / "x"), str(tmp_path / "e"))
    training = stores.join(stores.absolute_url(run[0]).rsplit("/", 2)[0], "classifier", "c0")
    assert "holds a classifier, not a generator" in told(export_generator, training, str(tmp_path / "e"))
    assert not (tmp_path / "e").exists()
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in Path(generator_folder).iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    weights = bytearray((copy / WEIGHTS_FILE).read_bytes())
    weights[-1] ^= 1
    (copy / WEIGHTS_FILE).write_bytes(weights)
    assert "its checksum is not that of the exported file" in told(dpt_ray.load_generator, str(copy))
    config = json.loads((copy / CONFIG_FILE).read_text())
    for change, complaint in (
        ({"format": "other"}, "is no configuration of an exported generator"),
        ({"format_version": 2}, "is of version 2; install a newer dpt_ray"),
        ({"files": {}}, "lacks model.safetensors"),
    ):
        (copy / CONFIG_FILE).write_text(json.dumps(config | change))
        assert complaint in told(dpt_ray.load_generator, str(copy))
    Path(copy, WEIGHTS_FILE).write_bytes(Path(generator_folder, WEIGHTS_FILE).read_bytes())
    (copy / CONFIG_FILE).write_text(json.dumps(config | {"classes": ["ant"]}))
    assert "1 classes are named, the network has 3" in told(dpt_ray.load_generator, str(copy))


def test_a_training_without_a_run_and_a_bare_file_load_as_well(run, tmp_path):
    training = stores.join(stores.absolute_url(run[0]).rsplit("/", 2)[0], "generator", "g")
    exported = export_generator(training, str(tmp_path / "e"))
    generator = dpt_ray.load_generator(exported, "cpu")
    assert generator.classes == CLASSES
    assert "no run has sampled from it" in (tmp_path / "e" / "README.md").read_text()
    drawn = generator.sample([1], steps=2)
    bare = dpt_ray.load_generator(stores.join(training, NETWORK_FILE), "cpu")
    assert bare.classes == ("0", "1", "2")
    assert bare.sample([1], steps=2).shape == drawn.shape


def test_the_job_says_where_it_wrote(run, tmp_path):
    command = [sys.executable, str(REPOSITORY / "jobs" / "export.py"), "generator", run[0], str(tmp_path / "e")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"generator: {tmp_path}/e\n"), done.stderr


def test_credentials_in_a_url_stay_out():
    assert stores.without_credentials("https://me:secret@host/data?token=x") == "https://host/data"
    assert stores.without_credentials("s3://bucket/data") == "s3://bucket/data"
    assert stores.without_credentials("images/train") == "images/train"
