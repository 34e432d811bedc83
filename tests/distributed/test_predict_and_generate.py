"""Several processes on Ray write the table and the images that one process writes."""

import sys
from pathlib import Path

import pytest

from dpt_ray.pipeline import generate_images, predict_images

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from exported_runs import write_run


@pytest.mark.usefixtures("local_ray")
def test_processes_change_nothing(tmp_path):
    run, _ = write_run(tmp_path / "results")
    for processes in (1, 2):
        drawn = str(tmp_path / f"drawn{processes}")
        generate_images.generate_images(run, drawn, per_class=3, processes=processes)
    files = {path.relative_to(tmp_path / "drawn1") for path in (tmp_path / "drawn1").rglob("*.png")}
    assert len(files) == 3 * 3 + 1
    for name in files:
        assert (tmp_path / "drawn1" / name).read_bytes() == (tmp_path / "drawn2" / name).read_bytes()

    places = [f"{tmp_path}/drawn1/{name}" for name in ("ant", "bee/*.png", "cat/00001.png")]
    (tmp_path / "drawn1" / "bee" / "00002.png").write_bytes(b"broken")
    for processes in (1, 2):
        output = str(tmp_path / f"p{processes}.csv")
        told = predict_images.predict_images(run, places, output, processes=processes)
        assert told.startswith("6 images classified; 1 cannot be read")
    assert (tmp_path / "p1.csv").read_bytes() == (tmp_path / "p2.csv").read_bytes()
