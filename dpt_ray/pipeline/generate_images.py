"""Sampling of images of chosen classes into files, with a manifest and a grid, in this process or in several on Ray."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from dpt_ray.data.images.decoding import ImageForm, decode_images, encode_jpeg, encode_png
from dpt_ray.data.storage import stores
from dpt_ray.distributed.progress import ProgressLine
from dpt_ray.distributed.units import UnitWorker
from dpt_ray.errors import UserError
from dpt_ray.export.arguments import as_class_ids
from dpt_ray.export.loaded_generator import GivenSettings, LoadedGenerator, load_generator
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.execution.run_processes import run_processes
from dpt_ray.pipeline.export_run import export_generator
from dpt_ray.pipeline.found_model import find_model
from dpt_ray.report.grid import grid_png
from dpt_ray.report.image_content import SampleGrid
from dpt_ray.text import csv_cell

IMAGES_A_UNIT = 50
"""Largest number of images of a unit, which one process samples together."""
MANIFEST, GRID, SETTINGS = "manifest.csv", "grid.png", "generation.json"
_GRID_ROWS, _GRID_COLUMNS = 20, 10
_MODEL = ".model"
_ENCODERS = {"png": encode_png, "jpeg": encode_jpeg}


class DrawingUnit(NamedTuple):
    """Images of one class that are sampled together.

    Attributes:
        label: the class id.
        folder: name of the class's folder.
        first: number of the first image in the class.
        images: number of images.
    """

    label: int
    folder: str
    first: int
    images: int


class DrawingWorker(UnitWorker):
    """Samples the images of units.

    Args:
        model: URL of an exported generator.
        output: URL of the folder for the classes' folders.
        kind: `png` or `jpeg`.
        settings: arguments of `LoadedGenerator.sample`.
        device: device of the generator; if None, a GPU if there is one.
    """

    def __init__(self, model: str, output: str, kind: str, settings: GivenSettings, device: str | None):
        self._generator: LoadedGenerator = load_generator(model, device)
        self._output, self._kind, self._settings = output, kind, settings

    def output_url(self, unit: Any) -> str:
        """Return the URL of the unit's last image, which is written last."""
        return stores.join(self._output, _place(DrawingUnit(*unit), unit[3] - 1, self._kind))

    def make(self, unit: Any) -> bytes:
        """Write all images of a unit but the last, and return the content of the last image's file."""
        unit = DrawingUnit(*unit)
        images = self._generator.sample([unit.label] * unit.images, first=unit.first, **self._settings).numpy()
        for place, pixels in enumerate(images[:-1]):
            url = stores.join(self._output, _place(unit, place, self._kind))
            stores.write_bytes(url, _ENCODERS[self._kind](pixels))
        return _ENCODERS[self._kind](images[-1])

    def facts(self, unit: Any, content: bytes) -> JsonObject:
        """Return the number of images of a unit."""
        return {"images": unit[3]}


def generate_images(
    model: str,
    output: str,
    *,
    classes: Sequence[str] = (),
    per_class: int = 10,
    kind: str = "png",
    guidance_scale: float | None = None,
    seed: int | None = None,
    sampler: str | None = None,
    steps: int | None = None,
    processes: int = 1,
    device: str | None = None,
) -> str:
    """Sample images into a folder for each class, and return a summary in one line.

    An image is a function of the generator, these settings, its class and its number in the class. So the same call
    continues an interrupted one, and a larger `per_class` adds images.

    Args:
        model: URL of a run, of a finished training, or of an exported generator.
        output: URL of the folder.
        classes: names or ids; all classes if empty.
        per_class: images of each class.
        kind: `png` or `jpeg`.
        guidance_scale: s in conditional + s (conditional - unconditional); None, here and below, is the run's value.
        seed: seed of the images.
        sampler: `sampling.sampler`.
        steps: `sampling.steps`.
        processes: number of processes; Ray runs them if there are several.
        device: device of the generator; if None, a GPU if there is one.

    Raises:
        UserError: no such model or class, an impossible setting, or the folder holds images of other settings.
    """
    output = stores.absolute_url(output).rstrip("/")
    given = {"guidance_scale": guidance_scale, "seed": seed, "sampler": sampler, "steps": steps}
    settings = cast("GivenSettings", chosen := {name: value for name, value in given.items() if value is not None})
    found = find_model(model, "generator", "generator")
    plan: JsonObject = {"model": found.identity, "format": kind, **chosen}
    is_begun, existed = _is_begun(output, plan), stores.exists(output)
    exported = found.exported(stores.join(output, _MODEL), export_generator)
    try:
        generator = load_generator(exported, device)
        labels = _class_ids(classes, generator.classes)
        generator.check_settings(guidance_scale=guidance_scale, seed=seed, sampler=sampler, steps=steps)
    except UserError:
        if not is_begun:
            stores.remove_tree(stores.join(output, _MODEL) if existed else output)
        raise
    stores.write_json(stores.join(output, SETTINGS), plan)
    units = _units(labels, _class_folders(generator.classes), per_class)
    worker = {"model": exported, "output": output, "kind": kind, "settings": settings, "device": device}
    progress = ProgressLine("generation", sum(unit.images for unit in units), "images")
    plain = [tuple(unit) for unit in units]
    run_processes(DrawingWorker, worker, plain, processes=processes, progress=progress)
    _write_manifest(output, units, generator, kind, settings)
    _write_grid(output, units, generator, kind)
    stores.remove_tree(stores.join(output, _MODEL))
    return _summary(sum(unit.images for unit in units), len(labels), output)


