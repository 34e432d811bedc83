"""Hand-made roots with runs: what their folders hold is written as the pipeline writes it."""

from dpt_ray.config.load import dump_yaml, load_config
from dpt_ray.data.storage import stores
from dpt_ray.pipeline.artifacts.run_record import RunEnd, RunStart
from dpt_ray.pipeline.artifacts.store import ArtifactStore

A, B, C, D, E = (letter * 16 for letter in "abcde")
EARLY, LATE = "20260105-093000-000", "20260106-093000-000"


def write_artifact(root: str, step: str, fingerprint: str, *parents: str, size: int = 1000, **facts: object) -> str:
    """Write a finished artifact with a file of a size; return its address."""
    store = ArtifactStore(root)
    named = [parent.split("/") for parent in parents]
    manifest = {
        "settings": {},
        "parents": {f"p{number}": {"step": s, "fingerprint": f} for number, (s, f) in enumerate(named)},
        "facts": facts,
        "seconds": 1.0,
    }
    stores.write_bytes(stores.join(store.folder(step, fingerprint), "data", "file"), bytes(size))
    store.commit(step, fingerprint, manifest)
    return f"{step}/{fingerprint}"


def write_record(
    root: str, name: str, id: str, needs: list[str], end: RunEnd | None, *settings: str, report: str = ""
) -> str:
    """Write the folder of a run; return its URL. With a report it holds what a finished `dpt run` leaves."""
    folder = stores.join(root, "runs", name, id)
    config = load_config(None, ["preset=digits", f"name={name}", f"root={root}", *settings])
    stores.write_bytes(stores.join(folder, "config.yaml"), dump_yaml(config).encode())
    artifacts = {"evaluation": needs[-1]} if needs else {}
    start = RunStart(
        started="2026-01-05T09:30:00+00:00",
        command=("dpt", "run"),
        commit="abc",
        software={"torch": "2"},
        artifacts=artifacts,
        needs=tuple(needs),
    )
    stores.write_json(stores.join(folder, "started.json"), start.to_json())
    if end is not None:
        stores.write_json(stores.join(folder, "ended.json"), end.to_json())
    if report:
        stores.write_bytes(stores.join(folder, "report.html"), report.encode())
        stores.write_json(stores.join(folder, "run.json"), {"format": 2, "artifacts": artifacts, "settings": id})
    return folder


def finished(**figures: float) -> RunEnd:
    """The end of a run that finished."""
    return RunEnd(outcome="finished", ended="2026-01-05T09:40:00+00:00", seconds=600.0, figures=figures)
