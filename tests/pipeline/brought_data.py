"""Small data sets as people bring them, each with the right result of preparing it.

Every image is noise of its own, so a training image is in a test set only where the case is about that.
"""

import io
import json
import os
import struct
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SPLITS = ("train", "test")
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SKIP = ["data.on_error=skip", "data.max_skipped_share=0.5"]


@dataclass(frozen=True)
class Refused:
    """The job ends with exit status 2 and one line that holds all of `words`."""

    words: tuple[str, ...]

    def __init__(self, *words: str):
        object.__setattr__(self, "words", words)


@dataclass(frozen=True)
class Read:
    """The training set is read: images of each class, images without a label, and words of the summary."""

    classes: dict[str, int]
    unlabelled: int = 0
    summary: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Labelled:
    """The labelled images are those with these keys."""

    keys: tuple[str, ...]

    def __init__(self, *keys: str):
        object.__setattr__(self, "keys", keys)


@dataclass(frozen=True)
class Case:
    """One data set: what writes it and returns the settings that name it, and the right result."""

    make: Callable[[Path], list[str]]
    right: Refused | Read | Labelled


CASES: dict[str, Case] = {}


def case(name: str, right: Refused | Read | Labelled) -> Callable:
    """Register the function that writes a case's data."""

    def register(make: Callable[[Path], list[str]]) -> Callable[[Path], list[str]]:
        CASES[name] = Case(make, right)
        return make

    return register


noise = np.random.default_rng(0)


def pixels(side: int = 8) -> np.ndarray:
    """Return new noise, (side, side, 3) bytes."""
    return noise.integers(0, 256, (side, side, 3), np.uint8)


def picture(form: str = "PNG", side: int = 8, **options) -> bytes:
    """Return a new encoded image of noise."""
    return encode(Image.fromarray(pixels(side)), form, **options)


def encode(image: Image.Image, form: str, **options) -> bytes:
    """Return an image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def write(path: Path, data: bytes | str = b"") -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def class_folder(folder: Path, count: int = 3, ending: str = "png", form: str = "PNG") -> None:
    """Write images 0, 1, ... of one class."""
    for number in range(count):
        write(folder / f"{number}.{ending}", picture(form))


def cats_and_dogs(folder: Path) -> None:
    """Write three images each of two classes for training, and as many for testing."""
    for split in SPLITS:
        for name in ("cat", "dog"):
            class_folder(folder / split / name)


def tar(path: Path, members: list[tuple[str, bytes | str]], mode: str = "w") -> Path:
    """Write an archive of named files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            data = data if isinstance(data, bytes) else data.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def samples(count: int = 6, first: int = 0) -> list[tuple[str, bytes | str]]:
    """Return the members of a WebDataset shard: an image and a class id 0 or 1 for each key."""
    members: list[tuple[str, bytes | str]] = []
    for number in range(first, first + count):
        members += [(f"{number:04d}.png", picture()), (f"{number:04d}.cls", str(number % 2))]
    return members


def rows(count: int = 6) -> list[dict]:
    """Return images as the Hugging Face hub stores them in Parquet."""
    return [{"bytes": picture(), "path": None} for _ in range(count)]


def parquet(path: Path, images: list, labels: pa.Array | None, names: list[str] | None = None) -> None:
    """Write a Parquet file of images and labels, with the hub's metadata if names are given."""
    kind = pa.string() if isinstance(images[0], str) else IMAGE
    columns = {"image": pa.array(images, kind)}
    features: dict = {"image": {"_type": "Image"}}
    if labels is not None:
        columns["label"] = labels
    if names:
        features["label"] = {"_type": "ClassLabel", "names": names}
    table = pa.table(columns)
    if names or labels is None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def hub_table(path: Path, names: tuple[str, str] = ("cat", "dog")) -> None:
    """Write six images of two named classes as the hub does."""
    parquet(path, rows(), pa.array([0, 1] * 3), list(names))


