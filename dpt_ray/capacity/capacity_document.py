"""Writes docs/guide/cluster/sizing.md: a table of sizes for four data sets, and their derivation. See `COMMAND`."""

from dataclasses import dataclass

from dpt_ray.capacity import flops as compute
from dpt_ray.capacity import storage_bytes as storage
from dpt_ray.capacity.driver_size import MOST_SECONDS, PROCESS_BYTES
from dpt_ray.capacity.measured import LEAST_IMAGES, read_rates
from dpt_ray.capacity.run_size import LATENT_READ_RATE, size_run
from dpt_ray.capacity.size_table import number, size_table
from dpt_ray.capacity.sizes import DataSize, RunSize
from dpt_ray.config.load import load_config
from dpt_ray.config.schema import RunConfig

COMMAND = "python -m dpt_ray.capacity.capacity_document > docs/guide/cluster/sizing.md"
_SHARDS = ("data.train=s3://bucket/train", "data.test=s3://bucket/test")


@dataclass(frozen=True)
class Scale:
    """A column of the table.

    Attributes:
        title: heading of the column.
        config: path of the settings file, relative to the repository's root.
        settings: overrides of the file's settings.
        data: the training set.
        source: source of the numbers in `data`.
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
    """Return the size of a column's run."""
    return size_run(scale_config(scale), scale.data)


def render() -> str:
    """Return the page as Markdown. The working directory must be the repository's root, because `configs/` is read."""
    table = size_table({scale.title: scale_size(scale) for scale in SCALES})
    sources = "\n".join(f"- **{scale.title}**: `{scale.config}`;\n  {scale.source}." for scale in SCALES)
    return f"""# How large a cluster

    .venv/bin/dpt prepare --config configs/digits.yaml
    .venv/bin/dpt run --config configs/digits.yaml --dry-run

`--dry-run` prints these sizes for your own settings, once the data is indexed (`dpt prepare`). The sizes on this page
are computed from settings, benchmarks and networks. This command writes the page:

    {COMMAND}

{table}

{sources}

**Only digits has been run to its end. Every GPU-hour and every rate of a GPU is an estimate that no GPU has confirmed
yet.** Readers, requests and bytes for a GPU follow from its rate, and are as uncertain. GPU-hours are those of one
{compute.H100.name}; N GPUs take at least 1/N of the time.

Measure your own rate with `dpt benchmark train --device cuda` and the metric `ray_dpt_images_total`. Then scale the
sizes: at twice the images/s, a GPU needs twice the readers and half the hours.

{_derivation()}"""


def _rates() -> tuple[str, str, str]:
    """Return Markdown of the measured reading rates, the assumed utilisation of a GPU, and its peak performance."""
    reading = "\n".join(
        f"- {rate.images_per_second:,.0f} images/s of a CPU for JPEGs of {rate.stored_pixels:,} pixels "
        f"([{rate.source.rpartition('/')[2]}](../../results/benchmarks/{rate.source.rpartition('/')[2]}))"
        for rate in read_rates()
    )
    shares = "| network | precision | utilisation |\n|---|---|---|\n" + "\n".join(
        f"| {network} | {precision} | {share:g} |"
        for precision, networks in compute.UTILISATION.items()
        for network, share in networks.items()
    )
    peaks = ", ".join(f"{number(peak / 1e12)}e12 in {name}" for name, peak in compute.H100.peak.items())
    return reading, shares, peaks


def _derivation() -> str:
    """Return the section with the derivation of each number."""
    reading, shares, peaks = _rates()
    return f"""## How each number is computed

**GPU-hours** = images x operations of an image / (peak x utilisation) / 3600.

- Operations are counted by torch's FLOP counter on the network that the settings describe.
- Training costs three forward passes. A FreeMatch step computes its labelled images once and its unlabelled ones twice.
- A frozen encoder costs depth x (24 T D^2 + 4 T^2 D), for T tokens of width D.
- A pseudo image costs the evaluations of the network; a guided evaluation counts twice.
- An autoencoder costs {number(compute.ENCODE_FLOPS_PER_PIXEL)} operations a pixel to encode and \
{number(compute.DECODE_FLOPS_PER_PIXEL)} to decode, counted on Stable Diffusion's.
- Peak: {peaks} operations/s
  ({compute.H100.source}).
- Encoders compute in float32, trainings and classifiers in the setting `precision`. The preset `cifar10` uses float32,
  as published.

The utilisation of the peak is **assumed**. Its only reference is U-ViT's README: 1.14 steps/s of 128 images for H/2 on
an A100, which is 0.37 of the peak.

{shares}

**CPU readers for a GPU** = images/s that a GPU takes from the training set / images/s that a CPU reads. The rates of a
CPU were measured on two virtual cores of an AMD EPYC with shards on a local disk. They include checks, decoding and
shuffling:

{reading}
- {LATENT_READ_RATE:,.0f} images/s for stored [latents](../generators.md#latents)

The time of an image is interpolated linearly in its number of pixels. Three more rules:

- A training set whose decoded size is at most `cluster.keep_mib` is decoded once and kept. It then needs no readers.
- The table shows the longest stage; `--dry-run` shows all. Labelling and encoding always stream, for one pass. A small
  network on a fast GPU could use very many readers there. With fewer readers the pass only takes longer.
- The measured rate excludes downloads from S3, so two readers share a CPU there.

**GET/s** = images/s x (1 / images in a shard + `data.lanes` / `data.shuffle_window`). A shard takes
one, and one more for each shuffle window of a lane that ends within it, each for another part; inference takes one.
**Fetched bytes** = images/s x stored bytes of an image.

**Object store** = kept sources + {storage.stream_gib():g} GiB for each source that streams. Streams take at most
{storage.stream_share():.0%} of it, which sets a lower bound. The shuffle window needs further memory of the worker:
`data.shuffle_window` x decoded image.

**Checkpoint** = bytes of weights, averages, optimizer moments and the algorithm's statistics. They are counted on the
training that the settings describe, without allocating it. A running training keeps two checkpoints, a finished one
its final state, which is as large, unless `cluster.keep_training_state` is false.

**Driver**: interpolated in the [benchmark of scale](../../results/benchmarks/scale.md), and
{PROCESS_BYTES / 2**30:g} GiB for the process. From {LEAST_IMAGES:,} images on, `--dry-run` compares it with the machine
on which it runs, so run it where the job will start. It names the setting to change if memory or {MOST_SECONDS:g} s for
a step do not suffice.

**Shards**: every file of a sample takes a header of 512 bytes, and its content rounded up to 512 bytes (tar).
**Results**: keys, labels, confidence, {storage.TOP_BYTES} bytes for each kept class, and features in float32; pseudo
images as raw pixels; the networks and the final states of their trainings. PNG and Parquet compress them, so this is
an upper bound.
"""


if __name__ == "__main__":
    print(render(), end="")
