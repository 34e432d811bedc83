"""Writes the results of a search into its folder: table, page, figures and the best settings."""

import datetime
from dataclasses import dataclass

from dpt_ray.config.load import dump_yaml
from dpt_ray.config.search_settings import METRICS, TuneConfig
from dpt_ray.config.yaml_reader import write_yaml
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.experiments.search.records import measured
from dpt_ray.experiments.search.results import BEST_FILE, REPORT_FILE, RESULTS_FILE, overrides_address, tune_tree
from dpt_ray.experiments.search.search import Search, Searched
from dpt_ray.experiments.search.space import describe_point, format_value
from dpt_ray.experiments.search.summary import Costs, best_first, costs_of, points_of, standard_error, winner
from dpt_ray.json_values import JsonObject
from dpt_ray.report.content import Figure
from dpt_ray.report.search_content import Ending, PointFigures, SearchReport, short_names
from dpt_ray.tables import format_seconds, format_share, text_table


@dataclass(frozen=True)
class Finished:
    """The final output of a search.

    Attributes:
        text: its table, and the places of its files.
        problem: why there is no best point; None if there is one, or if remaining trials may give one.
    """

    text: str
    problem: UserError | None


def finish_search(search: Search, searched: Searched) -> Finished:
    """Write the files of the search. Without a best point, an older file of best settings is removed."""
    from dpt_ray.report.search_page import render_search  # draws: slow to import

    tune = search.tune
    points = best_first(points_of(searched.trials), tune.metric)
    costs = costs_of(searched.trials, search.store)
    best = winner(points, tune.metric)
    best_yaml = _best_yaml(search, best) if best else ""
    notes = _notes(search, searched, points)
    report = SearchReport(
        title=f"Search: {tune.name}",
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        headline=_headline(tune, best, searched, costs),
        notes=notes,
        images=_images(tune),
        metric=tune.metric,
        points=points,
        sharing=costs.sharing,
        endings=_endings(searched),
        best_yaml=best_yaml,
        tune_yaml=write_yaml(tune_tree(tune)),
    )
    best_file = stores.join(searched.folder, BEST_FILE)
    if not best_yaml:
        stores.remove_tree(best_file)
    stores.write_json(stores.join(searched.folder, RESULTS_FILE), _results(search, searched, costs, best))
    stores.write_bytes(stores.join(searched.folder, REPORT_FILE), render_search(report).encode())
    if best_yaml:
        stores.write_bytes(best_file, best_yaml.encode())

    lines = ["", _table(tune, points), "", *notes, _shared_line(costs, searched)]
    lines += [f"{ending.title}: {ending.state}: {ending.cause}" for ending in report.endings]
    if best is not None:
        lines.append(f"best: {describe_point(best.point)}; run it with dpt run --config {best_file}")
    lines.append(f"report: {stores.join(searched.folder, REPORT_FILE)}")
    return Finished("\n".join(lines), None if best else _problem(tune, searched))


def _table(tune: TuneConfig, points: list[PointFigures]) -> str:
    from dpt_ray.report.search_page import COLUMNS, format_spread

    shown = [(figure, title) for figure, title in COLUMNS if any(figure in point.figures for point in points)]
    rows = [(*short_names(tune.space).values(), *(title for _, title in shown), "Seeds")]
    rows += [
        (
            *(format_value(value) for value in point.point.values()),
            *(format_spread(figure, point.figures.get(figure)) for figure, _ in shown),
            f"{point.finished} of {point.of}",
        )
        for point in points
    ]
    return text_table(rows, header=True)


def _problem(tune: TuneConfig, searched: Searched) -> UserError | None:
    """Return why there is no best point; None if trials remain."""
    if any(record.state is None for _, record in searched.trials):
        return None
    where = f"search {tune.name}"
    if any(record.state == "finished" for _, record in searched.trials):
        what = f"no trial measured {tune.metric}, so no point is the best"
        return UserError(what, where=where, fix=f"choose another metric; figures of all trials: {RESULTS_FILE}")
    causes = [f"{trial.title}: {record.cause}" for trial, record in searched.trials] or list(searched.impossible)
    reason = f" ({causes[0]})" if causes else ""
    return UserError(f"no trial finished, so no point is the best{reason}", where=where)


def _images(tune: TuneConfig) -> str:
    return {
        "labelled": "validation images, held out from the labelled images",
        "training": "validation images, held out from the training images, with their true labels",
        "test": "the test split",
    }[tune.validation.images]


