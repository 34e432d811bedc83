"""Shards: tar archives, read strictly, and with `data.on_error=skip`."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from encoded_images import encode, noise

from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.shards.archive_samples import iter_samples
from dpt_ray.data.shards.salvage import read_content
from dpt_ray.data.shards.samples import Sample, build_shard
from dpt_ray.data.shards.skipped import read_skipped
from dpt_ray.distributed.units import UnusableUnitError
from dpt_ray.errors import UserError
from dpt_ray.pipeline.execution.index_worker import IndexWorker, ListedShard
from fuzzing.raw import change_raw
from fuzzing.target import Corpus, Mutator, Target

_BLOCK = 512
_CHECKSUM = slice(148, 156)
_SIZE, _TYPE, _PREFIX = 124, 156, 345
_TYPES = b"0\x001234567xXgLKSDVMN\xff"
_WHERE = "00000.tar"
_FORM = ImageForm(8, 3)


def _samples() -> list[Sample]:
    return [Sample(f"image-{n}", {"cls": b"%d" % n, "png": encode(noise(seed=n))}) for n in range(4)]


def archives() -> Corpus:
    """Return archives of each dialect."""
    corpus = {"own": build_shard(_samples())}
    for name, form in (("ustar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
            folder = tarfile.TarInfo("folder")
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
            for sample in _samples():
                for extension, content in sample.files.items():
                    info = tarfile.TarInfo(f"folder/{'k' * (90 if name != 'ustar' else 9)}{sample.key}.{extension}")
                    info.size, info.mtime = len(content), 1.5 if name == "pax" else 1
                    archive.addfile(info, io.BytesIO(content))
        corpus[name] = buffer.getvalue()
    return corpus


def sealed(header: bytes) -> bytes:
    """Return a header with a right checksum."""
    block = bytearray(header.ljust(_BLOCK, b"\0")[:_BLOCK])
    block[_CHECKSUM] = b" " * 8
    block[_CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)


def _headers(data: bytes) -> list[int]:
    """Return where headers begin: blocks that hold the mark of a tar header."""
    return [place for place in range(0, len(data) - _BLOCK + 1, _BLOCK) if data[place + 257 : place + 262] == b"ustar"]


def change_header(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Change a field of a header and make its checksum right again."""
    places = _headers(data)
    if not places:
        return data
    place = rng.choice(places)
    header = bytearray(data[place : place + _BLOCK])
    kind = rng.randrange(6)
    if kind == 0:
        header[_TYPE] = rng.choice(_TYPES)
    elif kind == 1:
        size = rng.choice((0, 1, 511, 512, 513, 1 << 20, (1 << 33) - 1, rng.randrange(2000)))
        header[_SIZE : _SIZE + 12] = b"%011o\0" % size
    elif kind == 2:
        header[_SIZE : _SIZE + 12] = rng.choice((b"\x80", b"\xff")) + rng.choice(
            (bytes(11), b"\xff" * 11, rng.randbytes(11))
        )
    elif kind == 3:
        name = rng.choice(_NAMES)
        header[0:100] = name.ljust(100, b"\0")[:100]
    elif kind == 4:
        header[_PREFIX:500] = rng.choice(_NAMES).ljust(155, b"\0")[:155]
    else:
        header[:] = change_raw(bytes(header), rng, corpus).ljust(_BLOCK, b"\0")[:_BLOCK]
    return data[:place] + sealed(header) + data[place + _BLOCK :]


_NAMES = (
    b"", b"/", b".", b"..", b"../a.png", b"/etc/passwd", b"a/../b.png", b"a\\b.png", b"C:a.png", b"\xff\xfe.png",
    b".png", b"image-0.png", b"image-1.cls", b"image-0.v2.png", b"a.b.c.d.png", b"README.md", b"__MACOSX/._a.png",
    b"x" * 100, b"a\nb.png", b"\x1b[2J.png", "\u202e.png".encode(), b"a.png/", b" .png", b"a",
    b"a.cls", b"a.PNG", b"-.png",
)  # fmt: skip


