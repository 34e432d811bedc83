"""Draws many crashes and adds their rows to a table; draws that it has are left out.

    python tests/crash/many_draws.py --table crashes.jsonl --folder /tmp/crashes --disk 100-129 --store 100-104

With --page it prints the table of the rows that are there, and draws nothing.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS), str(TESTS / "pipeline"), str(TESTS / "storage")]

from crash_store import faulty_bucket  # noqa: E402  # it needs the paths
from crashing import crash, differences, problems  # noqa: E402
from draws import draw  # noqa: E402
from places import Folder, Place  # noqa: E402
from reference import make_reference  # noqa: E402
from table import HEAD, Row, append_row, cells, markdown, read_table, record, summary  # noqa: E402


def seeds(text: str) -> list[int]:
    """Return the seeds of numbers and ranges with both ends, separated by commas."""
    bounds = [word.partition("-") for word in text.split(",") if word]
    return [seed for first, _, last in bounds for seed in range(int(first), int(last or first) + 1)]


@contextmanager
def new_place(kind: str) -> Iterator[Place]:
    """Return a place of results that lasts as long as the context: `disk`, or a `store` that fails."""
    with tempfile.TemporaryDirectory(prefix="dptp", dir="/tmp", ignore_cleanup_errors=True) as folder:
        if kind == "disk":
            yield Folder(folder)
            return
        with faulty_bucket(Path(folder)) as (bucket, _):
            yield bucket


def one(kind: str, seed: int, reference: Place, outputs: Path) -> Row:
    """Return the row of a draw; what a job printed that did something wrong is kept in a folder."""
    with new_place(kind) as place:
        outcome = crash(draw(seed), place, reference)
        row = record(outcome, kind, problems(outcome), differences(outcome, place, reference))
        if row["problems"] or not row["equal"]:
            (outputs / f"{kind}-{seed}.txt").write_text("\n\n".join([str(row), *outcome.outputs]))
        return row


def main() -> None:
    """Draw until all is drawn or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "crashes"))
    parser.add_argument("--disk", type=seeds, default=[], help="seeds of draws on a local disk")
    parser.add_argument("--store", type=seeds, default=[], help="seeds of draws on an object store that fails")
    parser.add_argument("--minutes", type=float, default=60.0, help="no draw begins later")
    parser.add_argument("--parallel", type=int, default=1, help="draws at a time")
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    if given.page:
        print(markdown(read_table(given.table)), summary(read_table(given.table)), sep="\n")
        return
    began = time.monotonic()
    given.folder.mkdir(parents=True, exist_ok=True)
    reference = make_reference(given.folder)
    known = {(row["place"], row["seed"]) for row in read_table(given.table)}
    wanted = [("disk", seed) for seed in given.disk] + [("store", seed) for seed in given.store]

    def run(kind: str, seed: int) -> None:
        if time.monotonic() - began > 60 * given.minutes:
            return
        row = one(kind, seed, reference, given.folder)
        append_row(given.table, row)
        print(*cells(row), *row["problems"], sep=" | ", flush=True)

    print(*HEAD, sep=" | ", flush=True)
    with ThreadPoolExecutor(given.parallel) as threads:
        for future in [threads.submit(run, *draw_of) for draw_of in wanted if draw_of not in known]:
            future.result()


if __name__ == "__main__":
    main()
