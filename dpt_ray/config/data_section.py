"""Sections `data` and `labels`: images, and which of them count as labelled."""

import unicodedata
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dpt_ray.config.effects import ReadWhen, read_with
from dpt_ray.config.places import Place
from dpt_ray.config.section import Count, Section, Share
from dpt_ray.plugins import OrPlugin

MAX_CLASSES = 1_000_000
"""Largest number of classes: no known data set has more, and each class costs memory in every step."""


_WRITTEN = ReadWhen("data of another format than shards", lambda data: data.format != "shards")
_IN_TABLES = ReadWhen(
    "data of the format csv or parquet",
    lambda data: data.train != "digits" and data.format in ("auto", "csv", "parquet"),
)


_WITH_TABLE = ReadWhen("data.train_labels", lambda data: data.train_labels is not None)
_WITHOUT_TEST = ReadWhen("data.train without data.test", lambda data: data.draws_test)


class DataConfig(Section):
    train: Place | None = "digits"
    """Training images: `digits` (embedded), or the URL of a folder or file of any `format`."""
    test: Place | None = None
    """Held-out images for evaluation. Training never reads them, and none of them may be a training image. They use the
    class ids of `train`. The embedded digits include their own. By default images of `train` are drawn (`test_share`).
    """
    test_share: Annotated[float, Field(gt=0, lt=1), _WITHOUT_TEST] = 0.2
    """Share of the images of every class in `train` that is held out for evaluation, at least one image each. Only
    images with a true label are drawn."""
    test_seed: Annotated[int, _WITHOUT_TEST] = 0
    """Seed of that draw. With the same seed, a larger share contains a smaller one."""
    format: Annotated[Literal["auto", "shards", "class_folders", "csv", "cifar10", "parquet"], OrPlugin("formats")] = (
        "auto"
    )
    """Format of `train` and `test`: WebDataset shards, which are read in place, or a format that is converted to shards
    (`docs/guide/data.md`). `auto` detects it."""
    train_labels: Place | None = None
    """csv: URL of a table with a header and a row for each image below the folder `train`."""
    unlisted: Annotated[Literal["ignore", "unlabelled"], _WITH_TABLE] = "ignore"
    """csv: how images below the folder `train` are handled that its table does not list. `ignore`: they are reported
    and left out. `unlabelled`: they are unlabelled training images."""
    test_labels: Place | None = None
    """csv: URL of the table for the folder `test`."""
    image_column: Annotated[str | None, _IN_TABLES] = None
    """csv: column with file names, `file` by default. parquet: column with images, detected by default."""
    label_column: Annotated[str | None, _IN_TABLES] = None
    """Column with class names or ids. csv: `label` by default. parquet: detected by default."""
    image_size: Count = 8
    """Height and width in pixels of every image after loading (short side resized, centre cropped)."""
    channels: Literal[1, 3] = 3
    """1 for greyscale, 3 for RGB."""
    num_classes: Annotated[int, Field(ge=2, le=MAX_CLASSES)] | None = None
    """Number of classes. By default it is the largest class id + 1."""
    class_names: tuple[str, ...] | None = None
    """Class names in the order of class ids. They map the names in the data to ids, and the report shows them."""
    class_file: Place | None = None
    """URL of a text file with the class names, one a line, in place of `class_names`."""
    images_per_shard: Annotated[Count, _WRITTEN] = 1000
    """Number of images in each shard that this package writes from another format."""
    prepare_size: Annotated[Count | None, _WRITTEN] = None
    """Height and width in pixels of the images in those shards (short side resized, centre cropped, stored as PNG). By
    default images are copied unchanged."""
    max_image_pixels: Count = 64_000_000
    """Largest number of pixels of an image. A larger one is refused before it is decoded (decompression bombs)."""
    on_error: Literal["fail", "skip"] = "fail"
    """How an unusable image, file or shard is handled. `fail`: it ends the job. `skip`: it is listed and left out."""
    max_skipped_share: Annotated[Share, read_with("on_error", "skip")] = 0.01
    """With `on_error: skip`: largest share of a data set's images that may be left out."""
    on_overlap: Literal["fail", "report"] = "fail"
    """How test images with exactly the pixels of a training image are handled. `fail`: they end the job before anything
    trains. `report`: they are counted and listed, as near duplicates always are (`docs/guide/data.md`)."""
    lanes: Count = 8
    """Number of interleaved streams that make up the data order. Each training worker reads some of them, at least one.
    Batch sizes must be multiples of it. More lanes read no more bytes; another number gives another order."""
    shuffle_window: Count = 16384
    """Number of images in the shuffle window, over all lanes. It bounds the memory of streaming."""

    @model_validator(mode="after")
    def _consistent(self) -> "DataConfig":
        if self.class_names is not None and self.num_classes not in (None, len(self.class_names)):
            raise ValueError(
                f"num_classes is {self.num_classes} but class_names names {len(self.class_names)} classes; "
                "make them agree or leave num_classes out"
            )
        if self.class_names is not None and self.class_file is not None:
            raise ValueError("class_names and class_file say the same; give one of them, and null for the other")
        try:
            check_class_names(self.class_names or ())
        except ValueError as error:
            raise ValueError(f"class_names {error}") from None
        if self.train is None:
            raise ValueError(
                "train is needed: the URL of a folder of training shards or images (and test: of held-out ones)"
            )
        if self.train == "digits" and self.test is not None:
            raise ValueError("test must be left out: the embedded digits bring their own held-out images")
        self._check_tables()
        if self.prepare_size is not None and self.prepare_size < self.image_size:
            raise ValueError(
                f"prepare_size must not be below image_size, to which images would be enlarged again: "
                f"{self.prepare_size} < {self.image_size}"
            )
        return self

    def _check_tables(self) -> None:
        tables = [name for name in ("train_labels", "test_labels") if getattr(self, name) is not None]
        if tables and (self.format not in ("auto", "csv") or self.train == "digits"):
            other = "digits" if self.train == "digits" else self.format
            raise ValueError(f"{tables[0]} is for data of the format csv; leave it out for {other}")
        if self.test_labels is not None and self.test is None and self.train != "digits":
            raise ValueError("test is needed beside test_labels: the URL of the folder of the images that it lists")
        needed = ["train_labels"] if self.test is None else ["train_labels", "test_labels"]
        if missing := [name for name in needed if self.format == "csv" and name not in tables]:
            raise ValueError(f"the format csv needs {' and '.join(missing)}, the URL of a table of labels")

    @property
    def draws_test(self) -> bool:
        """Whether the held-out images are drawn from the training images."""
        return self.test is None and self.train != "digits"