def csv(folder: Path, text: Callable[[str], str], images: int = 6) -> list[str]:
    """Write images 0.png, 1.png, ... and a table for each split; return the settings."""
    for split in SPLITS:
        class_folder(folder / split, images)
        write(folder / f"{split}.csv", text(split))
    labels = [f"data.{split}_labels={folder.name}/{split}.csv" for split in SPLITS]
    return places(folder) + labels


def simple_table(separator: str = ",", prefix: str = "") -> str:
    """Return a table that gives 0.png, 1.png, ... the classes cat and dog in turn."""
    lines = [f"{prefix}{number}.png{separator}{'cat' if number % 2 else 'dog'}" for number in range(6)]
    return "\n".join([f"file{separator}label", *lines]) + "\n"


def places(folder: Path, train: str = "train", test: str = "test") -> list[str]:
    """Return the settings that name the training and test data below a case's folder."""
    return [f"data.train={folder.name}/{train}", f"data.test={folder.name}/{test}"]


def exif(orientation: int, tag: int, kind: int, count: int, value: bytes) -> bytes:
    """Return an APP1 segment: an orientation, and one further tag of any type and value."""
    inline = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(">I", 38)
    entries = [
        (0x112, struct.pack(">HHIHH", 0x112, 3, 1, orientation, 0)),
        (tag, struct.pack(">HHI", tag, kind, count) + inline),
    ]
    directory = struct.pack(">H", 2) + b"".join(entry for _, entry in sorted(entries)) + bytes(4)
    body = b"Exif\0\0MM\0\x2a\0\0\0\x08" + directory + (value if len(value) > 4 else b"")
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def photo(segment: bytes, side: int = 8) -> bytes:
    """Return a JPEG whose first segment is the given one."""
    jpeg = picture("JPEG", side)
    return jpeg[:2] + segment + jpeg[2:]


def mixed_tables(folder: Path, names: list[str]) -> list[str]:
    """Write Parquet files of several splits into one folder, and a proper test set beside it."""
    for name in names:
        hub_table(folder / "all" / name)
    hub_table(folder / "other" / "0.parquet")
    return places(folder, "all", "other")


def mixed_folders(folder: Path, names: list[str]) -> list[str]:
    """Write class folders of several splits into one folder, and the same again as a test set."""
    for place in ("all", "other"):
        for split in names:
            for name in ("cat", "dog"):
                class_folder(folder / place / split / name)
    return places(folder, "all", "other")


@case("parquet-train-test", Refused("splits", "train", "test"))
def _(folder: Path) -> list[str]:
    return mixed_tables(folder, ["train.parquet", "test.parquet"])


@case("parquet-prefix", Refused("splits", "mnist-train", "mnist-test"))
def _(folder: Path) -> list[str]:
    return mixed_tables(folder, ["mnist-train.parquet", "mnist-test.parquet"])


@case("parquet-extra", Refused("splits", "train", "test", "extra"))
def _(folder: Path) -> list[str]:
    return mixed_tables(folder, [f"{name}-00000-of-00001.parquet" for name in ("train", "test", "extra")])


@case("folders-training-testing", Refused("splits", "Training", "Testing"))
def _(folder: Path) -> list[str]:
    return mixed_folders(folder, ["Training", "Testing"])


@case("folders-seg", Refused("splits", "seg_train", "seg_test"))
def _(folder: Path) -> list[str]:
    return mixed_folders(folder, ["seg_train", "seg_test"])


@case("folders-extra", Refused("splits", "train", "test", "extra"))
def _(folder: Path) -> list[str]:
    return mixed_folders(folder, ["train", "test", "extra"])


@case("shards-train-test", Refused("splits", "train", "test"))
def _(folder: Path) -> list[str]:
    tar(folder / "all/train-0.tar", samples())
    tar(folder / "all/test-0.tar", samples(first=6))
    tar(folder / "other/0.tar", samples(first=12))
    return places(folder, "all", "other")


