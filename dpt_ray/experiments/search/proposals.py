"""Points that Optuna proposes from the results of finished ones."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from dpt_ray.config.search_settings import METRICS, DimensionConfig, TuneConfig
from dpt_ray.core.seeds import derive_seed
from dpt_ray.data.storage import stores
from dpt_ray.errors import StoreFailureError, UserError
from dpt_ray.experiments.search.queue import Missing, TrialQueue
from dpt_ray.experiments.search.records import Record, measured
from dpt_ray.experiments.search.space import Point, Trial
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.store import ArtifactStore

FILE = "proposals.json"

Parameters = Mapping[str, int | float]
"""Proposed parameters of Optuna: dotted setting -> value, or the number of a listed value."""


@dataclass
class _Proposal:
    """A proposal whose result Optuna has not received: the trial of Optuna, and the keys of our trials."""

    asked: Any
    keys: list[str]


class ProposedTrials(TrialQueue):
    """Trials of points that Optuna's tree-structured Parzen estimator proposes, each with all seeds.

    Proposals are stored in the folder of the search. The same command continues with them: Optuna receives the results
    of trials that have ended, and the others run. A proposal that is the same run as an earlier one shares its result.

    Args:
        tune: the search.
        folder: URL of the folder of the search.
        store: the store of the results.
        trials: returns the trials of a point, one for each seed.
        ended: returns the record of a trial; None if it has not ended.
    """

    def __init__(
        self,
        tune: TuneConfig,
        folder: str,
        store: ArtifactStore,
        trials: Callable[[Point], list[Trial]],
        ended: Callable[[Trial], Record | None],
    ):
        self._tune, self._trials, self._ended = tune, trials, ended
        self._url, self._missing = stores.join(folder, FILE), Missing(store)
        self._optuna = _import_optuna()
        self._study = self._optuna.create_study(direction={"max": "maximize", "min": "minimize"}[METRICS[tune.metric]])
        self._distributions = {name: _distribution(self._optuna, d) for name, d in tune.space.items()}
        self._open: list[_Proposal] = []
        self._proposed: list[Parameters] = []
        self._known: dict[str, Trial] = {}
        self._outcomes: dict[str, Record] = {}
        self._waiting: list[Trial] = []
        self.points: list[list[str]] = []
        """The keys of the trials of every proposal that can be run."""
        self.described: list[Trial] = []
        """All different trials of points that were proposed."""
        self.impossible: list[str] = []
        """The error of each proposed point that could not run."""
        earlier = stores.read_json(self._url) if stores.exists(self._url) else {"space": None, "points": []}
        if earlier["space"] == self._space():  # the proposals of another space are not used
            for parameters in earlier["points"][: tune.budget.draws]:
                self._study.enqueue_trial(parameters)
                self._propose()

    def take(self, running: Collection[Trial]) -> Trial | None:
        while not self._waiting:
            if len(self._proposed) >= self._tune.budget.draws:
                return None
            self._propose()
        trial = self._missing.least_shared(self._waiting, running)
        self._waiting.remove(trial)
        return trial

    def is_empty(self) -> bool:
        return len(self._proposed) >= self._tune.budget.draws and not self._waiting

    def most_to_come(self) -> int:
        return (self._tune.budget.draws - len(self._proposed)) * len(self._tune.seeds)

    def tell(self, trial: Trial, record: Record) -> None:
        self._outcomes[trial.key] = record
        self._close_ended()

    def put_back(self, trial: Trial) -> None:
        self._waiting.insert(0, trial)

    def drop(self, unwanted: Callable[[Trial], bool]) -> list[Trial]:
        dropped = [trial for trial in self._waiting if unwanted(trial)]
        self._waiting = [trial for trial in self._waiting if trial not in dropped]
        return dropped

    def _propose(self) -> None:
        # Each proposal has its own seed; with one seed for all, a continued search would repeat the first proposals.
        seed = derive_seed("proposal", self._tune.searcher.seed, len(self._proposed)) % 2**32
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        asked = self._study.ask(self._distributions)
        self._proposed.append(dict(asked.params))
        stores.write_json(self._url, {"space": self._space(), "points": self._proposed})
        try:
            trials = self._trials({n: _value(d, asked.params[n]) for n, d in self._tune.space.items()})
        except StoreFailureError:
            raise
        except UserError as error:  # settings that contradict each other
            self._study.tell(asked, state=self._optuna.trial.TrialState.FAIL)
            self.impossible.append(str(error))
            return
        for trial in trials:
            if trial.key not in self._known:
                self._add(trial)
        self.points.append([trial.key for trial in trials])
        self._open.append(_Proposal(asked, self.points[-1]))
        self._close_ended()

    def _add(self, trial: Trial) -> None:
        self._known[trial.key] = trial
        self.described.append(trial)
        record = self._ended(trial)
        if record is None:
            self._waiting.append(trial)
        else:
            self._outcomes[trial.key] = record

    def _close_ended(self) -> None:
        """Pass Optuna the results of proposals whose trials have all ended: the mean over seeds, or that it failed."""
        for proposal in [proposal for proposal in self._open if self._outcomes.keys() >= set(proposal.keys)]:
            self._open.remove(proposal)
            records = [self._outcomes[key] for key in proposal.keys]
            values = [measured(record.metrics.get(self._tune.metric)) for record in records]
            states, trial_state = {record.state for record in records}, self._optuna.trial.TrialState
            known = [value for value in values if value is not None]
            if states == {"finished"} and len(known) == len(values):
                self._study.tell(proposal.asked, fmean(known))
            else:
                pruned = "stopped" in states and "failed" not in states
                self._study.tell(proposal.asked, state=trial_state.PRUNED if pruned else trial_state.FAIL)

    def _space(self) -> JsonObject:
        return {name: dimension.model_dump(mode="json") for name, dimension in self._tune.space.items()}


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError(
            "optuna is not installed", where="searcher.name", fix="pip install 'dpt_ray[optuna]', or set it to random"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _distribution(optuna: Any, dimension: DimensionConfig) -> Any:
    """Return Optuna's form of a dimension. Listed values are numbered, since Optuna supports plain values only."""
    if dimension.bounds is None:
        return optuna.distributions.CategoricalDistribution(range(len(_values(dimension))))
    low, high = dimension.bounds
    log = dimension.log_uniform is not None
    if dimension.integer:
        return optuna.distributions.IntDistribution(int(low), int(high), log=log)
    return optuna.distributions.FloatDistribution(low, high, log=log)


def _values(dimension: DimensionConfig) -> tuple[Any, ...]:
    return dimension.choice or dimension.grid or ()


def _value(dimension: DimensionConfig, parameter: Any) -> Any:
    return _values(dimension)[parameter] if dimension.bounds is None else parameter
