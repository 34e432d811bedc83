"""What is kept of trials, and what a session makes of their ends."""

from types import SimpleNamespace

import pytest
from search_trials import MadeUpStore, made_up_trial

from dpt_ray.config.search_settings import TuneConfig
from dpt_ray.distributed.trial_messages import TrialOutcome, TrialReport
from dpt_ray.errors import UserError
from dpt_ray.experiments.search.queue import ListedTrials
from dpt_ray.experiments.search.records import Record, Records, StageReport
from dpt_ray.experiments.search.search import _Session
from dpt_ray.pipeline.artifacts.store import ArtifactStore

METRICS = {"stage1_accuracy": 0.5, "stage3_accuracy": 0.75, "test_images": 10}


def _finish(root, trial) -> None:
    ArtifactStore(str(root)).commit(trial.run.evaluation.name, trial.key, {"facts": METRICS, "seconds": 1.0})


@pytest.fixture
def trial():
    return made_up_trial({"sampling.steps": 5})


def test_a_trial_is_finished_once_its_evaluation_is_there_whoever_made_it(tmp_path, trial):
    records = Records(str(tmp_path), "try", {})
    assert records.read(trial).state is None
    records.write(trial, Record(trial.point, 0, "failed", "why"))
    assert records.read(trial).cause == "why"
    _finish(tmp_path, trial)
    record = records.read(trial)
    assert (record.state, record.cause, record.metrics["gain"]) == ("finished", None, 0.25)


def test_a_record_is_not_believed_without_its_evaluation(tmp_path, trial):
    records = Records(str(tmp_path), "try", {})
    records.write(trial, Record(trial.point, 0, "finished", metrics=METRICS))
    assert records.read(trial).state is None


def test_reports_and_points_come_back_as_they_were(tmp_path):
    trial = made_up_trial({"sampling.guidance_interval": [0.1, 2.0], "stage3.mixing.real_share": None})
    records, reports = Records(str(tmp_path), "try", {}), (StageReport("stage3", 0.25, 0.5),)
    records.write(trial, Record(trial.point, 0, "stopped", "slow", reports=reports))
    assert records.read(trial) == Record(trial.point, 0, "stopped", "slow", reports=reports)


def test_a_stored_record_with_the_former_name_of_reports_is_read(tmp_path, trial):
    records = Records(str(tmp_path), "try", {})
    records.write(trial, Record(trial.point, 0, "stopped", "slow", reports=(StageReport("stage3", 0.25, 0.5),)))
    (url,) = (tmp_path / "searches/try/trials").iterdir()
    url.write_text(url.read_text().replace('"reports"', '"looks"'))
    assert '"looks"' in url.read_text()
    assert records.read(trial).reports == (StageReport("stage3", 0.25, 0.5),)


def test_a_damaged_record_is_refused_in_one_line(tmp_path, trial):
    records = Records(str(tmp_path), "try", {})
    records.write(trial, Record(trial.point, 0, "failed", "why"))
    (url,) = (tmp_path / "searches/try/trials").iterdir()
    url.write_text(url.read_text().replace('"failed"', '"fled"'))
    with pytest.raises(UserError, match=r"is not the record of a trial \(state: .*remove the file"):
        records.read(trial)


def test_other_rules_of_early_stopping_run_a_stopped_trial_again(tmp_path, trial):
    rules = {"name": "asha", "stages": ["stage3"]}
    Records(str(tmp_path), "try", rules).write(trial, Record(trial.point, 0, "stopped", "slow", rules=rules))
    assert Records(str(tmp_path), "try", rules).read(trial).state == "stopped"
    assert Records(str(tmp_path), "try", {"name": "none"}).read(trial).state is None


def _session(root, trials):
    tune = TuneConfig.model_validate(
        {
            "name": "try",
            "base": "none",
            "space": {"sampling.steps": {"grid": [5]}},
            "validation": {"images": "training"},
            "scheduler": {"name": "asha"},
        }
    )
    records = Records(str(root), "try", tune.scheduler.model_dump(mode="json"))
    said: list[str] = []
    cluster, store = SimpleNamespace(max_failures=0), SimpleNamespace(root=str(root))
    search = SimpleNamespace(tune=tune, records=records, cluster=cluster, store=store)
    queue = ListedTrials(trials, MadeUpStore())
    return _Session(search, queue, list(trials), said.append, None), records, said


def test_every_end_of_a_trial_is_recorded_with_its_cause(tmp_path):
    trials = [made_up_trial({"sampling.steps": n}) for n in range(4)]
    session, records, said = _session(tmp_path, trials)
    for _ in trials:
        session._next()
    report = TrialReport("g", "stage3", 0.25, 0.5)
    _finish(tmp_path, trials[0])
    session._on_end(trials[0].key, TrialOutcome(3.0), None, False)
    session._on_end(trials[1].key, TrialOutcome(3.0, "no such thing"), None, False)
    session._on_end(trials[2].key, None, report, False)
    session._on_end(trials[3].key, None, None, True)
    assert [records.read(trial).state for trial in trials] == ["finished", "failed", "stopped", "failed"]
    causes = [records.read(trial).cause for trial in trials]
    assert causes[0] is None
    assert causes[1] == "no such thing"
    assert causes[2] == "in stage3 at 25%, score 0.5"
    assert "process died" in causes[3]
    assert said[4] == "[1/4] steps 0, seed 0: finished in 3.0 s (stage 1 50.0%, stage 3 75.0%)"
    assert session._is_over()


def test_trials_of_a_generator_that_was_stopped_do_not_begin(tmp_path):
    trials = [
        made_up_trial({"sampling.steps": 1}, generator="bad"),
        made_up_trial({"sampling.steps": 2}, generator="good"),
        made_up_trial({"sampling.steps": 3}, generator="bad"),
    ]
    session, records, _ = _session(tmp_path, trials)
    name, job = session._next()
    assert name == trials[0].key
    assert (job.trial, job.root) == (trials[0], str(tmp_path))
    session._on_end(name, None, TrialReport("g", "stage2", 0.25, -9.0), False)
    assert records.read(trials[2]).cause == "its generator was stopped, in the trial of steps 1, seed 0"
    assert session._next()[0] == trials[1].key
    assert session._next() is None


def test_a_report_is_kept_for_the_next_attempt(tmp_path, trial):
    session, records, _ = _session(tmp_path, [trial])
    session._next()
    session._on_report(trial.key, TrialReport("g", "stage3", 0.25, 0.5))
    assert records.read(trial).reports == (StageReport("stage3", 0.25, 0.5),)
    assert records.read(trial).state is None
