"""Contestants of the reading benchmark: our readers, Ray Data's, webdataset's, and decoding only.

Every contestant reads the same shards with the same number of CPUs. All but `decode_only` deliver uint8 batches of
`BATCH` images of the same form to the calling process.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

from dpt_ray.benchmark.contest import Contestant
from dpt_ray.data.images.decoding import ImageForm, decode_images
from dpt_ray.data.loading.batches import ReadSegment, batches
from dpt_ray.data.loading.order import ImageOrder
from dpt_ray.data.loading.source import ImageSource
from dpt_ray.data.shards.archive_samples import iter_samples
from dpt_ray.data.shards.samples import IMAGE_EXTENSIONS, fetch_shard
from dpt_ray.distributed.kept_images import KeptImages
from dpt_ray.distributed.reading import open_source
from dpt_ray.distributed.streamed_images import StreamedImages

BATCH, LANES = 256, 8
"""Images in a batch, and the default of `data.lanes`."""

Decode = Callable[[Sequence[bytes], ImageForm], np.ndarray]
"""Decodes encoded images to a form: uint8 (N, C, H, W)."""


def decode_fast(encoded: Sequence[bytes], form: ImageForm) -> np.ndarray:
    """Decode with this package: uint8 (N, C, H, W)."""
    return decode_images(encoded, form, str)


def decode_with_pillow(encoded: Sequence[bytes], form: ImageForm) -> np.ndarray:
    """Decode with Pillow, as `read_webdataset` does; pixels differ from those of `decode_fast` by at most one level."""
    images = []
    for data in encoded:
        image = Image.open(io.BytesIO(data)).convert("RGB" if form.channels == 3 else "L")
        if image.size != (form.size, form.size):
            image = centre_crop_with_pillow(image, form.size)
        images.append(np.asarray(image).reshape(form.size, form.size, form.channels))
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))


def centre_crop_with_pillow(image: Image.Image, size: int) -> Image.Image:
    """Return ADM's centre crop, computed with Pillow's filters; see `dpt_ray.data.images.crop`."""
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def decode_only(source: ImageSource, cpus: int) -> Contestant:
    """Upper bound: each CPU decodes images in its memory and discards the pixels."""
    import ray

    class Decoder:
        def __init__(self, urls: list[str], form: ImageForm):
            self._form = form
            self._encoded = [sample.image_bytes(url) for url in urls for sample in iter_samples(fetch_shard(url), url)]

        def decode(self, passes: int) -> int:
            for _ in range(passes):
                for start in range(0, len(self._encoded), BATCH):
                    decode_fast(self._encoded[start : start + BATCH], self._form)
            return passes * len(self._encoded)

    urls = [shard.info.url for shard in source.shards]
    actor = ray.remote(num_cpus=0)(Decoder)
    decoders: list[Any] = [actor.remote(urls[rank::cpus], source.form) for rank in range(cpus)]
    return lambda passes: sum(ray.get([decoder.decode.remote(passes) for decoder in decoders]))


def stock_ray(source: ImageSource, decode: Decode) -> Contestant:
    """`ray.data.read_webdataset`, with decoding in tasks of Ray Data."""
    import ray

    urls, form = [shard.info.url for shard in source.shards], _pixel_form(source)

    def decode_rows(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        column = next(name for name in rows if name in IMAGE_EXTENSIONS)
        return {"image": decode(list(rows[column]), form)}

    def run(passes: int) -> int:
        rows = ray.data.read_webdataset(urls * passes, decoder=None, override_num_blocks=len(urls) * passes)
        decoded = rows.map_batches(decode_rows, batch_size=BATCH, batch_format="numpy")
        return sum(len(batch["image"]) for batch in decoded.iter_batches(batch_size=BATCH, batch_format="numpy"))

    return run


def web_loader(source: ImageSource, decode: Decode, cpus: int) -> Contestant:
    """`webdataset.WebLoader` with a worker process for each CPU, which take shards round-robin."""
    import webdataset

    urls, form = [shard.info.url for shard in source.shards], _pixel_form(source)

    def run(passes: int) -> int:
        dataset = webdataset.WebDataset(urls * passes, shardshuffle=False, empty_check=False)
        encoded = dataset.map(_encoded_image).batched(BATCH, collation_fn=list)
        decoded = encoded.map(partial(_decode_batch, decode, form))
        return sum(len(batch) for batch in webdataset.WebLoader(decoded, batch_size=None, num_workers=cpus))

    return run


def _pixel_form(source: ImageSource) -> ImageForm:
    if not isinstance(source.form, ImageForm):
        raise TypeError("the usual readers decode images, not latents")
    return source.form


def _encoded_image(sample: Mapping[str, bytes]) -> bytes:
    return next(sample[name] for name in IMAGE_EXTENSIONS if name in sample)


def _decode_batch(decode: Decode, form: ImageForm, encoded: list[bytes]) -> Any:
    import torch

    return torch.from_numpy(decode(encoded, form))


def ours_cold(source: ImageSource, shuffle_window: int) -> Contestant:
    """Our stream: every pass fetches, checks and decodes all shards, in the shuffled order of training."""

    def run(passes: int) -> int:
        reader = open_source(source, keep_bytes=0)
        assert isinstance(reader, StreamedImages)
        return _consume(source, reader, shuffle_window, passes)

    return run


def ours_kept(source: ImageSource, shuffle_window: int) -> Contestant:
    """Our kept images: decoded once, before the turns, and read in the same order as the stream."""
    reader = open_source(source, keep_bytes=source.decoded_bytes)
    assert isinstance(reader, KeptImages)
    return partial(_consume, source, reader, shuffle_window)


def _consume(source: ImageSource, reader: KeptImages | StreamedImages, shuffle_window: int, passes: int) -> int:
    order = ImageOrder(source.counts, seed=0, lanes=LANES, shuffle_window=shuffle_window)
    rows = BATCH // LANES
    steps = passes * source.num_images // BATCH
    read: ReadSegment = reader.open(order=order, lanes=range(LANES), rows_per_lane=rows, first_step=0, stop_step=steps)
    stream = batches(order, read, lanes=range(LANES), rows_per_lane=rows, first_step=0)
    return sum(len(batch["image"]) for batch in islice(stream, steps))