@case("parquet-names-order", Read({"cat": 4, "dog": 4}))
def _(folder: Path) -> list[str]:
    for split in SPLITS:
        parquet(folder / split / f"{split}-00000-of-00002.parquet", rows(4), pa.array([0] * 4), ["cat", "dog"])
        parquet(folder / split / f"{split}-00001-of-00002.parquet", rows(4), pa.array([0] * 4), ["dog", "cat"])
    return places(folder)


@case("shards-gz-beside", Read({"0": 3, "1": 3}, summary=["1.tar.gz"]))
def _(folder: Path) -> list[str]:
    for split in SPLITS:
        tar(folder / split / "0.tar", samples())
        tar(folder / split / "1.tar.gz", samples(first=6), "w:gz")
    return places(folder)


@case("shards-subfolder", Read({"0": 3, "1": 3}, summary=["more"]))
def _(folder: Path) -> list[str]:
    for split in SPLITS:
        tar(folder / split / "0.tar", samples())
        tar(folder / split / "more/1.tar", samples(first=6))
    return places(folder)


@case("parquet-first-unlabelled", Read({"cat": 3, "dog": 3}, unlabelled=6, summary=["train-0.parquet"]))
def _(folder: Path) -> list[str]:
    for split in SPLITS:
        parquet(folder / split / f"{split}-0.parquet", rows(), None)
        hub_table(folder / split / f"{split}-1.parquet")
    return [*places(folder), "data.num_classes=2"]


@case("folders-class-gone", Read({"cat": 3, "dog": 3, "emu": 3}))
def _(folder: Path) -> list[str]:
    cats_and_dogs(folder)
    for split in SPLITS:
        class_folder(folder / split / "emu", 3, "jfif", "JPEG")
    return places(folder)


@case("folders-pgm", Read({"left": 3, "right": 3}))
def _(folder: Path) -> list[str]:
    for split in SPLITS:
        for name in ("left", "right"):
            for number in range(3):
                write(folder / split / name / f"{number}.pgm", encode(Image.fromarray(pixels()[..., 0]), "PPM"))
    return places(folder)


@case("csv-too-many-fields", Refused("train.csv", "8"))
def _(folder: Path) -> list[str]:
    return csv(folder, lambda split: simple_table() + "6.png,cat, black\n", images=7)


@case("csv-floats", Read({"0": 1, "1": 2, "2": 1, "10": 1}, unlabelled=1))
def _(folder: Path) -> list[str]:
    return csv(folder, lambda split: "file,label\n0.png,0.0\n1.png,1.0\n2.png,2.0\n3.png,10.0\n4.png,\n5.png,1.0\n")


@case("same-folder", Refused("same"))
def _(folder: Path) -> list[str]:
    for name in ("cat", "dog"):
        class_folder(folder / "all" / name)
    return places(folder, "all", "all")


@case("sixteen-bit-medical", Read({"cat": 3, "dog": 3}, summary=["16", "bit"]))
def _(folder: Path) -> list[str]:
    for split in SPLITS:
        for name in ("cat", "dog"):
            for number in range(3):
                ramp = np.linspace(0, 4095, 256).reshape(16, 16).astype(np.uint16)
                ramp[number] = noise.integers(0, 4096, 16)
                write(folder / split / name / f"{number}.png", encode(Image.fromarray(ramp), "PNG"))
    return [*places(folder), "data.prepare_size=8"]


@case("exif-behind-frame", Read({"cat": 4, "dog": 3}))
def _(folder: Path) -> list[str]:
    cats_and_dogs(folder)
    jpeg, frame = picture("JPEG"), b"\xff\xc0"
    behind = jpeg.index(frame) + 2 + struct.unpack(">H", jpeg[jpeg.index(frame) + 2 :][:2])[0]
    segment = exif(6, 0x128, 3, 1, b"\0\2")
    write(folder / "train/cat/turned.jpg", jpeg[:behind] + segment + jpeg[behind:])
    write(folder / "usual-place.jpg", jpeg[:2] + segment + jpeg[2:])
    return places(folder)


