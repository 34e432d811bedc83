"""Early stopping of groups, evaluations during a training, and how many runs share a cluster."""

import json
from types import SimpleNamespace

import pytest
import ray

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.distributed import ray_internals, resources, shared_cluster
from dpt_ray.distributed.evaluation_callback import EvaluationCallback
from dpt_ray.distributed.node_capacity import LEAST_READER_CPUS
from dpt_ray.distributed.trial_messages import TrialReport
from dpt_ray.distributed.tuning import EarlierReports, GroupedHalving, Halving
from dpt_ray.errors import UserError

RULES = Halving(first_share=0.25, reduction_factor=2.0)


def _report(scheduler: GroupedHalving, name: str, score: float, share: float = 0.25, group: str = "seed 0") -> str:
    trial = SimpleNamespace(trial_id=f"tune-{name}", config={"name": name})
    report = TrialReport(group, "stage3", share, score)
    return scheduler.on_trial_result(None, trial, {"report": json.dumps(report.to_json())})


def test_the_worse_half_of_a_group_is_stopped():
    scheduler = GroupedHalving(RULES, EarlierReports())
    assert [_report(scheduler, name, score) for name, score in zip("abcd", (0.9, 0.5, 0.95, 0.6), strict=True)] == [
        "CONTINUE", "STOP", "CONTINUE", "STOP",
    ]  # fmt: skip


def test_an_unlucky_seed_is_not_stopped_by_a_lucky_one():
    scheduler = GroupedHalving(RULES, EarlierReports())
    _report(scheduler, "lucky", 0.9)
    assert _report(scheduler, "unlucky", 0.1, group="seed 1") == "CONTINUE"
    assert _report(scheduler, "unlucky in stage 2", -7.0, group="stage2, seed 0") == "CONTINUE"


def test_later_reports_are_compared_with_later_ones():
    scheduler = GroupedHalving(RULES, EarlierReports())
    assert _report(scheduler, "a", 0.9, 0.25) == "CONTINUE"
    assert _report(scheduler, "a", 0.95, 0.5) == "CONTINUE"
    assert _report(scheduler, "b", 0.91, 0.25) == "CONTINUE"
    assert _report(scheduler, "b", 0.92, 0.5) == "STOP"


def test_reports_of_an_earlier_session_count_and_are_not_held_against_the_same_trial():
    earlier = EarlierReports(
        [(name, TrialReport("seed 0", "stage3", 0.25, score)) for name, score in (("a", 0.9), ("b", 0.5))]
    )
    scheduler = GroupedHalving(RULES, earlier)
    assert _report(scheduler, "c", 0.6) == "STOP"
    assert _report(scheduler, "a", 0.9) == "CONTINUE"
    assert _report(scheduler, "b", 0.5) == "CONTINUE"  # it was decided then


def test_the_final_result_is_no_report():
    scheduler = GroupedHalving(RULES, EarlierReports())
    assert scheduler.on_trial_result(None, None, {"report": "old", "outcome": "{}"}) == "CONTINUE"


def test_an_evaluation_is_due_once_where_its_share_is_passed():
    callback = EvaluationCallback((0.25, 0.5), lambda network: 0.0, lambda share, score: None)
    rows = [callback.due(before, before + 10, 100) for before in range(0, 100, 10)]
    assert rows == [None, None, 0.25, None, 0.5, None, None, None, None, None]
    assert callback.due(0, 80, 100) == 0.5


@pytest.fixture
def of(monkeypatch):
    """Make the cluster have so much; parts of earlier tests are forgotten."""

    def set_resources(cpus: float, gpus: float = 0.0):
        node = {"NodeID": "a", "Alive": True, "Resources": {"CPU": cpus, "GPU": gpus, "object_store_memory": 1e9}}
        monkeypatch.setattr(ray, "nodes", lambda: [node])
        monkeypatch.setattr(ray_internals, "draining_nodes", dict)

    monkeypatch.setattr(shared_cluster, "_runs", 1)
    return set_resources


@pytest.mark.parametrize(
    ("cpus", "gpus", "config", "runs"),
    [
        (2, 0, {}, 2),
        (1, 0, {}, 1),
        (64, 0, {}, 10),  # no more than are wanted
        (2, 0, {"workers": 2}, 1),
        (8, 0, {"workers": 2}, 4),
        (16, 8, {"gpus_per_worker": 1}, 8),
        (16, 8, {"gpus_per_worker": 1, "workers": 4}, 2),
        (4, 1, {"gpus_per_worker": 0.5}, 2),
        (8, 0, {"cpus_per_worker": 3}, 2),
    ],
)
def test_as_many_runs_as_the_cluster_has_room_for(of, cpus, gpus, config, runs):
    of(cpus, gpus)
    settings = ClusterConfig(**config)
    assert resources.concurrent_runs(settings, wanted=10) == runs
    shared_cluster.share_cluster(runs)
    training, inference = resources.training_resources(settings), resources.inference_resources(settings)
    # All trainings at once leave room for the largest single task, which then ends by itself.
    held = runs * training.processes * training.cpus
    assert cpus - held + 1e-6 >= (inference.cpus if runs > 1 else LEAST_READER_CPUS)
    assert runs * training.processes * training.gpus <= gpus
    assert inference.cpus <= cpus


def test_a_run_that_does_not_fit_at_all_is_refused(of):
    of(2)
    with pytest.raises(UserError, match="CPUs are needed"):
        resources.concurrent_runs(ClusterConfig(cpus_per_worker=4), wanted=3)
    with pytest.raises(UserError, match="GPUs are needed"):
        resources.concurrent_runs(ClusterConfig(gpus_per_worker=1), wanted=3)
