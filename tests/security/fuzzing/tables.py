"""Tables and lists of others: Parquet, CSV, lists of labelled images, lists of classes; and sidecars of our own."""

import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from importing_data import encoded, settings, shards_of, write

from dpt_ray.config.data_section import DataConfig
from dpt_ray.data.importing.classes import given_classes
from dpt_ray.data.importing.detect import describe
from dpt_ray.data.importing.text_files import read_lines
from dpt_ray.data.shards.label_choice import LabelledImage, ListedImages, check_every_class_labelled, choose_listed
from dpt_ray.data.shards.sidecars import decode_sidecar, encode_sidecar, sidecar_facts
from fuzzing.raw import RAW, change_raw
from fuzzing.target import Corpus, Mutator, Target
from fuzzing.text import TEXT
from fuzzing.trees import JSON

_MAGIC = b"PAR1"
_NAMES = ["dog", "cat"]
_FILES = {f"{number}.png": encoded() for number in range(1, 5)}

pa.set_cpu_count(1)
pa.set_io_thread_count(1)


def _table(columns: dict[str, pa.Array], metadata: dict[str, str] | None = None, **options) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), buffer, **options)
    return buffer.getvalue()


def _parquets() -> Corpus:
    images = [encoded(colour=row) for row in range(6)]
    nested = pa.array(
        [{"bytes": image, "path": f"{row}.png"} for row, image in enumerate(images)],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    features = {"image": {"_type": "Image"}, "label": {"names": _NAMES, "_type": "ClassLabel"}}
    numbers = pa.array([row % 2 for row in range(6)])
    hub = {"huggingface": json.dumps({"info": {"features": features}})}
    names = pa.array(["dog", "cat", None, "", "dog", "cat"])
    codecs = {
        name: _table({"image": nested, "label": numbers}, hub, compression=name, row_group_size=2)
        for name in ("none", "snappy", "zstd", "gzip", "lz4", "brotli")
    }
    return codecs | {
        "names": _table({"image": pa.array(images), "label": names.dictionary_encode()}),
        "plain": _table({"image": pa.array(images), "label": names}, use_dictionary=False, data_page_version="2.0"),
        "fractions": _table({"image": pa.array(images), "label": pa.array([0.0, 1.0, None, 1.0, 0.0, 1.0])}),
        "wide": _table({f"column {n}": pa.array([n] * 6) for n in range(30)} | {"image": pa.array(images)}),
        "ids": _table({"image": pa.array(images), "label": pa.array([0, 1, 2, 3, 1, 0], pa.int64())}),
        "sums": _table({"image": nested, "label": numbers}, write_page_checksum=True),
    }


def change_footer(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Change a Parquet file's footer and make its length right again."""
    if data[-4:] != _MAGIC or len(data) < 12:
        return data
    (length,) = struct.unpack("<I", data[-8:-4])
    start = max(4, len(data) - 8 - length)
    footer = change_raw(data[start:-8], rng, {"own": data[start:-8]})
    return data[:start] + footer + struct.pack("<I", len(footer)) + _MAGIC


def change_pages(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Change as many bytes of the pages, so that the footer's places stay right."""
    if data[-4:] != _MAGIC or len(data) < 12:
        return data
    (length,) = struct.unpack("<I", data[-8:-4])
    stop = max(5, len(data) - 8 - length)
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3))):
        place = rng.randrange(4, stop)
        changed[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, changed[place] ^ 1 << rng.randrange(8)))
    return bytes(changed)


def change_metadata(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Give a table other metadata of Hugging Face's form."""
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError, ValueError):
        return data
    held = (table.schema.metadata or {}).get(
        b"huggingface", b'{"info": {"features": {"label": {"names": ["a", "b"]}}}}'
    )
    (change,) = rng.choices(list(JSON), list(JSON.values()))
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"huggingface": change(held, rng, {"own": held})}), buffer)
    return buffer.getvalue()


PARQUET: dict[Mutator, int] = {change_footer: 6, change_pages: 4, change_metadata: 2, change_raw: 1}


