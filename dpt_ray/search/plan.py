"""`--dry-run` of a search: its trials, what they share, what is made already."""

from collections import defaultdict

from dpt_ray.report.table import text_table
from dpt_ray.search.search import Search


def describe_search(search: Search) -> str:
    """Return the plan as text. Points that a searcher will propose are not known yet."""
    tune = search.tune
    if not search.listed:
        draws = tune.budget.draws
        return (
            f"results: {search.records.folder}\n{draws} points proposed by {tune.searcher.name}, "
            f"each with {len(tune.seeds)} seeds: {draws * len(tune.seeds)} trials"
        )
    uses: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for trial in search.listed:
        for step in trial.steps:
            uses[step.title].append((step.name, step.fingerprint))
    rows = [("step", "trials", "to make", "made already")]
    for title, addresses in uses.items():
        distinct = set(addresses)
        made = sum(search.store.find(*address) is not None for address in distinct)
        rows.append((title, str(len(addresses)), str(len(distinct) - made), str(made)))
    ended = sum(search.records.read(trial).state in ("finished", "stopped") for trial in search.listed)
    head = f"results: {search.records.folder}\n{len(search.listed)} trials, {ended} of them have ended already"
    return f"{head}\n\n{text_table(rows, header=True)}"
