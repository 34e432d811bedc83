"""`--dry-run` of a search: its trials, the artifacts that they share, and the finished ones."""

from collections import defaultdict

from dpt_ray.experiments.search.search import Search
from dpt_ray.pipeline.artifacts.store import ArtifactStore
from dpt_ray.pipeline.start_checks import check_could_write
from dpt_ray.tables import text_table


def describe_search(search: Search) -> str:
    """Return the plan as text. Points that a searcher will propose are not known yet. Nothing is written.

    Raises:
        UserError: results could not be written.
    """
    check_could_write(search.store.root)
    tune = search.tune
    if not search.listed:
        draws = tune.budget.draws
        return (
            f"results: {search.records.folder}\n{draws} points proposed by {tune.searcher.name}, "
            f"each with {len(tune.seeds)} seeds: "
            f"{draws * len(tune.seeds)} trials, fewer where proposals repeat"
        )
    uses: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for trial in search.listed:
        for step in trial.steps:
            uses[step.title].append((step.name, step.fingerprint))
    rows = [("step", "trials", "to make", "made already")]
    for title, addresses in uses.items():
        different = set(addresses)
        made = _count_made(search.store, different)
        rows.append((title, str(len(addresses)), str(len(different) - made), str(made)))
    ended = sum(record.state in ("finished", "stopped") for record in search.records.read_all(search.listed))
    head = f"results: {search.records.folder}\n"
    if search.draws.are_repeated:
        head += f"{search.draws.describe()}\n"
    head += f"{len(search.listed)} trials, {ended} of them have ended already"
    return f"{head}\n\n{text_table(rows, header=True)}"


def _count_made(store: ArtifactStore, addresses: set[tuple[str, str]]) -> int:
    """Return how many artifacts of one kind of step exist. Only those with a folder cost a request each."""
    begun = {(name, folder) for name in {name for name, _ in addresses} for folder in store.folders(name)}
    return sum(store.find(*address) is not None for address in addresses & begun)