@case("mpo-photo", Read({"cat": 4, "dog": 3}))
def _(folder: Path) -> list[str]:
    cats_and_dogs(folder)
    second = Image.fromarray(pixels())
    write(folder / "train/cat/phone.jpg", picture("MPO", save_all=True, append_images=[second]))
    return places(folder)


@case("exif-negative-resolution", Read({"cat": 4, "dog": 3}))
def _(folder: Path) -> list[str]:
    cats_and_dogs(folder)
    write(folder / "train/cat/phone.jpg", photo(exif(6, 0x11A, 10, 1, struct.pack(">ii", -1, 0))))
    return places(folder)


@case("exif-long-unit-in-shard", Read({"0": 3, "1": 4}))
def _(folder: Path) -> list[str]:
    for split in SPLITS:
        turned = photo(exif(6, 0x128, 4, 1, struct.pack(">I", 70000)))
        tar(folder / split / "0.tar", [*samples(), ("0009.jpg", turned), ("0009.cls", "1")])
    return [*places(folder), *SKIP]


TEXT, WHOLE, FLOATS = pa.array(["cat", "dog"] * 3), pa.array([0, 1] * 3), pa.array([0.0, 1.0] * 3)


@case("parquet-text-then-int", Refused("train-0.parquet", "train-1.parquet", "label"))
def _(folder: Path) -> list[str]:
    for split in SPLITS:
        parquet(folder / split / f"{split}-0.parquet", rows(), TEXT)
        parquet(folder / split / f"{split}-1.parquet", rows(), WHOLE)
    return places(folder)


@case("parquet-int-then-float", Read({"0": 6, "1": 6}))
def _(folder: Path) -> list[str]:
    for split in SPLITS:
        parquet(folder / split / f"{split}-0.parquet", rows(), WHOLE)
        parquet(folder / split / f"{split}-1.parquet", rows(), FLOATS)
    return places(folder)


@case("parquet-bytes-then-path", Refused("train-0.parquet", "train-1.parquet", "image"))
def _(folder: Path) -> list[str]:
    for split in SPLITS:
        parquet(folder / split / f"{split}-0.parquet", rows(), WHOLE)
        parquet(folder / split / f"{split}-1.parquet", [f"{number}.png" for number in range(6)], WHOLE)
    return places(folder)


@case("class-id-overflow", Refused("0.tar", "0009", "99999999999999999999"))
def _(folder: Path) -> list[str]:
    for split in SPLITS:
        tar(folder / split / "0.tar", [*samples(), ("0009.png", picture()), ("0009.cls", "99999999999999999999")])
    return places(folder)


@case("class-id-huge", Refused("0.tar", "0009", "300000000"))
def _(folder: Path) -> list[str]:
    for split in SPLITS:
        tar(folder / split / "0.tar", [*samples(), ("0009.png", picture()), ("0009.cls", "300000000")])
    return places(folder)


@case("csv-class-id-gap", Refused("119789", "data.class_file"))
def _(folder: Path) -> list[str]:
    return csv(folder, lambda split: simple_table().replace("cat", "119789").replace("dog", "0"))


@case("pipe-among-images", Read({"cat": 3, "dog": 3}, summary=["pipe.png"]))
def _(folder: Path) -> list[str]:
    cats_and_dogs(folder)
    os.mkfifo(folder / "train/cat/pipe.png")
    return places(folder)


APPLE_DOUBLE = b"\0\5\x16\7" + bytes(22)


@case("shards-macos", Read({"0": 3, "1": 3}, summary=["._"]))
def _(folder: Path) -> list[str]:
    for split in SPLITS:
        members = [
            member for name, data in samples() for member in ((f"./._{name}", APPLE_DOUBLE), (f"./{name}", data))
        ]
        tar(folder / split / "0.tar", members)
    return places(folder)


