"""`--dry-run` refuses what the run would refuse, says how long the run takes, and writes nothing."""

import pytest
from importing_data import encoded, write
from safetensors.torch import save_file
from test_job_start import sets, start

from dpt_ray.capacity import step_times
from dpt_ray.capacity.measured import cpu_flops
from dpt_ray.capacity.placement_table import describe_placement, describe_readers
from dpt_ray.capacity.run_size import size_run
from dpt_ray.capacity.sizes import DataSize
from dpt_ray.capacity.step_times import estimate_times, measure_times
from dpt_ray.cli.job import run_job
from dpt_ray.config.load import load_config
from dpt_ray.core.fitting_batch import SAMPLED_ON_CPU
from dpt_ray.core.models.inception import Inception
from dpt_ray.distributed.node_capacity import Node, Wish
from dpt_ray.distributed.placement import Plan, plan_placement

FOLDERS = ["data.num_classes=null", "data.image_size=16", "data.channels=3", "data.train=train", "data.test=test"]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Six and four images of two classes, in folders."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # other tests of this process may have started it
    for split in ("train", "test"):
        names = [*(f"ant/{n}.png" for n in range(6)), *(f"bee/{n}.png" for n in range(4))]
        write(str(tmp_path / split), {name: encoded(colour=place) for place, name in enumerate(names)})
    return tmp_path


def complaint(capsys, *overrides: str, dry: str = "--dry-run") -> str:
    assert start(*sets(*FOLDERS, *overrides), *([dry] if dry else [])) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize("dry", ["--dry-run", ""])
def test_too_many_labels_are_refused_by_the_listing(folders, capsys, dry):
    error = complaint(capsys, "labels.per_class=5", dry=dry)
    assert "5 labelled images of class 'bee' are requested, and it has 4; set labels.per_class to at most 4" in error
    assert sorted(place.name for place in folders.iterdir()) == ["test", "train"]
    assert start(*sets(*FOLDERS, "labels.per_class=4"), "--dry-run") == 0
    prepare = run_job(
        "test", lambda run: [run.train_data], arguments=[*sets(*FOLDERS, "labels.per_class=5"), "--dry-run"]
    )
    assert prepare == 0  # it needs no labels


def test_one_class_is_refused(folders, capsys):
    for number in range(4):
        (folders / "train" / "bee" / f"{number}.png").unlink()
    (folders / "train" / "bee").rmdir()
    assert "train: has images of fewer than two classes" in complaint(capsys, "labels.per_class=2")


