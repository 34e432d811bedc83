"""Small Parquet files that claim or decode to gigabytes end in one line or in data, soon and in little memory."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from importing_data import encoded, labels_of, settings, shards_of, write

from dpt_ray.data.importing.detect import describe
from dpt_ray.data.importing.parquet_file import _check_rows, image_leaf, text_leaf
from dpt_ray.data.importing.parquet_pages import ImplausibleFileError, walk_pages
from dpt_ray.data.importing.thrift_compact import Reader, ThriftError
from dpt_ray.errors import UserError

SECONDS, MIB = 10, 1024
"""What a bomb may take: time, and memory beyond that of the idle process."""

_READ = """
import json, os, resource, sys, time
from dpt_ray.config.data_section import DataConfig
from dpt_ray.data.importing import detect
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.errors import UserError

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

def read(file):
    idle, began, lines, images, rows = peak(), time.monotonic(), [], 0, 0
    try:
        found = detect.describe("train", DataConfig(train=file, test="unused", format="parquet"))
        for recipe in found.recipes(1000):
            rows += recipe["images"]
            for entry in detect.read(found.kind, found.reader_settings(), recipe):
                if isinstance(entry, Skipped):
                    lines.append(str(entry))
                    images += entry.images
                else:
                    images += 1
    except UserError as error:
        lines.append(str(error))
    return {"mib": peak() - idle, "seconds": time.monotonic() - began, "lines": lines, "images": images, "rows": rows}

for file in sys.argv[1:]:  # each in a process of its own, whose memory is measured
    if not os.fork():
        print(json.dumps(read(file)), flush=True)
        os._exit(0)
    if os.wait()[1]:
        print("null", flush=True)
"""


def parquet(columns: dict[str, pa.Array], **options) -> bytes:
    buffer = io.BytesIO()
    options = {"compression": "zstd", "store_schema": False, **options}
    pq.write_table(pa.table(columns), buffer, **options)
    return buffer.getvalue()


def repeated(value: bytes | str, times: int) -> pa.Array:
    """A dictionary with one value, and so many rows of it."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, np.int32)), pa.array([value]))


def few(count: int) -> pa.Array:
    return pa.array([encoded()] * count)


def dictionary() -> bytes:
    return parquet({"image": repeated(bytes(50 << 20), 72)})


def dictionary_in_a_struct() -> bytes:
    image = pa.StructArray.from_arrays([repeated(bytes(50 << 20), 72), repeated("x" * (20 << 20), 72)],
                                       ["bytes", "path"])  # fmt: skip
    return parquet({"image": image})


def run_of_rows() -> bytes:
    return parquet({"image": repeated(encoded(), 50_000_000)})


def nulls() -> bytes:
    return parquet({"image": pa.nulls(5_000_000, pa.binary())})


def compressed_page(compression: str) -> Callable[[], bytes]:
    return lambda: parquet({"image": pa.array([bytes(400 << 20)])}, compression=compression, use_dictionary=False)