def _headline(tune: TuneConfig, best: PointFigures | None, searched: Searched, costs: Costs) -> tuple[Figure, ...]:
    from dpt_ray.report.search_page import METRICS, format_spread

    figures = []
    if best is not None:
        spread = best.figures.get(tune.metric)
        title = f"best {METRICS[tune.metric]}"
        figures.append(Figure(title, format_spread(tune.metric, spread), describe_point(best.point)))
    ended = sum(record.state == "finished" for _, record in searched.trials)
    figures.append(Figure("trials finished", f"{ended} of {len(searched.trials)}", f"{len(tune.seeds)} seeds a point"))
    if costs.alone:
        figures.append(
            Figure(
                "time saved by sharing",
                format_share(1 - costs.together / costs.alone),
                f"{format_seconds(costs.together)} of work instead of {format_seconds(costs.alone)}",
            )
        )
    return tuple(figures)


def _notes(search: Search, searched: Searched, points: list[PointFigures]) -> list[str]:
    tune, notes = search.tune, []
    if tune.validation.images == "test":
        notes.append(
            "Settings were compared on the TEST split, as the tune file sets: the accuracy of the best settings is "
            "biased upwards, and no images remain for an unbiased estimate."
        )
    elif tune.validation.images == "training":
        notes.append(
            "Settings were compared on training images with their true labels. A project with few labels does not have "
            "these labels. The images were held out from all training; the test split was not read."
        )
    else:
        notes.append(
            "Settings were compared on labelled images held out from all training. The test split was not read."
        )
    finished = [record.metrics for _, record in searched.trials if record.state == "finished"]
    images = min((int(measured(metrics.get("test_images")) or 0) for metrics in finished), default=0)
    accuracies = [a for metrics in finished if (a := measured(metrics.get("stage3_accuracy"))) is not None]
    if images and accuracies:
        error = standard_error(sum(accuracies) / len(accuracies), images)
        notes.append(
            f"An accuracy of one trial is measured on {images:,} images: its standard error is about "
            f"{100 * error:.1f} points."
        )
    unmeasured = sum(measured(metrics.get(tune.metric)) is None for metrics in finished)
    if unmeasured:
        notes.append(
            f"{unmeasured} of {len(finished)} finished trials did not measure {tune.metric}; they count for no point."
        )
    if searched.draws.are_repeated:
        notes.append(f"{searched.draws.describe()}.")
    if points and points[0].finished > 0 and any(0 < p.finished < p.of for p in points):
        notes.append("Points with fewer finished seeds rank lower: means over different seeds are not comparable.")
    notes += [f"A proposed point could not be run: {reason}" for reason in searched.impossible]
    return notes


def _endings(searched: Searched) -> list[Ending]:
    ended = [(trial, record) for trial, record in searched.trials if record.state != "finished"]
    waiting = "not started, or interrupted; the same command runs it"
    return [Ending(trial.title, record.state or "waits", record.cause or waiting) for trial, record in ended]


def _shared_line(costs: Costs, searched: Searched) -> str:
    shared = [s for s in costs.sharing if s.made < s.used and s.saved >= 1]
    listed = (
        ", ".join(f"{s.title} {s.made} for {s.used} trials" for s in shared) or "nothing that takes a second or more"
    )
    text = f"shared: {listed}"
    if costs.alone:
        text += (
            f"\ntime: {format_seconds(costs.together)} of work instead of {format_seconds(costs.alone)} "
            f"({format_share(1 - costs.together / costs.alone)} saved)"
        )
    if searched.concurrent:
        text += f"; this session took {format_seconds(searched.seconds)} with {searched.concurrent} trials at a time"
    return text


def _best_yaml(search: Search, best: PointFigures) -> str:
    """Return the best point as a configuration that `dpt_full.py` runs, with the base's own seeds and all data."""
    from dpt_ray.report.search_page import format_spread

    tune = search.tune
    config = search.trials.config(best.point).model_copy(update={"name": f"{tune.name}_best"})
    figure = format_spread(tune.metric, best.figures.get(tune.metric))
    head = (
        f"# Best of the search {tune.name}: {describe_point(best.point)}.\n"
        f"# {tune.metric} {figure} over {best.figures[tune.metric].count} seeds, on {_images(tune)}.\n"
        "# A run of it trains on all training images, validation images among them, and is judged by the test data.\n"
    )
    return head + dump_yaml(config)


def _results(search: Search, searched: Searched, costs: Costs, best: PointFigures | None) -> JsonObject:
    """Return the content of the file of results."""
    times = searched.draws.times()
    return {
        "search": tune_tree(search.tune),
        "overrides": overrides_address(search.overrides),
        "better": METRICS[search.tune.metric],
        "best": best.point if best else None,
        "draws": {"drawn": searched.draws.drawn, "distinct": searched.draws.distinct},
        "trials": [
            {
                "point": trial.point,
                "seed": trial.seed,
                "draws": times[trial.key],
                "state": record.state,
                "cause": record.cause,
                "metrics": {name: value for name, value in record.metrics.items() if measured(value) is not None},
                "seconds": record.seconds,
                "evaluation": f"{trial.run.evaluation.name}/{trial.key}",
            }
            for trial, record in searched.trials
        ],
        "seconds_alone": round(costs.alone, 1),
        "seconds_together": round(costs.together, 1),
    }