def _import(data: DataConfig) -> Iterator[str]:
    """Import images as a run does; yield what is left out."""
    found = describe("train", data)
    assert found is not None
    _, skipped = shards_of(found)
    yield from map(str, skipped)
    yield from (f"{entry.name!r} {entry.reason}" for entry in found.ignored)


def read_parquet(data: bytes, folder: Path) -> Iterator[str]:
    """Import a Parquet file."""
    return _import(settings(write(str(folder), {"train.parquet": data})))


def read_csv(data: bytes, folder: Path) -> Iterator[str]:
    """Import a folder of four images and their table of labels."""
    root = write(str(folder), {**_FILES, "labels.csv": data})
    return _import(settings(root, root, train_labels=f"{root}/labels.csv", test_labels=f"{root}/labels.csv"))


_CSVS = {
    "names": b"file,label,note\n1.png,dog,x\n./2.png,cat,y\n3.png,dog,\n4.png,cat\n",
    "ids": b"\xef\xbb\xbffile;label\r\n1.png;0\r\n2.png;1\r\n3.png;\r\n4.png;1.0\r\n",
    "quotes": b'sep=,\n"file","label","note"\n"1.png","a ""b"", c",\n"2.png",d,"two\nlines"\n"3.png",d\n4.png\t,d\n',
    "tabs": b"label\tfile\nd\t1.png\nc\t.\\2.png\nd\t3.png\n\t4.png\n",
    "excel": "file,label\n1.png,dög\n2.png,cät\n3.png,\n4.png,cät\n".encode("utf-16"),
}
_KEYS = ["cat/0", "cat/1", "dog/0", "dog/café", "cat/a%2Eb", "owl/2%3Apng", "owl/2%3Ajpg"]
_IMAGES = [LabelledImage(0, row, key, row % 2) for row, key in enumerate(_KEYS)]
_LISTS = {
    "keys": b"# labelled by hand\ncat/0\ncat/1\ndog/0\n",
    "paths": "/data/train/cat/0.png\nD:\\data\\train\\cat\\1.PNG\ndog/café.png\nowl/2.jpg\n".encode(),
    "utf-16": "cat/0\r\ncat/1\r\n".encode("utf-16"),
}
_CLASSES = {
    "names": b"dog\ncat\nowl\n",
    "windows": "\ufeffdög\r\ncät\r\n".encode(),
    "numbers": b"0\n1\n2\n",
    "utf-32": "dog\ncat\n".encode("utf-32"),
}


def read_list(data: bytes, folder: Path) -> Iterator[str]:
    """Choose the labelled images that a list names."""
    place = folder / "labelled.txt"
    place.write_bytes(data)
    lines = [line.rstrip("\r\n") for line in read_lines(str(place), "list of images")]
    chosen = choose_listed(ListedImages.all(_IMAGES), lines, str(place), "/data/train")
    check_every_class_labelled(chosen, ("a", "b"), str(place))
    return iter(())


def read_classes(data: bytes, folder: Path) -> Iterator[str]:
    """Read a list of classes, and the labels of a folder with it."""
    place = folder / "classes.txt"
    place.write_bytes(data)
    given_classes(settings("unused", class_file=str(place)))
    return iter(())


def _sidecars() -> Corpus:
    rng = np.random.default_rng(0)
    keys = [f"image-{n}" for n in range(5)]
    columns = {
        "label": np.arange(5),
        "probabilities": rng.random((5, 3), np.float32),
        "hash": rng.integers(0, 1 << 60, (5, 4), np.uint64),
    }
    return {"all": encode_sidecar(keys, columns, {"images": 5}), "keys": encode_sidecar(keys, {})}


def read_sidecar(data: bytes, folder: Path) -> Iterator[str]:
    """Read all of a sidecar."""
    decode_sidecar(data, "00000.parquet")
    sidecar_facts(data, "x")
    return iter(())


TARGETS = {
    "parquet": Target(_parquets, PARQUET, read_parquet),
    "csv": Target(lambda: _CSVS, TEXT, read_csv),
    "list": Target(lambda: _LISTS, TEXT, read_list),
    "classes": Target(lambda: _CLASSES, TEXT, read_classes),
    "sidecar": Target(_sidecars, {change_footer: 4, change_pages: 4, **RAW}, read_sidecar),
}