def add_member(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Put a forged member, or a chain of extended headers, before another one."""
    places = _headers(data) or [0]
    place = rng.choice(places)
    pieces = b"".join(_forged(rng) for _ in range(rng.choice((1, 1, 2, 6, 300))))
    return data[:place] + pieces + data[place:]


def _forged(rng: Random) -> bytes:
    kind = rng.choice((b"0", b"x", b"g", b"L", b"K", b"S", b"5", b"2", b"X"))
    value = rng.choice(_NAMES)
    records = (
        b"path=" + value, b"size=%d" % rng.choice((0, 1, 600, 10**9, 10**30)), b"size=" + b"9" * 5000, b"size=-1",
        b"GNU.sparse.size=5", b"comment=" + b"c" * rng.choice((1, 500, 70_000)), b"path", b"",
    )  # fmt: skip
    content = _record(rng.choice(records), rng) if kind in (b"x", b"g", b"X") else value
    header = bytearray(_BLOCK)
    header[: len(value[:100])] = value[:100]
    size = rng.choice((len(content),) * 8 + (0, 1 << 20, (1 << 20) + 1, (1 << 33) - 1))
    header[100:108], header[_SIZE : _SIZE + 12] = b"0000644\0", b"%011o\0" % size
    header[_TYPE : _TYPE + 1], header[257:265] = kind, b"ustar\00000"
    return sealed(header) + content + bytes(-len(content) % _BLOCK)


def _record(text: bytes, rng: Random) -> bytes:
    """Return a PAX record; its length is wrong sometimes."""
    length = len(text) + 3
    while length != len(b"%d %s\n" % (length, text)):
        length = len(b"%d %s\n" % (length, text))
    length = rng.choice((length,) * 9 + (0, 1, length - 1, length + 1, 10**9))
    return b"%d %s\n" % (length, text)


def swap_blocks(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Drop, repeat or swap whole blocks."""
    blocks = [data[place : place + _BLOCK] for place in range(0, len(data), _BLOCK)]
    if not blocks:
        return data
    first, second = rng.randrange(len(blocks)), rng.randrange(len(blocks))
    kind = rng.randrange(3)
    if kind == 0:
        del blocks[first : first + rng.choice((1, 1, 3))]
    elif kind == 1:
        blocks[first:first] = blocks[second : second + 3] * rng.choice((1, 100))
    else:
        blocks[first], blocks[second] = blocks[second], blocks[first]
    return b"".join(blocks)


TAR: dict[Mutator, int] = {change_header: 4, add_member: 3, swap_blocks: 2, change_raw: 2}


def read_strictly(data: bytes, folder: Path) -> Iterator[str]:
    """Read all samples, their images' bytes and their labels; yield each sample's own complaints."""
    for sample in iter_samples(data, _WHERE):
        for read in (sample.image_bytes, sample.label):
            try:
                read(_WHERE)
            except UserError as error:
                yield str(error)


def read_what_is_whole(data: bytes, folder: Path) -> Iterator[str]:
    """Read what can be relied on, index the shard as a run does, and yield what is left out."""
    content = read_content(data, _WHERE)
    yield from (str(entry) for entry in content.skipped)
    yield from (f"{name!r} {reason}" for name, reason in content.passed_over)
    url = str(folder / _WHERE)
    Path(url).write_bytes(data)
    worker = IndexWorker(str(folder / "labels"), str(folder / "layouts"), _FORM)
    try:
        facts = worker.facts(ListedShard(0, url), worker.make(ListedShard(0, url)))
    except UnusableUnitError as error:
        yield from map(str, error.skipped)
    else:
        yield from map(str, read_skipped(facts))


TARGETS = {
    "tar": Target(archives, TAR, read_strictly),
    "salvage": Target(archives, TAR, read_what_is_whole),
}
