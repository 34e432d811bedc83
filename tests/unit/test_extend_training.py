"""A longer training goes on from a shorter one and ends bit by bit as one from the start, or says why it does not."""

import json
import shutil
import uuid
from pathlib import Path

import pytest
from run_in_process import without_ray
from safetensors.torch import load
from settings_reads import train_here

from dpt_ray.config.load import load_config
from dpt_ray.core.training.loop import Schedule, snapshot_images
from dpt_ray.data.storage import stores
from dpt_ray.distributed.kept_state import find_state
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.snapshots import SNAPSHOT_FOLDER
from dpt_ray.pipeline.artifacts.damage import find_damage
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.collect_garbage import find_garbage, remove_garbage
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.dry_run import describe_plan
from dpt_ray.pipeline.graph import make_all

TINY = [
    "preset=digits",
    "data.images_per_shard=1000",
    "stage1.model.width=4",
    "stage1.images=320",
    "stage1.optimizer={schedule: constant, warmup_images: 480}",
    "stage2.model.dim=16",
    "stage2.model.heads=2",
    "stage2.images=120",
    "stage2.optimizer.warmup_images=160",
]
IDS = {"stage1": "classifier", "stage2": "generator"}


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """A function that trains a stage in a root, and returns its artifact."""
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch)
        train_here(patch)

        def make(root: str, stage: str, *settings: str, id: str | None = None) -> Artifact:
            config = load_config(None, [*TINY, f"root={root}"], settings)
            step = getattr(build(config), id or IDS[stage])
            if id is None and not stores.is_remote(root) and not stores.exists(root):
                shutil.copytree(prepared[stage], root)
            return make_all([step], ArtifactStore(root), config.cluster, print)[step]

        prepared = {stage: str(tmp_path_factory.mktemp(stage)) for stage in IDS}
        make(prepared["stage1"], "stage1", id="labelled")
        make(prepared["stage2"], "stage2", id="pseudo_labels")
        yield make


@pytest.fixture
def root(tmp_path) -> str:
    return str(tmp_path / "results")


def network(artifact: Artifact) -> bytes:
    return stores.read_bytes(artifact.file(NETWORK_FILE))


def state_file(artifact: Artifact) -> Path:
    name = find_state(artifact.url)
    assert name is not None
    return Path(artifact.file("state", f"{name}.safetensors"))


def lines(capsys, *words: str) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if any(word in line for word in words)]


