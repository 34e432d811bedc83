"""A process of a run is killed at a drawn moment: the same command comes home, with the same bytes."""

import os
from pathlib import Path

import pytest
from crash_store import faulty_bucket
from crashing import crash, differences, problems
from draws import draw
from many_draws import seeds
from places import Folder, Place
from reference import LARGEST_SHARE, checkpoint_shares, kept_reference, make_reference
from table import HEAD, Row, cells, record, summary

from dpt_ray.tables import text_table

SEEDS = os.environ.get("DPT_CRASH_SEEDS", "100-129")
"""Seeds of draws on a local disk: a range with both ends, or numbers separated by commas."""
S3_SEEDS = os.environ.get("DPT_CRASH_S3_SEEDS", "100-104")
"""The same for the draws on an object store."""
QUICK_SEEDS = (102, 114, 258, 533, 890)
"""Draws that need no longer trainings: an agent, an inference process, a training worker, the control store in
sampling, and the job itself in a training."""


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """The folder of the undisturbed run. The variable DPT_CRASH_REFERENCE names one that is kept."""
    folder = kept_reference(tmp_path_factory.mktemp("reference"))
    make_reference(folder)
    return folder


@pytest.fixture(scope="module")
def table(request):
    """Outcomes; printed when all draws are done."""
    rows: list[Row] = []
    yield rows
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{text_table([HEAD, *map(cells, rows)])}\n{summary(rows)}")


@pytest.mark.parametrize("seed", QUICK_SEEDS)
def test_a_killed_run_of_short_trainings_comes_home_with_the_same_bytes(finished, tmp_path, seed):
    undisturbed, place = Folder(str(finished)), Folder(str(tmp_path))
    outcome = crash(draw(seed), place, undisturbed, trainings=())
    assert problems(outcome) == [], "\n\n".join(outcome.outputs)
    assert differences(outcome, place, undisturbed) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(SEEDS))
def test_a_killed_run_comes_home_with_the_same_bytes(reference, tmp_path, table, seed):
    _come_home(Folder(str(tmp_path)), "disk", reference, table, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(S3_SEEDS))
def test_a_killed_run_comes_home_from_a_store_that_fails(reference, tmp_path, table, seed):
    with faulty_bucket(tmp_path) as (place, proxy):
        _come_home(place, "store", reference, table, seed)
        assert any(request.fault for request in proxy.seen)


@pytest.mark.slow
def test_trainings_stand_still_for_a_small_share_of_the_default_interval(reference, capsys):
    shares = checkpoint_shares(reference)
    with capsys.disabled():
        print("\n" + "\n".join(f"{step}: stands still for {share:.3%}" for step, share in shares.items()))
    assert len(shares) == 3
    assert max(shares.values()) <= LARGEST_SHARE


def _come_home(place: Place, kind: str, reference: Path, table: list[Row], seed: int) -> None:
    undisturbed = make_reference(reference)
    outcome = crash(draw(seed), place, undisturbed)
    wrong, different = problems(outcome), differences(outcome, place, undisturbed)
    table.append(record(outcome, kind, wrong, different))
    assert wrong == [], "\n\n".join(outcome.outputs)
    assert different == []