@case("shards-readme", Read({"0": 3, "1": 3}, summary=["README"]))
def _(folder: Path) -> list[str]:
    for split in SPLITS:
        tar(folder / split / "0.tar", [("README", "About these images."), *samples()])
    return places(folder)


@case("shards-hidden-file", Read({"0": 3, "1": 3}, summary=["._0.tar"]))
def _(folder: Path) -> list[str]:
    for split in SPLITS:
        tar(folder / split / "0.tar", samples())
        write(folder / split / "._0.tar", APPLE_DOUBLE)
    return places(folder)


@case("hub-clone", Refused("parquet", "data/train-*.parquet"))
def _(folder: Path) -> list[str]:
    write(folder / "clone/README.md", "# A data set\n")
    for split in SPLITS:
        hub_table(folder / f"clone/data/{split}-00000-of-00001.parquet")
    hub_table(folder / "other" / "0.parquet")
    return places(folder, "clone", "other")


@case("folders-beside-their-archive", Read({"cat": 3, "dog": 3}, summary=["images.tar"]))
def _(folder: Path) -> list[str]:
    cats_and_dogs(folder)
    for split in SPLITS:
        tar(
            folder / split / "images.tar",
            [(f"{name}/{number}.png", picture()) for name in ("cat", "dog") for number in range(3)],
        )
    return places(folder)


@case("folders-wrapper", Refused("dataset"))
def _(folder: Path) -> list[str]:
    for split in SPLITS:
        for name in ("cat", "dog"):
            class_folder(folder / split / "dataset" / name)
    return places(folder)


@case("labels-file-bom", Labelled("cat/0", "dog/0"))
def _(folder: Path) -> list[str]:
    cats_and_dogs(folder)
    write(folder / "labelled.txt", "\ufeffcat/0.png\ndog/0.png\n")
    return [*places(folder), f"labels.file={folder.name}/labelled.txt", "labels.per_class=null"]


@case("folders-nfc-nfd", Read({"caf\u00e9": 3, "dog": 3}))
def _(folder: Path) -> list[str]:
    for split, name in zip(SPLITS, ("caf\u00e9", "cafe\u0301"), strict=True):
        class_folder(folder / split / name)
        class_folder(folder / split / "dog")
    return places(folder)


@case("folders-synology", Read({"cat": 3, "dog": 3}, summary=["@eaDir"]))
def _(folder: Path) -> list[str]:
    cats_and_dogs(folder)
    write(folder / "train/cat/@eaDir/0.png/SYNOFILE_THUMB_M.png", picture())
    return places(folder)


@case("shards-gzip-named-tar", Refused("gzip"))
def _(folder: Path) -> list[str]:
    for split in SPLITS:
        tar(folder / split / "0.tar", samples(), "w:gz")
    return places(folder)


@case("parquet-lfs-pointer", Refused("git lfs pull"))
def _(folder: Path) -> list[str]:
    for split in SPLITS:
        write(
            folder / split / "a.parquet",
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1234\n",
        )
    return places(folder)


@case("shards-dots-in-keys", Read({"0": 3, "1": 3}))
def _(folder: Path) -> list[str]:
    for split in SPLITS:
        members = [
            (f"{number}.v2.{ending}", picture() if ending == "png" else str(number % 2))
            for number in range(6)
            for ending in ("cls", "png")
        ]
        tar(folder / split / "0.tar", members)
    return places(folder)


@case("csv-semicolons", Read({"cat": 3, "dog": 3}))
def _(folder: Path) -> list[str]:
    return csv(folder, lambda split: simple_table(separator=";"))


@case("csv-absolute-paths", Read({"cat": 3, "dog": 3}))
def _(folder: Path) -> list[str]:
    return csv(folder, lambda split: simple_table(prefix=f"{(folder / split).resolve()}/"))


@case("csv-backslashes", Read({"cat": 3, "dog": 3}))
def _(folder: Path) -> list[str]:
    return csv(folder, lambda split: simple_table(prefix=".\\"))
