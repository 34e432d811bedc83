"""Labelled images in shards of their own, where they lie far apart among all images.

Training reads the labelled images again and again. Of 1 % of ImageNet each one would cost a request, or without stored
layouts its whole shard. Packed shards hold the same files in the same order, without labels. A source numbers its rows
as before (`artifacts/labelled.py`), so training gets the same images in the same order.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.images.formats import SNIFFED_BYTES, fitting_extension, sniff
from dpt_ray.data.loading.shard_samples import read_shard_samples
from dpt_ray.data.shards.image_ranges import GAP_BYTES, fetch_images, images_differ
from dpt_ray.data.shards.index import INDEX_FILE, DatasetIndex, ShardInfo
from dpt_ray.data.shards.label_choice import LabelledImage
from dpt_ray.data.shards.samples import Sample, build_shard
from dpt_ray.data.shards.sidecars import sidecar_name
from dpt_ray.data.shards.skipped import Skipped, SkipPolicy
from dpt_ray.data.shards.stored_layouts import encode_layout, read_layout
from dpt_ray.data.storage import stores
from dpt_ray.distributed.inference import run_units
from dpt_ray.distributed.resources import inference_resources
from dpt_ray.distributed.units import UnitWorker, UnusableUnitError
from dpt_ray.errors import StoreFailureError, UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.step_facts import ShardFile
from dpt_ray.pipeline.execution.step import StepContext

PACKED_IMAGES, PACKED_PARTS = 1000, 384
"""Images of a packed shard, and most shards that they come from: a unit lists them in a short message."""

LEAST_GAIN = 1.5
"""How many times as much reading must cost without packed shards. Each image is copied once for them."""

_SHARDS, _LAYOUTS = "shards", "layouts"


class PackedPart(NamedTuple):
    """Images of one shard: the numbers of its usable samples, in order."""

    shard: ShardInfo
    rows: tuple[int, ...]


class PackedShard(NamedTuple):
    """A packed shard, which is a unit: its number, and where its images are."""

    number: int
    parts: tuple[PackedPart, ...]


def pays(rows: Mapping[int, Sequence[int]], index: DatasetIndex, form: ImageForm, keep_bytes: int) -> bool:
    """Whether reading labelled images costs much more from the shards of all images than from packed ones.

    A request counts as the `GAP_BYTES` that a store transfers meanwhile. Images that a training decodes once and keeps
    are not worth a copy.

    Args:
        rows: position of a shard in the index -> its labelled rows.
        index: the data set.
        form: the form of the decoded images.
        keep_bytes: largest decoded size of images that are kept.
    """
    if sum(map(len, rows.values())) * form.num_bytes <= keep_bytes:
        return False
    costs = [_costs(index.shards[shard], len(chosen)) for shard, chosen in rows.items()]
    return sum(now for now, _ in costs) >= LEAST_GAIN * sum(packed for _, packed in costs)


def _costs(shard: ShardInfo, rows: int) -> tuple[float, float]:
    """Return the cost in bytes of reading some rows of a shard, now and from a packed shard."""
    image = shard.bytes / (shard.samples + len(shard.skipped))
    gap = (shard.samples / rows - 1) * image
    whole = shard.bytes + GAP_BYTES
    now = min(whole, rows * (image + GAP_BYTES)) if shard.layouts is not None and gap > GAP_BYTES else whole
    return now, rows * image + GAP_BYTES


def pack_labelled(
    context: StepContext, index: DatasetIndex, chosen: Sequence[LabelledImage], form: ImageForm
) -> int | None:
    """Copy labelled images into shards in the artifact's folder, with an index of these, where that pays.

    Args:
        context: where; the settings of the cluster say which images a training keeps.
        index: the data set.
        chosen: the labelled images.
        form: the form of the decoded images.

    Returns:
        The number of packed shards; None if it doesn't pay, or if an image cannot be read, which training handles.
    """
    rows: dict[int, list[int]] = {}
    for image in sorted(chosen, key=lambda image: (image.shard, image.row)):
        rows.setdefault(image.shard, []).append(image.row)
    if not pays(rows, index, form, context.cluster.keep_mib * 2**20):
        return None
    units = packed_shards(rows, index)
    progress = context.progress(len(chosen))
    made = run_units(
        _PackingWorker,
        {"folder": context.file(_SHARDS), "layouts": context.file(_LAYOUTS)},
        units,
        resources=inference_resources(context.cluster),
        progress=progress,
        policy=SkipPolicy(allowed_share=1.0),
        folder=context.folder,
    )
    files = [ShardFile.from_json(file) for file in made]
    lost = [entry for file in files for entry in file.skipped or ()]
    if lost:
        progress.warn(f"labelled images stay in the shards of all images, for {lost[0]}")
        stores.remove_tree(context.file(_SHARDS))
        stores.remove_tree(context.file(_LAYOUTS))
        return None
    infos = tuple(
        ShardInfo(str(file.url), int(file.bytes or 0), str(file.sha256), file.images, number=n, white=index.white)
        for n, file in enumerate(files)
    )
    packed = DatasetIndex(infos, (), "", layout_folder=context.file(_LAYOUTS))
    stores.write_json(context.file(INDEX_FILE), packed.to_json(context.folder))
    return len(infos)


def packed_shards(rows: Mapping[int, Sequence[int]], index: DatasetIndex) -> list[PackedShard]:
    """Return the packed shards. The images of a shard of the data set are together in one of them, in order."""
    units: list[PackedShard] = []
    parts: list[PackedPart] = []
    for shard, chosen in sorted(rows.items()):
        parts.append(PackedPart(index.shards[shard], tuple(chosen)))
        if len(parts) == PACKED_PARTS or sum(len(part.rows) for part in parts) >= PACKED_IMAGES:
            units.append(PackedShard(len(units), tuple(parts)))
            parts = []
    return [*units, PackedShard(len(units), tuple(parts))] if parts else units


class _PackingWorker(UnitWorker):
    """Writes packed shards, and their layouts before them: a shard says that its unit is done."""

    def __init__(self, folder: str, layouts: str):
        self._folder, self._layouts = folder, layouts

    def output_url(self, unit: PackedShard) -> str:
        return stores.join(self._folder, f"{unit.number:05d}.tar")

    def make(self, unit: PackedShard) -> bytes:
        samples = [sample for part in unit.parts for sample in _samples(part)]
        data = build_shard(samples)
        layout = encode_layout(data, self.output_url(unit), len(samples))
        stores.write_bytes(stores.join(self._layouts, sidecar_name(unit.number)), layout)
        return data

    def facts(self, unit: PackedShard, content: bytes) -> JsonObject:
        return {"images": sum(len(part.rows) for part in unit.parts)}


def _samples(part: PackedPart) -> list[Sample]:
    """Return the images of a shard without their labels.

    Raises:
        UnusableUnitError: the shard or one of the images cannot be read.
    """
    try:
        layout = read_layout(part.shard)
        if layout is None:
            found = read_shard_samples(part.shard)
            files = [(found[row].key, found[row].image_bytes(part.shard.url)) for row in part.rows]
        else:
            encoded = fetch_images(part.shard, layout, part.rows)
            if damaged := [layout.key(row) for row in part.rows if row not in encoded]:
                raise images_differ(part.shard, damaged)
            keys = layout.keys.split("\n")
            files = [(keys[row], encoded[row]) for row in part.rows]
    except StoreFailureError:
        raise
    except UserError as error:
        raise UnusableUnitError([Skipped(part.shard.url, None, error.what, len(part.rows))]) from None
    return [Sample(key, {_extension(content): content}) for key, content in files]


def _extension(content: bytes) -> str:
    """Return an extension that says an image's format; TGA alone is not recognised by its first bytes."""
    return fitting_extension(sniff(content[:SNIFFED_BYTES]) or "TGA", None)
