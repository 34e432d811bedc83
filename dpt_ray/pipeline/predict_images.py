"""Classification of new images into a CSV or Parquet table, in this process or in several on Ray."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dpt_ray.data.images.decoding import decode_images
from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.json_records import Record
from dpt_ray.distributed.progress import ProgressLine
from dpt_ray.distributed.units import UnitWorker
from dpt_ray.errors import UserError
from dpt_ray.export.loaded_classifier import LoadedClassifier, load_classifier
from dpt_ray.export.onnx_classifier import ENDING, OnnxClassifier, load_onnx
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.best_stage import best_stage
from dpt_ray.pipeline.execution.run_processes import run_processes
from dpt_ray.pipeline.export_run import export_classifier
from dpt_ray.pipeline.found_model import find_model
from dpt_ray.pipeline.network_origin import CLASSIFIER_IDS
from dpt_ray.pipeline.prediction_inputs import EncodedImage, find_inputs, read_images, units_of
from dpt_ray.text import csv_cell

ENDINGS = (".csv", ".parquet")
_DECODED_TOGETHER = 256


@dataclass(frozen=True)
class _Part(Record):
    """A part of the table: its URL, its rows, and how many of these are images that cannot be read."""

    url: str
    images: int
    unreadable: int


TableRow = dict[str, str | float | None]
"""A row of the table by column; see `_schema`."""


class PredictionWorker(UnitWorker):
    """Classifies the images of units.

    Args:
        model: URL of an exported classifier, or of its ONNX file.
        parts: URL of the folder for the units' rows.
        top: number of classes in a row, the most probable one first.
        device: device of the classifier; if None, a GPU if there is one.
    """

    def __init__(self, model: str, parts: str, top: int, device: str | None):
        self._classifier: LoadedClassifier | OnnxClassifier
        self._classifier = load_onnx(model, device) if model.endswith(ENDING) else load_classifier(model, device)
        self._parts, self._top = parts, min(top, len(self._classifier.classes))

    def output_url(self, unit: Any) -> str:
        """Return the URL of a unit's rows."""
        return stores.join(self._parts, f"{unit[0]:06d}.parquet")

    def make(self, unit: Any) -> bytes:
        """Return the rows of a unit, (number, files), as a Parquet table."""
        rows = [row for images in _together(read_images(unit[1])) for row in self._rows(images)]
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, _schema(self._top)), buffer)
        return buffer.getvalue()

    def facts(self, unit: Any, content: bytes) -> JsonObject:
        """Return the numbers of files and images of a unit, and of the images that cannot be read."""
        problems = pq.read_table(io.BytesIO(content), columns=["problem"]).column("problem")
        return {"files": len(unit[1]), "images": len(problems), "unreadable": len(problems) - problems.null_count}

    def _rows(self, images: Sequence[EncodedImage]) -> Iterator[TableRow]:
        problems = {number: image.problem for number, image in enumerate(images) if image.problem}

        def note(number: int, error: UserError) -> None:
            problems.setdefault(number, error.what)

        pixels = decode_images(
            [image.data for image in images], self._classifier.form, lambda number: images[number].name, note
        )
        usable = [number for number in range(len(images)) if number not in problems]
        probabilities = self._classifier.probabilities(pixels[usable]).numpy() if usable else np.empty((0, 1))
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : self._top]
        places = {number: place for place, number in enumerate(usable)}
        for number, image in enumerate(images):
            row: TableRow = {"file": image.name, "problem": problems.get(number)}
            if number in places:
                place = places[number]
                for rank, label in enumerate(order[place], start=1):
                    row[_column("class", rank)] = self._classifier.classes[label]
                    row[_column("probability", rank)] = float(probabilities[place, label])
            yield row


def _together(images: Iterator[EncodedImage]) -> Iterator[list[EncodedImage]]:
    found: list[EncodedImage] = []
    for image in images:
        found.append(image)
        if len(found) == _DECODED_TOGETHER:
            yield found
            found = []
    if found:
        yield found


def _column(name: str, rank: int) -> str:
    return name if rank == 1 else f"{name}_{rank}"