STAGES = {
    "freematch": ("stage1", 320, 640, []),
    "flexmatch": ("stage1", 300, 650, ["stage1.algorithm.name=flexmatch"]),
    "supervised": ("stage1", 64, 320, ["stage1.algorithm.name=supervised"]),
    "generator": ("stage2", 120, 250, ["stage2.ema_half_life=100", "stage2.ema_ramp=0.5"]),
    "generator with snapshots": ("stage2", 256, 512, ["stage2.ema_snapshots=4"]),
    "generator of EDM": (
        "stage2",
        128,
        256,
        [
            "stage2.model={name: ddpmpp, channels: 8, multipliers: [1, 1], blocks: 1, dropout: 0.1}",
            "stage2.augmentation=0.1",
            "stage2.optimizer.name=adam",
        ],
    ),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_training_that_is_extended_is_one_from_the_start(train, tmp_path, capsys, name):
    stage, shorter, longer, settings = STAGES[name]
    first = train(str(tmp_path / "a"), stage, *settings, f"{stage}.images={shorter}")
    capsys.readouterr()
    extended = train(str(tmp_path / "a"), stage, *settings, f"{stage}.images={longer}")
    (told,) = lines(capsys, "goes on from", "from the beginning")
    assert f"goes on from {first.address} after {first.facts['images_seen']:,} images" in told
    whole = train(str(tmp_path / "b"), stage, *settings, f"{stage}.images={longer}")
    assert lines(capsys, "goes on from", "from the beginning") == []
    assert extended.address == whole.address != first.address
    assert extended.facts["images_seen"] == whole.facts["images_seen"] > first.facts["images_seen"]
    assert network(extended) == network(whole) != network(first)
    states = [load(state_file(artifact).read_bytes()) for artifact in (extended, whole)]
    assert states[0].keys() == states[1].keys()
    assert all(value.equal(states[1][name]) for name, value in states[0].items())
    snapshots = [sorted(Path(artifact.url, SNAPSHOT_FOLDER).glob("*")) for artifact in (extended, whole)]
    assert [file.name for file in snapshots[0]] == [file.name for file in snapshots[1]]
    assert [file.read_bytes() for file in snapshots[0]] == [file.read_bytes() for file in snapshots[1]]
    assert bool(snapshots[0]) == ("ema_snapshots" in "".join(settings))
    assert not Path(extended.url, "checkpoints").exists()
    history = json.loads(Path(extended.url, "history.json").read_bytes())
    assert history[-1]["images"] == whole.facts["images_seen"]
    assert sorted({row["images"] for row in history}) == [row["images"] for row in history]


OBSTACLES = {
    "schedule": ("stage1", 320, ["stage1.optimizer.schedule=cosine_7_16"], "optimizer.schedule=cosine_7_16 follows"),
    "algorithm": ("stage1", 320, ["stage1.algorithm.name=pseudo_label"], "algorithm.name=pseudo_label may follow"),
    "snapshots": ("stage2", 512, ["stage2.ema_snapshots=3"], "snapshots (ema_snapshots) are of other times"),
    "no state": ("stage1", 320, ["cluster.keep_training_state=false"], "kept no state (cluster.keep_training_state)"),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_what_follows_the_length_starts_from_the_beginning_and_says_why(train, root, capsys, name):
    stage, length, settings, reason = OBSTACLES[name]
    first = train(root, stage, *settings, f"{stage}.images={length}")
    capsys.readouterr()
    longer = train(root, stage, *settings, f"{stage}.images=640")
    (told,) = lines(capsys, "goes on from", "from the beginning")
    assert f"starts from the beginning, not from {first.address}: " in told
    assert reason in told
    whole = train(f"{root}-whole", stage, *settings, f"{stage}.images=640")
    assert network(longer) == network(whole)


def test_other_settings_and_a_shorter_length_are_no_extension(train, root, capsys):
    train(root, "stage1")
    for other in ("stage1.seed=1", "stage1.ema_decay=0.5", "stage1.algorithm.threshold=0.9", "seed=3"):
        algorithm = ["stage1.algorithm.name=fixmatch"] if "threshold" in other else []
        train(root, "stage1", "stage1.images=640", *algorithm, other)
        train(root, "stage1", "stage1.images=160")
    assert lines(capsys, "goes on from", "from the beginning") == []


def test_other_parents_are_named(train, root, capsys):
    first = train(root, "stage1")
    train(root, "stage1", "stage1.images=640", "labels.per_class=5")
    (told,) = lines(capsys, "goes on from", "from the beginning")
    assert f"not from {first.address}: it was trained with other labelled" in told


def test_another_version_of_the_step_is_no_extension(train, root, capsys, monkeypatch):
    train(root, "stage1")
    monkeypatch.setattr("dpt_ray.pipeline.steps.train_classifier.TrainClassifier.version", 99)
    train(root, "stage1", "stage1.images=640")
    assert lines(capsys, "goes on from", "from the beginning") == []


def test_the_longest_training_is_gone_on_from(train, root, capsys):
    train(root, "stage1", "stage1.images=160")
    second = train(root, "stage1", "stage1.images=320")
    train(root, "stage1", "stage1.images=640")
    told = lines(capsys, "goes on from")
    assert len(told) == 2
    assert second.address in told[1]


def test_a_length_within_the_same_step_trains_nothing(train, root):
    first = train(root, "stage1", "stage1.images=310")
    second = train(root, "stage1", "stage1.images=315")
    assert first.address != second.address
    assert network(first) == network(second)


def test_a_damaged_state_is_not_used(train, root, capsys):
    first = train(root, "stage1")
    file = state_file(first)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    longer = train(root, "stage1", "stage1.images=640")
    (told,) = lines(capsys, "goes on from", "from the beginning")
    assert f"not from {first.address}: its state of {len(content):,} bytes is damaged" in told
    assert network(longer) == network(train(f"{root}-whole", "stage1", "stage1.images=640"))


def test_an_extension_that_was_killed_goes_on_from_its_own_checkpoint(train, root, capsys, monkeypatch):
    train(root, "stage1")

    def be_killed(folder: str, files: object) -> None:
        raise KeyboardInterrupt

    settings = ["stage1.images=960", "cluster.checkpoint_seconds=0.000001"]
    with monkeypatch.context() as patch:
        patch.setattr("dpt_ray.distributed.training_worker.store_files", be_killed)
        with pytest.raises(KeyboardInterrupt):
            train(root, "stage1", *settings)
    assert len(lines(capsys, "goes on from")) == 1
    extended = train(root, "stage1", *settings)
    assert lines(capsys, "goes on from", "from the beginning") == []
    assert network(extended) == network(train(f"{root}-whole", "stage1", *settings))


def test_states_are_removed_on_request_and_counted(train, root):
    first = train(root, "stage1")
    assert find_garbage(root) == []
    (one,) = [one for one in find_garbage(root, states=True) if "state" in one.address]
    assert one.address == f"{first.address}/state"
    assert one.bytes == state_file(first).stat().st_size
    assert remove_garbage(root, [one], lambda removed: None) == one.bytes
    assert find_state(first.url) is None
    assert find_damage(first) is None
    assert train(root, "stage1").manifest == first.manifest


def test_a_dry_run_says_what_it_goes_on_from(train, root):
    first = train(root, "stage1")
    config = load_config(None, [*TINY, f"root={root}", "stage1.images=640"])
    plan = describe_plan(config, [build(config).classifier], ArtifactStore(root))
    assert f"goes on from {first.address} after 320 images" in plan
    assert not Path(root, build(config).classifier.address).exists()


@pytest.mark.parametrize(("total", "per_step", "snapshots"), [(640, 64, 4), (650, 64, 4), (100, 64, 5), (1000, 10, 7)])
def test_the_times_of_snapshots_are_those_of_the_loop(total, per_step, snapshots):
    schedule = Schedule(total, per_step, per_step, 0.0, snapshots)
    due = {(step + 1) * per_step for step in range(schedule.num_steps) if schedule.snapshot_due(step)}
    assert snapshot_images(total, per_step, snapshots) == due


def test_a_state_is_kept_in_any_store(train):
    root = f"memory://{uuid.uuid4().hex}"
    first = train(root, "stage1")
    second = train(root, "stage1", "stage1.images=640")
    assert find_state(first.url) != find_state(second.url) is not None