def _summary(images: int, classes: int, output: str) -> str:
    return f"{images:,} image{'s' * (images != 1)} of {classes:,} class{'es' * (classes != 1)}: {output}"


def _class_ids(given: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Return the ids of classes, each once. A number is an id unless a class has it as its name."""
    if not given:
        return list(range(len(classes)))
    named = [int(name) if name.isdecimal() and name not in classes else name for name in given]
    return list(dict.fromkeys(as_class_ids(named, classes)))


def _units(labels: Sequence[int], folders: Sequence[str], per_class: int) -> list[DrawingUnit]:
    return [
        DrawingUnit(label, folders[label], first, min(IMAGES_A_UNIT, per_class - first))
        for label in labels
        for first in range(0, per_class, IMAGES_A_UNIT)
    ]


def _place(unit: DrawingUnit, place: int, kind: str) -> str:
    """Return the path of a unit's image below the output."""
    return f"{unit.folder}/{unit.first + place:05d}.{'jpg' if kind == 'jpeg' else kind}"


def _class_folders(classes: Sequence[str]) -> list[str]:
    """Return the name of each class's folder: that of the class if all file systems support it, otherwise its id."""
    seen: set[str] = set()
    folders = []
    for label, name in enumerate(classes):
        usable = name.isprintable() and not set(name) & set('/\\:*?"<>|') and name.strip(" .") == name and name
        if not usable or name.casefold() in seen or len(name.encode()) > 200:
            name = f"class-{label}"
        seen.add(name.casefold())
        folders.append(name)
    return folders


def _is_begun(output: str, plan: JsonObject) -> bool:
    """Return whether the folder holds images of an earlier call with the same plan.

    Raises:
        UserError: it holds images of another plan, or other files.
    """
    place = stores.join(output, SETTINGS)
    if stores.exists(place):
        if stores.read_json(place) != plan:
            raise UserError("holds images of another model or other settings", where=output, fix="name another folder")
        return True
    if any(not file["name"].startswith(f"{_MODEL}/") for file in stores.list_tree(output)):
        raise UserError("is not empty", where=output, fix="name a new folder")
    stores.remove_tree(stores.join(output, _MODEL))  # of a call that ended before its first image
    return False


def _write_manifest(
    output: str, units: Sequence[DrawingUnit], generator: LoadedGenerator, kind: str, settings: GivenSettings
) -> None:
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(["file", "class", "class_id", "number", "settings"])
    for unit in units:
        for place in range(unit.images):
            file = _place(unit, place, kind)
            name = csv_cell(generator.classes[unit.label])
            rows.writerow([csv_cell(file), name, unit.label, unit.first + place, json.dumps(settings)])
    stores.write_bytes(stores.join(output, MANIFEST), text.getvalue().encode())


def _write_grid(output: str, units: Sequence[DrawingUnit], generator: LoadedGenerator, kind: str) -> None:
    rows = [unit for unit in units if unit.first == 0][:_GRID_ROWS]
    columns = min(_GRID_COLUMNS, rows[0].images)
    channels, size, _ = generator.image_shape
    places = [_place(unit, place, kind) for unit in rows for place in range(columns)]
    files = [stores.read_bytes(stores.join(output, place)) for place in places]
    images = decode_images(files, ImageForm(size, channels), lambda number: f"image {number}")
    names = [generator.classes[unit.label] for unit in rows]
    grid = SampleGrid(images.reshape(len(rows), columns, *images.shape[1:]), names)
    stores.write_bytes(stores.join(output, GRID), grid_png(grid, with_labels=True))