def check_class_names(names: Sequence[str]) -> None:
    """Refuse blank class names, and two names that look the same to a reader.

    Raises:
        ValueError: a name is blank or repeated; the message contains the repeated name.
    """
    seen: set[str] = set()
    for name in names:
        plain = unicodedata.normalize("NFC", name).strip()
        if not plain:
            raise ValueError("has an empty name among the class names; name every class")
        if plain in seen:
            raise ValueError(f"lists the class {plain[:80]!r} twice; name each class once")
        seen.add(plain)


LABEL_CHOICES = ("per_class", "fraction", "file")
"""The settings that select the labelled images; exactly one of them is given."""


class LabelsConfig(Section):
    per_class: Count | None = None
    """Number of labelled images of every class, drawn with `seed`. The default does not apply if `fraction` or
    `file` is given."""
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of every class that is labelled (at least one image each), drawn with `seed`."""
    file: Place | None = None
    """URL of a text file with the keys or file names of the labelled images, one a line. A table (CSV) with the columns
    `file` and `label` gives their labels too, in place of those in the data; `dpt suggest-labels` writes one to be
    filled in."""
    seed: Annotated[int, ReadWhen("per_class or fraction", lambda labels: labels.file is None)] = 0
    """Seed of the draw. With the same seed, a larger subset contains a smaller one."""

    @model_validator(mode="after")
    def _one_way(self) -> "LabelsConfig":
        given = [name for name in LABEL_CHOICES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(LABEL_CHOICES)} (now: {', '.join(given) or 'none'})")
        return self
