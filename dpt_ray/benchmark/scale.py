"""Benchmark of scale: what each step does in the driver at 1e5 to 1e8 images, without pixels and without training.

Every measurement runs in a process of its own, so that its largest memory is its own. The driver's time is its CPU
time; work that a step sends to workers on Ray is in the wall time alone. Requests are the files that the driver opens,
lists or renames in the store, which here is a local disk; `STORE_SECONDS` stands for the time in which a real one
answers.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dpt_ray.benchmark.scale_process import Measurement, measure_in_process
from dpt_ray.benchmark.scale_records import ScaleFigures, StepScale, growth_of, left_out
from dpt_ray.benchmark.scale_steps import STEPS
from dpt_ray.errors import UserError

_MEASURED_FILE = "measured-{per_shard}.jsonl"
"""Steps that are measured, in the folder that the user keeps."""


def measure_scale(
    *,
    images: Sequence[int],
    classes: Sequence[int],
    steps: Sequence[str],
    per_shard: int,
    folder: str | None,
    most_seconds: float,
    most_mib: float,
    most_worked: float,
    again: bool,
    say: Callable[[str], None],
) -> ScaleFigures:
    """Measure every step at every size.

    Args:
        images: numbers of images, ascending.
        classes: numbers of classes.
        steps: words that the names of the measured steps contain; all steps without one.
        per_shard: images of a shard.
        folder: local folder for synthetic data and measured steps, which stay there for another call; a temporary one
            by default.
        most_seconds: a step that would take longer, by its wall time at the sizes before, is left out, s.
        most_mib: the same of its memory, MiB.
        most_worked: images above which partial results of groups are drawn (`scale_groups.py`), where a step allows it.
        again: measure steps that the folder has already.
        say: called with each result, as a line of text, when it is known.

    Raises:
        UserError: no step has such a name, or a number of images is no multiple of `per_shard`.
    """
    wanted = [name for name in STEPS if not steps or any(word in name for word in steps)]
    if not wanted:
        raise UserError(f"no step is called {steps[0]!r}", where="--steps", fix=f"there are: {', '.join(STEPS)}")
    if uneven := [number for number in images if number % per_shard or number < per_shard]:
        raise UserError(f"{uneven[0]} is no multiple of {per_shard}, the images of a shard", where="--images")
    load = [os.getloadavg()[0]]
    measured: list[StepScale] = []
    with _folder(folder) as place:
        kept = place / _MEASURED_FILE.format(per_shard=per_shard)
        known = {} if again else _known(kept)
        for count in classes:
            for name in wanted:
                for size in sorted(images)[: None if STEPS[name].follows == "images" else 1]:
                    found = known.get((name, size, count))
                    found = found or left_out(measured, name, size, count, most_seconds, most_mib)
                    if found is None:
                        drawn = STEPS[name].draws and size > most_worked
                        found = measure_in_process(Measurement(place, name, size, count, per_shard, drawn))
                        _keep(kept, found)
                    measured.append(found)
                    say(str(found))
    growth = [growth_of(measured, name, count) for count in classes for name in wanted]
    return ScaleFigures(per_shard, measured, growth, [*load, os.getloadavg()[0]], os.cpu_count())


def _known(file: Path) -> dict[tuple[str, int, int], StepScale]:
    """Return the steps that an earlier call measured, by name, images and classes; the last line may be cut."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    found = [StepScale.from_json(json.loads(line), str(file)) for line in lines if line.endswith("\n")]
    return {(entry.step, entry.images, entry.classes): entry for entry in found}


def _keep(file: Path, found: StepScale) -> None:
    if found.wall_seconds is not None:
        with open(file, "a") as opened:
            opened.write(json.dumps(found.to_json()) + "\n")


@contextmanager
def _folder(given: str | None) -> Iterator[Path]:
    if given is not None:
        yield Path(given).absolute()
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)
