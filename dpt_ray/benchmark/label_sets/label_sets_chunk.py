"""One chunk: the training without labels, then as many label sets as fit; it goes on where the last one stopped."""

import tempfile
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import torch

from dpt_ray.benchmark.label_sets.encoded import Encoded
from dpt_ray.benchmark.label_sets.label_set import LabelSetRow, LabelSets
from dpt_ray.benchmark.label_sets.label_sets_plan import HEADS, LabelSetsPlan
from dpt_ray.benchmark.label_sets.without_labels import train_without_labels
from dpt_ray.benchmark.time_to_quality.cifar import Cifar
from dpt_ray.benchmark.time_to_quality.progress_record import Clock
from dpt_ray.benchmark.time_to_quality.stages import enough_time
from dpt_ray.benchmark.time_to_quality.training import SAVING_SECONDS, Run
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.documents import read_document
from dpt_ray.experiments.statistics import gain_text, score_text
from dpt_ray.tables import markdown_table

ROWS_FILE = "label_sets.json"
STAGE = "without labels"
LONGER = 1.3
"""A set is begun if the time is left that the longest one so far took, times this."""


def run_chunk(run: Run, data: Cifar, plan: LabelSetsPlan, clock: Clock) -> list[LabelSetRow]:
    """Train the generator without labels, or run label sets until time is over; return all rows so far.

    Raises:
        UserError: a file of the folder is damaged, or the weights of the encoder are not installed.
    """
    device = torch.cuda.get_device_name() if run.device == "cuda" else "cpu"
    progress, rows = run.folder.progress(device), read_rows(run)
    encoded = Encoded.of(data, plan.side, run.device)
    run.say(f"{len(encoded.train) + len(encoded.test):,} images encoded in {clock.passed:.0f} s")
    stage = progress.stage(STAGE)
    if not stage.finished:
        train_without_labels(run, data, encoded, plan, stage, clock)
        run.folder.write_progress(progress)
    with tempfile.TemporaryDirectory() as folder:
        sets = LabelSets(run, data, encoded, plan, Path(folder))
        for per_class, seed, head in _missing(plan, rows):
            longest = max((row.seconds for row in rows), default=0.0)
            row = None
            if enough_time(clock) and clock.left >= LONGER * longest + SAVING_SECONDS:
                row = sets.row(per_class, seed, head, clock.part(clock.left))
            if row is None:
                run.say("the other label sets run in the next chunk")
                break
            rows.append(row)
            stores.write_json(run.folder.file(ROWS_FILE), [row.to_json() for row in rows])
            run.say(f"{per_class} labels a class, seed {seed}, {head}: {row.stage1:.1%} to {row.stage3:.1%}")
    return rows


def read_rows(run: Run) -> list[LabelSetRow]:
    """Return the rows of earlier chunks."""
    place = run.folder.file(ROWS_FILE)
    return read_document(place, list[LabelSetRow], "the rows of label sets") if stores.exists(place) else []


def _missing(plan: LabelSetsPlan, rows: Sequence[LabelSetRow]) -> Iterator[tuple[int, int, str]]:
    """Yield the sets without a row, all numbers of labels of a seed before the next seed."""
    done = {(row.per_class, row.seed, row.head) for row in rows}
    for seed, per_class, head in product(plan.seeds, plan.per_class, HEADS):
        if (per_class, seed, head) not in done:
            yield per_class, seed, head


def label_sets_table(rows: Sequence[LabelSetRow]) -> str:
    """Return accuracies on test images and paired gains over stage 1 as Markdown, a row for each head and number."""
    header = (
        "head",
        "labels a class",
        "seeds",
        "pseudo-labels",
        "stage 1",
        "stage 3, points",
        "agreeing alone, points",
    )
    table: list[tuple[str, ...]] = [(*header, "self-training, points", "distance")]
    for head, per_class in product(HEADS, sorted({row.per_class for row in rows})):
        of = [row for row in rows if (row.head, row.per_class) == (head, per_class)]
        if not of:
            continue
        before = [row.stage1 for row in of]
        gains = [
            gain_text(before, [row.stage3 for row in of]),
            gain_text(before, [row.agreeing for row in of]),
            gain_text(before, [row.self_trained for row in of]),
        ]
        mean = sum(row.distance for row in of) / len(of)
        scores = (score_text([row.pseudo_labels for row in of]), score_text(before))
        table.append((head, str(per_class), str(len(of)), *scores, *gains, f"{mean:.1f}"))
    return markdown_table(table)