def _schema(top: int) -> pa.Schema:
    ranked = [
        field
        for rank in range(1, top + 1)
        for field in ((_column("class", rank), pa.string()), (_column("probability", rank), pa.float32()))
    ]
    return pa.schema([("file", pa.string()), *ranked, ("problem", pa.string())])


def predict_images(
    model: str,
    places: Sequence[str],
    output: str,
    *,
    top: int = 1,
    stage: int | None = None,
    processes: int = 1,
    device: str | None = None,
) -> str:
    """Classify images and write a table; return a summary in one line.

    The same call continues an interrupted one: the rows of finished units are kept beside the table until it is
    complete.

    Args:
        model: URL of a run, of a finished training, or of an exported classifier, as a folder or as its ONNX file.
        places: argument of `find_inputs`.
        output: URL of the table, which ends in `.csv` or `.parquet`. Columns: file, class, probability, class_2,
            probability_2, ..., problem.
        top: number of classes in a row.
        stage: stage of the classifier in a run, 1 or 3; if None, the one that `best_stage` chooses.
        processes: number of processes; Ray runs them if there are several.
        device: device of the classifier; if None, a GPU if there is one.

    Raises:
        UserError: no such model or images, or the table exists.
    """
    output = stores.absolute_url(output)
    if not output.endswith(ENDINGS):
        raise UserError("is no table that can be written", where=output, fix="end it in .csv or .parquet")
    if stores.exists(output):
        raise UserError("exists already", where=output, fix="remove it, or write to another file")
    files = find_inputs(places)
    parts, units = f"{output}.parts", list(enumerate(units_of(files)))
    stage, reason = (stage, "") if stage is not None else best_stage(model)
    found = find_model(model, CLASSIFIER_IDS[stage], "classifier")
    plan: JsonObject = {"model": found.identity, "top": top, "files": sha256(json.dumps(files).encode())}
    _continue_or_begin(parts, plan)
    exported = found.exported(stores.join(parts, "model"), partial(export_classifier, stage=stage))
    settings = {"model": exported, "parts": parts, "top": top, "device": device}
    progress = ProgressLine("prediction", len(files), "files")
    made = run_processes(PredictionWorker, settings, units, processes=processes, progress=progress)
    parts_made = [_Part.from_json(facts) for facts in made]
    _write_table(output, [part.url for part in parts_made])
    stores.remove_tree(parts)
    images, unreadable = sum(part.images for part in parts_made), sum(part.unreadable for part in parts_made)
    told = f"; {unreadable:,} cannot be read, see the column 'problem'" if unreadable else ""
    return f"{images - unreadable:,} images classified{reason}{told}: {output}"


def _continue_or_begin(parts: str, plan: JsonObject) -> None:
    """Keep the parts of an interrupted call with the same plan; remove those of another call."""
    place = stores.join(parts, "plan.json")
    if stores.exists(place) and stores.read_json(place) == json.loads(json.dumps(plan)):
        return
    stores.remove_tree(parts)
    stores.write_json(place, plan)


def _write_table(output: str, parts: Sequence[str]) -> None:
    """Join the parts one after another, so that memory holds one part and the content of the table."""
    buffer, schema = io.BytesIO(), pq.read_schema(io.BytesIO(stores.read_bytes(parts[0])))
    if output.endswith(".parquet"):
        with pq.ParquetWriter(buffer, schema) as writer:
            for part in parts:
                writer.write_table(pq.read_table(io.BytesIO(stores.read_bytes(part))))
        stores.write_bytes(output, buffer.getvalue())
        return
    text = io.TextIOWrapper(buffer, encoding="utf-8", newline="")
    rows = csv.writer(text)
    rows.writerow(schema.names)
    for part in parts:
        for row in pq.read_table(io.BytesIO(stores.read_bytes(part))).to_pylist():
            rows.writerow([_cell(value) for value in row.values()])
    text.flush()
    stores.write_bytes(output, buffer.getvalue())


def _cell(value: Any) -> object:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else csv_cell(value)
