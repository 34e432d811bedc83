"""A process of a run is killed at a drawn moment: the same command comes home, with the same bytes."""

import os

import pytest
from crashing import HEAD, Outcome, artifacts, crash, problems
from draws import draw
from tiny_runs import described

from dpt_ray.pipeline.graph import in_order
from dpt_ray.tables import text_table

SEEDS = os.environ.get("DPT_CRASH_SEEDS", "100-129")
"""Seeds: a range with both ends, or numbers separated by commas."""


def _seeds(text: str) -> list[int]:
    if "-" in text:
        first, _, last = text.partition("-")
        return list(range(int(first), int(last) + 1))
    return [int(word) for word in text.split(",")]


@pytest.fixture(scope="module")
def table(request):
    """Outcomes; printed when all draws are done."""
    outcomes: list[Outcome] = []
    yield outcomes
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\n" + text_table([HEAD, *(outcome.row for outcome in outcomes)]))


@pytest.mark.slow
@pytest.mark.parametrize("seed", _seeds(SEEDS))
def test_a_killed_run_comes_home_with_the_same_bytes(finished, tmp_path, table, seed):
    outcome = crash(draw(seed), tmp_path)
    table.append(outcome)
    assert problems(outcome) == [], "\n\n".join(outcome.outputs)
    assert outcome.killed, f"its moment did not come: {outcome.drawn.title}"
    made, expected = artifacts(tmp_path), artifacts(finished)
    _, run = described(tmp_path)
    assert {f"{step.address}/manifest.json" for step in in_order(run.steps())} <= set(made) <= set(expected)
    assert [name for name in made if made[name] != expected[name]] == []
