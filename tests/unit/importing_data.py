"""Data to import in tests, and what becomes of it."""

import io
import json
import uuid
from collections.abc import Mapping

import numpy as np
from PIL import Image

from dpt_ray.config.data_section import DataConfig
from dpt_ray.data.images.decoding import MAX_PIXELS
from dpt_ray.data.importing import detect
from dpt_ray.data.importing.import_plan import ImageSet
from dpt_ray.data.importing.prepare import Prepared, prepare
from dpt_ray.data.shards.archive_samples import iter_samples
from dpt_ray.data.shards.samples import Sample, build_shard
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores


def new_place(kind: str, tmp_path) -> str:
    """URL of an empty folder: a local path or an in-memory one."""
    return str(tmp_path / "data") if kind == "local" else f"memory://{uuid.uuid4().hex}"


def encoded(width: int = 5, height: int = 4, colour: int = 100, form: str = "PNG", mode: str = "RGB") -> bytes:
    """An image of one colour."""
    buffer = io.BytesIO()
    Image.new(mode, (width, height), colour if mode in ("L", "P", "1", "I;16") else (colour,) * len(mode)).save(
        buffer, form
    )
    return buffer.getvalue()


def noise(seed: int, width: int, height: int) -> np.ndarray:
    """Pixels, uint8 (H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write(root: str, files: Mapping[str, bytes | str]) -> str:
    """Write files below a folder; return the folder."""
    for name, content in files.items():
        stores.write_bytes(stores.join(root, name), content if isinstance(content, bytes) else content.encode())
    return root


def settings(train: str, test: str | None = "unused", **others) -> DataConfig:
    """Settings that import `train`."""
    return DataConfig(train=train, test=test, **others)


def shards_of(
    images: ImageSet, per_shard: int = 3, size: int | None = None
) -> tuple[list[list[Sample]], list[Skipped]]:
    """Do what workers do; return the samples of each shard as they are read back, and everything that was refused."""
    shards, skipped = [], list(images.refused)
    for recipe in images.recipes(per_shard):
        recipe = json.loads(json.dumps(recipe))
        found = list(detect.read(images.kind, json.loads(json.dumps(images.reader_settings())), recipe))
        results = [f if isinstance(f, Skipped) else prepare(f, size, MAX_PIXELS) for f in found]
        assert recipe["images"] == sum(r.images if isinstance(r, Skipped) else 1 for r in results)
        skipped += [result for result in results if isinstance(result, Skipped)]
        data = build_shard(result.sample for result in results if isinstance(result, Prepared))
        shards.append(list(iter_samples(data, "shard")))
    return shards, skipped


def labels_of(images: ImageSet, **options) -> dict[str, int | None]:
    """Class id of each key."""
    shards, _ = shards_of(images, **options)
    return {sample.key: sample.label("shard") for shard in shards for sample in shard}