def prefixes() -> bytes:
    image = pa.array([b"x" * (1 << 20)] * 4000)
    return parquet({"image": image}, use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY")


def nested_lists() -> bytes:
    other = pa.ListArray.from_arrays([0, 200_000_000], repeated("x", 200_000_000))
    image = pa.StructArray.from_arrays([few(1), other], ["bytes", "other"])
    return parquet({"image": image})


def labels_in_a_dictionary() -> bytes:
    return parquet({"image": few(90_000), "label": repeated("x" * 4000, 90_000)})


def labels_one_by_one() -> bytes:
    label = pa.array(["x" * 4000] * 90_000, pa.large_string())
    return parquet({"image": few(90_000), "label": label}, use_dictionary=["image"])


def labels_with_prefixes() -> bytes:
    label = pa.array(["x" * 4000] * 90_000)
    encoding = {"label": "DELTA_BYTE_ARRAY"}
    return parquet({"image": few(90_000), "label": label}, use_dictionary=["image"], column_encoding=encoding)


def footer() -> bytes:
    """A footer of millions of row groups without columns: field 4, a list of 12 (structs), nine bytes each."""
    schema = b"\x15\x02\x19\x2c\x48\x06schema\x15\x02\x00\x15\x0c\x25\x02\x18\x05image\x00"
    groups, count = b"\x19\x0c\x16\x00\x16\x00\x00", 3_000_000
    size = bytes([count & 127 | 128, count >> 7 & 127 | 128, count >> 14 & 127 | 128, count >> 21])
    made = schema + b"\x16\x00\x19\xfc" + size + groups * count + b"\x00"
    return b"PAR1" + made + len(made).to_bytes(4, "little") + b"PAR1"


BOMBS = {
    "a value of 50 MiB in 72 rows": (dictionary, "decode to more than"),
    "the same in a struct": (dictionary_in_a_struct, "decode to more than"),
    "50 million rows of one image": (run_of_rows, "claims 50,000,000 rows"),
    "5 million rows without an image": (nulls, "claims 5,000,000 rows"),
    "a page of 400 MiB in zstd": (compressed_page("zstd"), "decompresses to 400 MiB"),
    "a page of 400 MiB in gzip": (compressed_page("gzip"), "decompresses to 400 MiB"),
    "a page of 400 MiB in snappy": (compressed_page("snappy"), "decompresses to 400 MiB"),
    "a page of 400 MiB in brotli": (compressed_page("brotli"), "decompresses to 400 MiB"),
    "4000 values of 1 MiB that share their beginning": (prefixes, "decode to more than"),
    "lists beside the image": (nested_lists, None),
    "labels of 4 kB from a dictionary": (labels_in_a_dictionary, "a text of 4,000 characters"),
    "labels of 4 kB, one by one": (labels_one_by_one, "MiB in one row group, which are no labels"),
    "labels of 4 kB that share their beginning": (labels_with_prefixes, "a text of 4,000 characters"),
    "a footer of 3 million row groups": (footer, "its footer is not readable"),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, dict[str, Any] | None]:
    """What reading each bomb took and gave; None where the process ended by itself."""
    folder = tmp_path_factory.mktemp("bombs")
    files = [folder / f"{number}.parquet" for number in range(len(BOMBS))]
    for file, (make, _) in zip(files, BOMBS.values(), strict=True):
        file.write_bytes(make())
    command = [sys.executable, "-c", _READ, *map(str, files)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    return dict(zip(BOMBS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_soon_in_a_line_or_in_data_and_in_little_memory(results, name):
    result, told = results[name], BOMBS[name][1]
    assert result is not None
    assert result["mib"] < MIB
    assert result["seconds"] < SECONDS
    assert result["images"] == result["rows"]
    if told is None:
        assert result["lines"] == []
    else:
        assert told in result["lines"][-1]
        assert "\n" not in result["lines"][-1]


def test_large_images_and_large_pages_of_real_bytes_are_read(tmp_path):
    random = np.random.default_rng(0)
    large = [random.bytes(30 << 20), random.bytes(30 << 20)]
    content = parquet({"image": pa.array(large), "label": pa.array(["a", "b"])}, data_page_size=1 << 30)
    found = describe("train", settings(write(str(tmp_path), {"a.parquet": content})))
    assert found.class_names == ("a", "b")
    _, skipped = shards_of(found)
    assert [entry.reason for entry in skipped] == ["is not a readable image (cannot identify image file)"] * 2


@pytest.mark.parametrize(("leaf", "most"), [(image_leaf, 128 << 20), (text_leaf, 32 << 20)])
def test_a_page_is_read_up_to_a_size_or_eight_times_its_bytes(leaf, most):
    def page(uncompressed: int, compressed: int) -> bytes:
        """The header of a data page with one value, in Thrift's compact form, and its bytes."""
        kind, sizes = b"\x15\x00", b"\x15" + varint(2 * uncompressed) + b"\x15" + varint(2 * compressed)
        return kind + sizes + b"\x2c\x15\x02\x15\x00\x15\x06\x15\x06\x00\x00" + bytes(compressed)

    def varint(number: int) -> bytes:
        return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)

    limit = leaf("image").max_page
    assert limit == most
    few, many = 1000, most // 8 + 100
    assert walk_pages(page(most, few), 1, "image", limit).largest == most
    assert walk_pages(page(8 * many, many), 1, "image", limit).largest == 8 * many
    for size, compressed in ((most + 1, few), (8 * many + 1, many)):
        with pytest.raises(ImplausibleFileError, match=f"above {most >> 20} MiB, at most 8 times as much is read"):
            walk_pages(page(size, compressed), 1, "image", limit)


def test_a_footer_is_read_up_to_64_mib(tmp_path):
    file = tmp_path / "a.parquet"
    for size, told in (
        (64 << 20, "not a readable Parquet file"),
        ((64 << 20) + 1, "its footer has 64 MiB, at most 64"),
    ):
        with open(file, "wb") as opened:  # a hole, which takes no space
            opened.write(b"PAR1")
            opened.seek(4 + size)
            opened.write(size.to_bytes(4, "little") + b"PAR1")
        with pytest.raises(UserError, match=told):
            describe("train", settings(str(file)))


@pytest.mark.parametrize(("rows", "size"), [(100_000, 1), (200_000, 3_200_000)])
def test_rows_are_believed_up_to_100_000_or_one_for_each_16_bytes(rows, size):
    _check_rows([rows], size)
    with pytest.raises(ImplausibleFileError, match=f"claims {rows + 1:,} rows"):
        _check_rows([rows // 2, rows // 2 + 1], size)


def test_labels_that_share_beginnings_are_read(tmp_path):
    label = pa.array(["class 1", "class 2", "class 1"])
    encoding = {"label": "DELTA_BYTE_ARRAY"}
    content = parquet({"image": few(3), "label": label}, use_dictionary=["image"], column_encoding=encoding)
    found = describe("train", settings(write(str(tmp_path), {"a.parquet": content})))
    assert list(labels_of(found).values()) == [0, 1, 0]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "lz4", "brotli"])
def test_all_pages_that_arrow_writes_are_walked_to_the_end(version, compression):
    image = pa.array([bytes([row % 256]) * 5000 for row in range(3000)])
    sizes = {"data_page_size": 20_000, "dictionary_pagesize_limit": 100_000}
    content = parquet({"image": image}, compression=compression, data_page_version=version, **sizes)
    column = pq.read_metadata(io.BytesIO(content)).row_group(0).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    chunk = content[start : start + column.total_compressed_size]
    pages = walk_pages(chunk, column.num_values, "image", 1 << 30)
    assert pages.stop == len(chunk)
    assert 100_000 <= pages.largest <= pages.total <= column.total_uncompressed_size
    with pytest.raises(ImplausibleFileError, match="more than 1 pages"):
        _walk_with_one_page(chunk, column.num_values)


def _walk_with_one_page(chunk: bytes, values: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dpt_ray.data.importing.parquet_pages.MAX_PAGES", 1)
        walk_pages(chunk, values, "image", 1 << 30)


@pytest.mark.parametrize(
    "data", [b"", b"\x1c" * 100, b"\x19\xfc\xff\xff\xff\x7f", b"\x19" * 100, b"\x16" + b"\xff" * 20]
)
def test_what_is_no_struct_is_refused(data):
    with pytest.raises(ThriftError):
        Reader(data, {}).read_struct()


def test_a_struct_is_read_as_numbers_texts_structs_and_lists():
    inner = b"\x15\x04\x00"  # field 1 is the number 2
    data = b"\x15\x02\x1c" + inner + b"\x19\x2c" + inner * 2 + b"\x19\x35\x02\x04\x06\x18\x01x\x19\x18\x01y\x11\x00"
    one: dict = {1: {}}
    everything = Reader(data, {1: {}, 2: one, 3: one, 4: {}, 5: {}, 6: {}, 7: {}})
    assert everything.read_struct() == {1: 1, 2: {1: 2}, 3: [{1: 2}, {1: 2}], 4: 3, 5: b"x", 6: [b"y"]}
    assert (everything.offset, everything.elements) == (len(data), 6)
    nothing = Reader(data, {})
    assert nothing.read_struct() == {}
    assert (nothing.offset, nothing.elements) == (len(data), 4)
    assert Reader(data, {3: {}}).read_struct() == {3: [{}, {}]}
    with pytest.raises(ThriftError, match="a field stands twice"):
        Reader(b"\x15\x02\x05\x02\x04\x00", one).read_struct()