def test_devices_that_are_not_there_are_refused(folders, capsys, monkeypatch):
    settings = ["labels.per_class=2", "cluster.gpus_per_worker=1"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert "1 GPUs are needed but this machine has 0" in complaint(capsys, *settings)
    monkeypatch.setenv("RAY_ADDRESS", "cluster:6379")  # may add nodes
    assert start(*sets(*FOLDERS, *settings), "--dry-run") == 0
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert start(*sets(*FOLDERS, *settings), "--dry-run") == 0
    error = complaint(capsys, "labels.per_class=2", "cluster.cpus_per_worker=3", "cluster.local_cpus=2")
    assert "CPUs are needed but this machine has 2" in error


def test_the_time_on_cpus_is_said_and_nothing_of_gpus(folders, capsys):
    assert start(*sets(*FOLDERS, "labels.per_class=2", "cluster.local_cpus=4"), "--dry-run") == 0
    output = capsys.readouterr().out
    assert "time that the stages compute (estimated for 4 CPU cores" in output
    assert "GPU" not in output
    assert "GET/s" not in output


def test_the_plan_names_the_classification_accuracy_score(folders, capsys):
    score = "the classification accuracy score takes at most as long again as stage 3"
    for settings in ([], ["evaluation.classification_score=true"]):
        assert start(*sets(*FOLDERS, "labels.per_class=2", *settings), "--dry-run") == 0
        assert (score in capsys.readouterr().out) == bool(settings)


def test_an_estimate_is_proportional_to_images_and_cores():
    config = load_config(None, ["preset=digits"])
    once = {stage.id: stage.seconds for stage in estimate_times(config, 10, 1000, 1)}
    assert list(once) == ["stage1", "pseudo_labels", "stage2", "pseudo_images", "stage3"]
    stage2 = config.stage2.model_copy(update={"images": 3 * config.stage2.images})
    longer = config.model_copy(update={"stage2": stage2})
    twice = {stage.id: stage.seconds for stage in estimate_times(longer, 10, 1000, 2)}
    assert twice["stage1"] == pytest.approx(once["stage1"] / 2)
    assert twice["stage2"] == pytest.approx(once["stage2"] * 1.5)


def test_metrics_in_the_features_of_inception_are_counted(monkeypatch, tmp_path):
    settings = ["preset=digits", "evaluation.generation=true"]
    own = load_config(None, settings)
    assert "generation_metrics" not in {stage.id for stage in estimate_times(own, 10, 1000, 1)}  # features of stage 1
    weights = tmp_path / "weights.safetensors"
    inception = load_config(None, [*settings, "evaluation.network=inception", f"evaluation.inception={weights}"])
    (found,) = (stage for stage in estimate_times(inception, 10, 1000, 1) if stage.id == "generation_metrics")
    per_image = found.seconds * cpu_flops("vit") / (1000 + 10 * inception.sampling.per_class)
    assert per_image == pytest.approx(2 * 5.7e9, rel=0.05)  # 5.7 billion multiply-adds (Szegedy et al. 2016)
    save_file(Inception().state_dict(), weights)
    monkeypatch.setattr(step_times, "MEASURED_SECONDS", 0.01)
    assert {stage.id for stage in measure_times(inception, 10, 1000, "cpu")} >= {"stage2", "generation_metrics"}


def test_a_measurement_runs_steps_of_each_training(monkeypatch):
    config = load_config(None, ["preset=digits", "stage1.model.width=8", "stage2.model.dim=32"])
    trained = []
    whole = step_times.train

    def train(state, batches, schedule, *others, **options):
        trained.append(schedule.images_per_step)
        whole(state, batches, schedule, *others, **options)

    monkeypatch.setattr(step_times, "train", train)
    monkeypatch.setattr(step_times, "MEASURED_SECONDS", 0.0)
    monkeypatch.setattr(step_times, "_seconds_a_call", lambda call, device: (call(), 0.5)[1])
    times = {stage.id: stage.seconds for stage in measure_times(config, 10, 1000, "cpu")}
    assert times["stage1"] == 0.5 * config.stage1.images / 160
    assert times["stage2"] == 0.5 * config.stage2.images / config.stage2.batch
    assert set(trained) == {160, config.stage2.batch}
    assert times["pseudo_images"] == pytest.approx(0.5 * 40 * 1000 / SAMPLED_ON_CPU)


@pytest.mark.parametrize(
    "settings",
    [
        ["stage1.algorithm.name=supervised", "stage2.conditioning.confidence=true"],
        ["stage2.process=discrete_variance_preserving", "sampling.sampler=dpm_solver_pp_2m"],
        ["stage2.model.name=ddpmpp", "stage2.model.channels=16"],
    ],
)
def test_every_kind_of_training_can_be_measured(monkeypatch, settings):
    monkeypatch.setattr(step_times, "MEASURED_SECONDS", 0.01)
    config = load_config(None, ["preset=digits", "stage1.model.width=8", "stage2.model.dim=32", *settings])
    assert all(stage.seconds > 0 for stage in measure_times(config, 10, 1000, "cpu"))


def test_the_placement_is_that_of_the_run(folders, capsys):
    assert start(*sets(*FOLDERS, "labels.per_class=2", "cluster.local_cpus=8", "cluster.workers=2"), "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    first = lines.index("placement of a training: 2 workers of 3 CPUs, read tasks of 1 CPUs while it streams:")
    assert lines[first + 3].split() == ["1", "of", "8", "CPUs", "2", "2"]


def test_a_cluster_that_cannot_be_reached_leaves_the_placement_open(folders, capsys, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert start(*sets(*FOLDERS, "labels.per_class=2"), "--dry-run") == 0
    line = "placement of a training: not known (RAY_ADDRESS=127.0.0.1:1: no Ray cluster can be reached there"
    assert line in capsys.readouterr().out


def test_nodes_that_host_the_same_are_one_row():
    nodes = [Node(f"{number}", cpus, gpus) for number, (cpus, gpus) in enumerate([(16, 2), (16, 2), (64, 0), (0, 0)])]
    plan = plan_placement(nodes, Wish(4, gpus_per_worker=1))
    assert isinstance(plan, Plan)
    text = "\n".join(describe_placement(plan))
    assert text.startswith("placement of a training: 4 workers of 4 CPUs and 1 GPUs, read tasks of 1 CPUs")
    rows = [line.split() for line in text.splitlines()[3:]]
    assert rows == [
        ["2", "of", "16", "CPUs", "and", "2", "GPUs", "2", "each", "8", "each"],
        ["1", "of", "64", "CPUs", "0", "64"],
    ]


@pytest.mark.parametrize(("cpus", "waits"), [(8, True), (100_000, False)])
def test_cpus_of_readers_are_compared_with_what_training_needs(cpus, waits):
    config = load_config(None, ["preset=digits", "cluster.gpus_per_worker=1", "cluster.keep_mib=0"])
    size = size_run(config, DataSize(50_000, 2_000.0, 1_024, 1_000.0, 10))
    plan = plan_placement([Node("a", 8, 1), Node("b", cpus)], Wish(1, gpus_per_worker=1))
    assert isinstance(plan, Plan)
    (line,) = describe_readers(size, plan)
    assert line.startswith("CPUs for readers: stage ")
    assert f"the nodes leave {4 + cpus}" in line
    assert line.endswith("so training waits for data: add nodes with CPUs") == waits
