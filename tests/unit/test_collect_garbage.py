"""What `dpt runs remove` and `dpt runs gc` remove, and above all what they do not."""

import uuid

import pytest
from recorded_runs import EARLY, LATE, A, B, C, D, E, finished, write_artifact, write_record

from dpt_ray.cli.main import NAME, dpt
from dpt_ray.cli.running import run_command
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.claims import Claim
from dpt_ray.pipeline.artifacts.store import ArtifactStore
from dpt_ray.pipeline.collect_garbage import find_garbage, remove_garbage, remove_run
from dpt_ray.pipeline.newest_run import show_as_newest
from dpt_ray.pipeline.runs import find_run, list_runs


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path) -> str:
    return str(tmp_path) if request.param == "local" else f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def two_runs(root) -> str:
    """Two runs that share their data; the early one has a classifier of its own."""
    data = write_artifact(root, "dataset", A)
    classifier = write_artifact(root, "classifier", B, data, size=5000)
    early = write_artifact(root, "evaluation", C, classifier)
    late = write_artifact(root, "evaluation", D, data)
    for id, needs in ((EARLY, [data, classifier, early]), (LATE, [data, late])):
        show_as_newest(write_record(root, "a", id, needs, finished(), report=id))
    return root


def addresses(root: str, **options: bool) -> set[str]:
    return {one.address for one in find_garbage(root, **options)}


def present(root: str) -> set[str]:
    store = ArtifactStore(root)
    kinds = ("dataset", "classifier", "evaluation")
    return {f"{kind}/{name}" for kind in kinds for name in store.folders(kind)}


def collect(root: str) -> int:
    return remove_garbage(root, find_garbage(root), lambda one: None)


def test_nothing_goes_while_all_runs_are_kept(two_runs):
    assert addresses(two_runs) == addresses(two_runs, every=True) == set()


def test_what_only_the_removed_run_needed_goes(two_runs):
    remove_run(two_runs, find_run(two_runs, f"a/{EARLY}"))
    assert [run.id for run in list_runs(two_runs)] == [LATE]
    assert addresses(two_runs) == {f"classifier/{B}", f"evaluation/{C}"}
    assert collect(two_runs) > 6000
    assert present(two_runs) == {f"dataset/{A}", f"evaluation/{D}"}
    assert addresses(two_runs) == set()


def test_the_name_shows_the_newest_run_that_is_left(two_runs):
    report = stores.join(two_runs, "runs", "a", "report.html")
    remove_run(two_runs, find_run(two_runs, "a"))
    assert stores.read_bytes(report) == EARLY.encode()
    assert [run.id for run in list_runs(two_runs)] == [EARLY]
    remove_run(two_runs, find_run(two_runs, "a"))
    assert not stores.exists(report)
    assert list_runs(two_runs) == []
    collect(two_runs)
    assert present(two_runs) == set()


def test_what_a_removed_stopped_run_left_unfinished_goes(two_runs):
    half = f"classifier/{E}"
    stores.write_bytes(stores.join(two_runs, half, "checkpoints", "file"), bytes(100))
    write_record(two_runs, "b", EARLY, [f"dataset/{A}", half], None)
    assert addresses(two_runs, every=True) == set()  # it may be run again
    remove_run(two_runs, find_run(two_runs, "b"))
    assert addresses(two_runs) == {half}


def test_a_running_run_is_not_removed_and_keeps_what_it_needs(two_runs):
    run = find_run(two_runs, f"a/{EARLY}")
    stores.remove_tree(stores.join(run.url, "ended.json"))
    with Claim(run.url, lambda: False, lambda holder: None):
        with pytest.raises(UserError, match="is running; stop it first"):
            remove_run(two_runs, find_run(two_runs, f"a/{EARLY}"))
        assert addresses(two_runs, every=True) == set()


def test_a_job_in_progress_that_is_no_run_keeps_what_it_works_with(two_runs):
    """A trial of a search or of a study holds the claim on the artifact that it makes."""
    remove_run(two_runs, find_run(two_runs, f"a/{EARLY}"))
    folder = ArtifactStore(two_runs).folder("evaluation", E)
    with Claim(folder, lambda: False, lambda holder: None, [f"classifier/{B}", f"evaluation/{E}"]):
        assert addresses(two_runs, every=True) == {f"evaluation/{C}"}
    assert addresses(two_runs) == {f"classifier/{B}", f"evaluation/{C}"}


def test_trials_of_searches_keep_what_they_are_made_of(two_runs):
    remove_run(two_runs, find_run(two_runs, f"a/{EARLY}"))
    stores.write_json(stores.join(two_runs, "searches", "s", "trials", f"{C}.json"), {})
    assert addresses(two_runs, every=True) == set()


def test_what_no_run_needed_goes_on_request_alone(two_runs):
    write_artifact(two_runs, "classifier", E)
    stores.write_bytes(stores.join(two_runs, "photos", "holiday", "a.jpg"), b"x")  # of the user
    assert addresses(two_runs) == set()
    assert addresses(two_runs, every=True) == {f"classifier/{E}"}


def test_an_unreadable_run_stops_the_collection(two_runs):
    remove_run(two_runs, find_run(two_runs, f"a/{EARLY}"))
    stores.write_bytes(stores.join(two_runs, "runs", "a", LATE, "started.json"), b"{")
    with pytest.raises(UserError, match="what it needs is unknown"):
        find_garbage(two_runs)
    remove_run(two_runs, find_run(two_runs, "a"))
    assert find_garbage(two_runs)


def test_a_dry_run_removes_nothing(two_runs, capsys):
    def call(*words: str) -> list[str]:
        assert run_command(dpt, ["runs", *words, "--root", two_runs], NAME) == 0
        return capsys.readouterr().out.splitlines()

    assert "would remove" in call("remove", f"a/{EARLY}", "--dry-run")[0]
    assert len(list_runs(two_runs)) == 2
    call("remove", f"a/{EARLY}")
    told = call("gc", "--dry-run")
    assert told[2].startswith(f"classifier/{B}")
    assert told[-1].startswith("2 artifacts, ")
    assert f"classifier/{B}" in present(two_runs)
    assert call("gc")[-1].endswith(" freed")
    assert f"classifier/{B}" not in present(two_runs)
    assert call("gc") == ["nothing to remove"]
