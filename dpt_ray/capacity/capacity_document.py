"""docs/guide/cluster/sizing.md: the table of four scales, and what it rests on; `COMMAND` writes it."""

# ruff: noqa: E501 - prose

from dataclasses import dataclass

from dpt_ray.capacity import flops as compute
from dpt_ray.capacity import storage_bytes as storage
from dpt_ray.capacity.measured import read_rates
from dpt_ray.capacity.run_size import LATENT_READ_RATE, DataSize, RunSize, size_run
from dpt_ray.capacity.size_table import number, size_table
from dpt_ray.config.load import load_config
from dpt_ray.config.schema import RunConfig

COMMAND = "python -m dpt_ray.capacity.capacity_document > docs/guide/cluster/sizing.md"
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
        "the shards of `docs/results/benchmarks/data.md`: JPEGs of 0.9 kB",
    ),
    Scale(
        "ImageNet-256", "configs/imagenet256_l.yaml", _SHARDS,
        DataSize(1_281_167, 110_000, 500 * 400, 1_000, 1_000),
        "ILSVRC 2012 as distributed: JPEGs of 110 kB, about 500x400, resized to 256x256 while reading",
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
    sources = "\n".join(f"- **{scale.title}**: `{scale.config}`;\n  {scale.source}." for scale in SCALES)
    return f"""# How large a cluster

    .venv/bin/dpt prepare --config configs/digits.yaml
    .venv/bin/dpt run --config configs/digits.yaml --dry-run

`--dry-run` prints these sizes for your own settings, once the data is indexed (`dpt prepare`). This page
follows from the settings, the benchmarks and the networks. It is written by

    {COMMAND}

{table}

{sources}

**Only digits has been run to its end. Every GPU-hour and every rate of a GPU is an estimate that no GPU has confirmed
yet.** Whatever follows from such a rate (readers, requests and bytes for a GPU) is as uncertain. GPU-hours are of one
{compute.H100.name}; N GPUs take an Nth of the time at best.

Measure your own rate with `dpt benchmark train --device cuda` and the metric `ray_dpt_images_total`, and scale:
twice the images/s need twice the readers and half the GPU-hours.

{_derivation()}"""


def _rates() -> tuple[str, str, str]:
    """Return the measured rates of reading, the assumed shares of a GPU's peak, and its peaks."""
    reading = "\n".join(
        f"- {rate.images_per_second:,.0f} images/s of a CPU for JPEGs of {rate.stored_pixels:,} pixels "
        f"([{rate.source.rpartition('/')[2]}](../../results/benchmarks/{rate.source.rpartition('/')[2]}))"
        for rate in read_rates()
    )
    shares = "\n".join(
        f"| {network} | {precision} | {share:g} |"
        for precision, networks in compute.UTILISATION.items()
        for network, share in networks.items()
    )
    peaks = ", ".join(f"{number(peak / 1e12)}e12 in {name}" for name, peak in compute.H100.peak.items())
    return reading, shares, peaks


def _derivation() -> str:
    """Return the section that says how each figure follows."""
    reading, shares, peaks = _rates()
    return f"""## How each figure follows

**GPU-hours** = images x operations of an image / (peak x share of it) / 3600.

- Operations are counted by torch's FLOP counter on the network that the settings describe.
- Training costs three forward passes. A FreeMatch step computes its labelled images once and its unlabelled ones twice.
- A frozen encoder costs depth x (24 T D^2 + 4 T^2 D), for T tokens of width D.
- Pseudo images cost their network evaluations, two for a guided one.
- An autoencoder costs {number(compute.ENCODE_FLOPS_PER_PIXEL)} a pixel to encode and \
{number(compute.DECODE_FLOPS_PER_PIXEL)} to decode, counted on Stable Diffusion's.
- Peak: {peaks} operations/s
  ({compute.H100.source}).
- Encoders and inference compute in float32, trainings in what `precision` says. The preset `cifar10` uses float32, as
  published.

The share of the peak is **assumed**. The one anchor is U-ViT's README: 1.14 steps/s of 128 images for H/2 on an A100,
which is 0.37 of its peak.

| network | precision | share of the peak |
|---|---|---|
{shares}

**CPU readers for a GPU** = images/s of the GPU that come from the training set / images/s of a CPU. The rates of a CPU
were measured on two virtual cores of an AMD EPYC with shards on a local disk. Checks, decoding and shuffling are
included:

{reading}
- {LATENT_READ_RATE:,.0f} images/s for stored [latents](../generators.md#latents)

Between these sizes the model has a time for each image and a time for each pixel. Three more rules:

- A training set whose decoded size is at most `cluster.keep_mib` is decoded once and kept, and needs no readers then.
- The row shows the longest stage, and `--dry-run` all. Labelling and encoding always stream, for one pass. There a
  small network on a fast GPU could use more readers than are worth paying for. With fewer it only takes longer.
- Fetching from S3 is not in the measured rate, so two readers share a CPU there.

**GET/s** = images/s x (1 / images in a shard + `data.lanes` / `data.shuffle_window`). A shard is fetched whole, and
again where a lane's shuffle window ends within it; in inference once. **Fetched bytes** are those GETs times the
shard's size.

**Object store** = kept sources + {storage.stream_gib():g} GiB for each source that streams. It is at least so large that
streams take no more than {storage.stream_share():.0%} of it. The shuffle window comes on top, in the worker's own
memory: `data.shuffle_window` x decoded image.

**Checkpoint** = bytes of weights, averages, optimizer moments and the algorithm's statistics. They are counted on the
training that the settings describe, without its memory. Two are kept while a training runs, none afterwards.

**Shards**: every file of a sample takes 512 bytes and its length rounded up to 512 (tar). **Results**: keys, labels,
confidence and {storage.TOP_BYTES} bytes for each kept class, features in float32, uncompressed; pseudo images as raw
pixels; the networks. PNG and Parquet make less of it.
"""


if __name__ == "__main__":
    print(render(), end="")
