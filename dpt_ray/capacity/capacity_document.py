"""docs/sizing.md: the table of four scales, and what it rests on; `COMMAND` writes it."""

# ruff: noqa: E501 - prose

from dataclasses import dataclass

from dpt_ray.capacity import flops as compute
from dpt_ray.capacity import storage_bytes as storage
from dpt_ray.capacity.measured import read_rates
from dpt_ray.capacity.run_size import LATENT_READ_RATE, DataSize, RunSize, size_run
from dpt_ray.capacity.size_table import number, size_table
from dpt_ray.config.load import load_config
from dpt_ray.config.schema import RunConfig

COMMAND = "python -m dpt_ray.capacity.capacity_document > docs/sizing.md"
_SHARDS = ("data.train=s3://bucket/train", "data.test=s3://bucket/test")


@dataclass(frozen=True)
class Scale:
    """A column of the table.

    Attributes:
        title: its name.
        config: the file of settings, from the repository's root.
        settings: what is changed in it.
        data: the training set.
        source: where the figures of `data` are from.
    """

    title: str
    config: str
    settings: tuple[str, ...]
    data: DataSize
    source: str


SCALES = (
    Scale(
        "digits", "configs/digits.yaml", (), DataSize(1438, 130, 64, 250, 10),
        "scikit-learn's digits without the fifth that is held out; PNGs of some 130 bytes",
    ),
    Scale(
        "CIFAR-10", "configs/cifar10.yaml", _SHARDS, DataSize(50_000, 900, 32 * 32, 2_500, 10),
        "the shards of docs/benchmarks/data.md: JPEGs of 0.9 kB",
    ),
    Scale(
        "ImageNet-256", "configs/imagenet256_l.yaml", _SHARDS,
        DataSize(1_281_167, 110_000, 500 * 400, 1_000, 1_000),
        "ILSVRC 2012 as distributed: JPEGs of 110 kB, about 500x400, brought to 256x256 while reading",
    ),
    Scale(
        "100 million", "configs/sizing/hundred_million.yaml", _SHARDS,
        DataSize(100_000_000, 110_000, 500 * 400, 1_000, 1_000),
        "assumed: images like ImageNet's",
    ),
)  # fmt: skip


def scale_config(scale: Scale) -> RunConfig:
    """Return the settings of a column."""
    return load_config(scale.config, scale.settings)


def scale_size(scale: Scale) -> RunSize:
    """Return the sizes of a column."""
    return size_run(scale_config(scale), scale.data)


def render() -> str:
    """Return the document. It reads `configs/`, so the working folder must be the repository's root."""
    table = size_table({scale.title: scale_size(scale) for scale in SCALES})
    sources = "\n".join(
        f"- **{scale.title}**: [`{scale.config}`](../{scale.config}); {scale.source}." for scale in SCALES
    )
    return f"""# How large a cluster

Written by `{COMMAND}` from the settings, the benchmarks and the networks themselves. `--dry-run` prints the
same for your own settings, once the data is indexed (`jobs/prepare_data.py`).

{table}

{sources}

**Only digits has been run to its end. Every GPU-hour and every rate of a GPU is a reckoning that no GPU has confirmed yet**;
what follows from such a rate (readers, requests and bytes for a GPU) is as uncertain. Measure your own with
`jobs/benchmark.py train --device cuda` and the metric `ray_dpt_images_total`, and scale: twice the images/s need twice the
readers and half the GPU-hours. GPU-hours are of one {compute.H100.name}; N GPUs take an Nth of the time at best.

{_derivation()}"""


def _derivation() -> str:
    """Return the section that says how each figure follows."""
    reading = "\n".join(
        f"- {rate.images_per_second:,.0f} images/s of a CPU for JPEGs of {rate.stored_pixels:,} pixels "
        f"([{rate.source.rpartition('/')[2]}](benchmarks/{rate.source.rpartition('/')[2]}))"
        for rate in read_rates()
    )
    shares = ", ".join(
        f"{network} {share:g} in {precision}"
        for precision, networks in compute.UTILISATION.items()
        for network, share in networks.items()
    )
    peaks = ", ".join(f"{number(peak / 1e12)}e12 in {name}" for name, peak in compute.H100.peak.items())
    return f"""## How each figure follows

**GPU-hours** = images x operations of an image / (peak x share of it) / 3600.

- Operations are counted by torch's FLOP counter on the network that the settings describe. Training costs three forward
  passes; a FreeMatch step computes its labelled images once and its unlabelled ones twice. A frozen encoder's are
  depth x (24 T D^2 + 4 T^2 D), T tokens of width D. Pseudo images cost their network evaluations, two for a guided one. An
  autoencoder's are {number(compute.ENCODE_FLOPS_PER_PIXEL)} a pixel to encode and {number(compute.DECODE_FLOPS_PER_PIXEL)} to decode, counted on Stable Diffusion's.
- Peak: {peaks} operations/s ({compute.H100.source}).
- Share of the peak, **assumed**: {shares}. The one anchor: U-ViT's README gives 1.14 steps/s
  of 128 images for H/2 on an A100, which is 0.37 of its peak. Encoders and inference compute in float32, trainings in what
  `precision` says: the preset `cifar10` in float32, as published.

**CPU readers for a GPU** = images/s of the GPU that come from the training set / images/s of a CPU. Measured, on two virtual
cores of an AMD EPYC with shards on a local disk, checking, decoding and shuffling included:

{reading}

Stored latents: {LATENT_READ_RATE:,.0f} images/s ([latents.md](latents.md)). Between pixels a time for each image and one for each pixel is assumed. A training set whose decoded size is at most
`cluster.keep_mib` is decoded once and kept, and needs no readers then. The row shows the longest stage, and
`--dry-run` all. Labelling and encoding always stream, for one pass: there a small network on a fast GPU takes more than one
would pay readers for, and with fewer it only takes longer. Fetching from S3 is not in the measured rate, so two readers share a CPU there
(`distributed/reading.py`).

**GET/s** = images/s x (1 / images in a shard + `data.lanes` / `data.shuffle_window`): a shard is fetched whole, and again where a
lane's shuffle window ends within it; in inference once. **Fetched bytes** are those GETs times the shard's size.

**Object store** = kept sources + {storage.stream_gib():g} GiB for each source that streams, at least so much that streams
take no more than {storage.stream_share():.0%} of it. The shuffle window comes on top, in the worker's own memory:
`data.shuffle_window` x decoded image.

**Checkpoint** = bytes of weights, averages, optimizer moments and the algorithm's statistics, counted on the training that
the settings describe, without its memory. Two are kept while a training runs, none afterwards.

**Shards**: every file of a sample takes 512 bytes and its length rounded up to 512 (tar). **Results**: keys, labels,
confidence and {storage.TOP_BYTES} bytes for each kept class, features in float32, uncompressed; pseudo images as raw pixels; the networks.
PNG and Parquet make less of it.
"""


if __name__ == "__main__":
    print(render(), end="")
