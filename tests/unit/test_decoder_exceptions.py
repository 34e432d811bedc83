"""Whatever a decoder raises is the complaint of its image, by name, in every importer, in indexing and in reading."""

import struct
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from encoded_images import encode, noise
from importing_data import settings, shards_of, write
from PIL import Image, UnidentifiedImageError

from dpt_ray.data.images import pictures
from dpt_ray.data.images.decoding import ImageForm, decode_images
from dpt_ray.data.importing.detect import describe
from dpt_ray.data.loading.read_rows import new_arrays, read_rows
from dpt_ray.data.loading.source import SourceShard
from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.samples import Sample, build_shard, sha256
from dpt_ray.data.shards.skipped import Skipped, read_skipped
from dpt_ray.distributed.units import UnusableUnitError
from dpt_ray.errors import UserError
from dpt_ray.pipeline.execution.index_worker import IndexWorker, ListedShard

RAISED = [
    OSError("broken"), SyntaxError("not a TIFF file"), ValueError("bad\nvalue"), EOFError(), KeyError("MPO"),
    IndexError("tuple index"), TypeError("no integer"), AttributeError("seek"), AssertionError(),
    OverflowError("large"), ZeroDivisionError("division"), RecursionError("deep"), MemoryError(),
    NotImplementedError(), RuntimeError("codec"),
    struct.error("unpack"), zlib.error("Error -3"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "start byte"),
    Image.DecompressionBombError("bomb"), Image.DecompressionBombWarning("bomb"), UnidentifiedImageError("what"),
    UserWarning("corrupt"), LookupError("unknown encoding"), StopIteration(), BufferError("exported"),
    Exception("anything"),
]  # fmt: skip
BAD = encode(noise(seed=99))
GOOD = encode(noise(seed=1))
FORM = ImageForm(8, 3)


@pytest.fixture(params=RAISED, ids=lambda error: type(error).__name__)
def failing_decoder(request, monkeypatch):
    """Pillow raises over the one bad image, when it opens it or when it decodes it."""
    opened = pictures._open

    def opens(data, *limits):
        if data == BAD:
            raise request.param
        return opened(data, *limits)

    monkeypatch.setattr(pictures, "_open", opens)
    return request.param


def check(entry: Skipped) -> None:
    assert entry.reason.startswith("is not a readable image (")
    assert "\n" not in entry.reason


def test_in_class_folders_tables_and_parquet(failing_decoder, tmp_path):
    folders = write(str(tmp_path / "folders"), {"a/1.png": GOOD, "a/2.png": BAD, "b/1.png": encode(noise(seed=2))})
    rows = pa.array([{"bytes": data, "path": None} for data in (GOOD, BAD)], pa.struct([("bytes", pa.binary())]))
    pq.write_table(pa.table({"image": rows, "label": pa.array([0, 1])}), str(tmp_path / "0.parquet"))
    table = write(
        str(tmp_path / "table"), {"1.png": GOOD, "2.png": BAD, "labels.csv": "file,label\n1.png,a\n2.png,b\n"}
    )
    labels = f"{table}/labels.csv"
    for data, name, good in (
        (settings(folders), f"{folders}/a/2.png", 2),
        (settings(str(tmp_path / "0.parquet")), "0-00001", 1),
        (settings(table, table, train_labels=labels, test_labels=labels), f"{table}/2.png", 1),
    ):
        for size in (None, 4):
            shards, skipped = shards_of(describe("train", data), size=size)
            assert sum(map(len, shards)) == good
            assert len(skipped) == 1
            assert name in (skipped[0].where, skipped[0].key)
            check(skipped[0])


def test_in_the_index_and_in_reading(failing_decoder, tmp_path):
    content = build_shard([Sample(f"{n}", {"png": data, "cls": b"1"}) for n, data in enumerate((GOOD, BAD, GOOD))])
    url = str(tmp_path / "0.tar")
    (tmp_path / "0.tar").write_bytes(content)
    worker = IndexWorker(str(tmp_path), str(tmp_path / "layouts"), FORM)
    facts = worker.facts(ListedShard(0, url), worker.make(ListedShard(0, url)))
    (entry,) = read_skipped(facts)
    assert (facts["samples"], facts["rows_out"], entry.where, entry.key) == (2, [1], url, "1")
    check(entry)
    info = ShardInfo(url, len(content), sha256(content), 3)
    with pytest.raises(UserError, match="sample '1': is not a readable image"):
        list(read_rows(SourceShard(info), range(3), FORM, new_arrays(FORM, 3)))


def test_it_says_what_was_raised_where_the_message_alone_would_not(failing_decoder):
    with pytest.raises(UserError) as caught:
        decode_images([GOOD, BAD], FORM, lambda row: f"image {row}")
    message = str(caught.value)
    assert message.startswith("image 1: is not a readable image (")
    if isinstance(failing_decoder, MemoryError):
        assert "more memory than there is" in message
    elif not isinstance(failing_decoder, (OSError, SyntaxError, ValueError)) or not str(failing_decoder):
        assert type(failing_decoder).__name__ in message


def test_what_the_quick_decoder_and_numpy_raise(monkeypatch):
    good, cmyk = encode(noise(), "JPEG"), encode(noise().convert("CMYK"), "JPEG")
    for module, name in ((pictures, "read_header"), (pictures, "_flattened"), (Image.Image, "convert")):
        for error in (KeyError("a"), MemoryError(), struct.error("b")):
            with monkeypatch.context() as patch:

                def fails(*given, error=error, **options):
                    raise error

                patch.setattr(module, name, fails)
                with pytest.raises(UserError, match="x: is not a readable image"):
                    decode_images([cmyk], FORM, lambda row: "x")
    assert decode_images([good], FORM, str).any()


def test_only_exceptions_are_complaints(monkeypatch):
    def stopped(data, *limits):
        raise KeyboardInterrupt

    monkeypatch.setattr(pictures, "_open", stopped)
    with pytest.raises(KeyboardInterrupt):
        decode_images([GOOD], FORM, str)


def test_an_index_of_nothing_but_bad_images_lists_them(failing_decoder, tmp_path):
    (tmp_path / "0.tar").write_bytes(build_shard([Sample("a", {"png": BAD, "cls": b"1"})]))
    worker = IndexWorker(str(tmp_path), str(tmp_path / "layouts"), FORM)
    with pytest.raises(UnusableUnitError) as caught:
        worker.make(ListedShard(0, str(tmp_path / "0.tar")))
    (entry,) = caught.value.skipped
    assert entry.key == "a"
    check(entry)
    assert np.array_equal(decode_images([GOOD], FORM, str)[0], np.asarray(noise(seed=1)).transpose(2, 0, 1))
