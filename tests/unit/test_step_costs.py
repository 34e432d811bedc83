"""The cost of steps: time by the CPUs and GPUs of the cluster by their prices, and nothing where one is not known."""

from dataclasses import replace

import pytest
from exported_runs import write_run
from made_up_report import make_report

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.config.load import load_config
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.step_costs import RunSteps, run_steps, step_cost
from dpt_ray.report.page import render
from dpt_ray.report.run_tables import steps_table
from dpt_ray.tables import MISSING, format_money


def made(seconds: float, cpus: float | None = None, gpus: float = 0) -> Artifact:
    capacity = {} if cpus is None else {"capacity": {"cpus": cpus, "gpus": gpus}}
    return Artifact("/a", {"step": "s", "fingerprint": "f", "facts": {}, "seconds": seconds, **capacity})


def test_a_step_costs_what_the_whole_cluster_costs_for_its_time():
    both = ClusterConfig(price_per_cpu_hour=0.05, price_per_gpu_hour=2)
    assert step_cost(made(1800, 16, 4), both) == pytest.approx(0.5 * (16 * 0.05 + 4 * 2))
    assert step_cost(made(1800, 16, 4), ClusterConfig(price_per_gpu_hour=2)) == pytest.approx(4)
    assert step_cost(made(7200, 8), ClusterConfig(price_per_cpu_hour=0.05)) == pytest.approx(0.8)
    assert step_cost(made(7200, 8), ClusterConfig(price_per_gpu_hour=2)) == 0


def test_what_is_not_known_has_no_cost():
    assert step_cost(made(100, 8), ClusterConfig()) is None
    assert step_cost(made(100), ClusterConfig(price_per_cpu_hour=1)) is None


def test_the_list_of_a_run_has_all_steps_and_the_sum_of_known_costs():
    run = build(load_config(None, ["preset=digits"]))
    artifacts = {step: made(3600, 2) for step in run.steps()}
    cluster = ClusterConfig(price_per_cpu_hour=0.25, currency="EUR")
    targets = [run.train_data, run.classifier]
    needed = {step: made(3600, 2) for step in _needed(targets)}
    found = run_steps(targets, {**artifacts, **needed}, cluster)
    assert found.cost == pytest.approx(0.5 * len(found.steps))
    assert found.currency == "EUR"
    assert {step.address for step in found.steps} == {step.address for step in needed}
    assert RunSteps.from_json(found.to_json()) == found
    without = run_steps(targets, {**artifacts, **needed}, ClusterConfig())
    assert "cost" not in without.to_json()
    assert without.steps[0].cpus == 2


def _needed(targets):
    for step in targets:
        yield step
        yield from _needed(list(step.parents.values()))


def test_prices_change_no_address_and_negative_ones_are_refused():
    priced = build(load_config(None, ["preset=digits", "cluster.price_per_gpu_hour=2", "cluster.currency=€"]))
    plain = build(load_config(None, ["preset=digits"]))
    assert [step.address for step in priced.steps()] == [step.address for step in plain.steps()]
    with pytest.raises(UserError, match="price_per_cpu_hour"):
        load_config(None, ["preset=digits", "cluster.price_per_cpu_hour=-1"])


def test_the_report_shows_costs_beside_times_only_where_something_has_a_price():
    report = make_report()
    table = steps_table(report)
    headings = [column.heading for column in table.columns]
    assert headings[1:3] == ["Time", "Cost (EUR)"]
    assert [row[2] for row in table.rows] == ["1.50", MISSING]
    assert "cost 1.50 EUR" in " ".join(render(report).split())
    free = replace(report, currency="", steps=[replace(step, cost=None) for step in report.steps])
    assert "Cost" not in [column.heading for column in steps_table(free).columns]
    assert " and cost " not in render(free)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (1234.5, "1,234.50"),
        (1, "1.00"),
        (0.999, "1.00"),
        (0.25, "0.25"),
        (4.2e-4, "0.00042"),
        (0, "0.00"),
        (None, MISSING),
    ],
)
def test_money_is_written_with_the_digits_that_matter(amount, text):
    assert format_money(amount) == text


def test_an_older_manifest_has_no_capacity(tmp_path):
    write_run(tmp_path)
    found = ArtifactStore(str(tmp_path)).find("classifier", "c0")
    assert found.capacity is None
