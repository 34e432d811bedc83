"""`on_error: skip`: broken images, headers and shards are listed, and the run goes on without them."""

import os
from pathlib import Path

import pytest
from tiny_runs import arguments, artifact, described, run_all

from dpt_ray.cli.guard import USER_MISTAKE
from dpt_ray.cli.job import run_job
from dpt_ray.data.images.decoding import encode_png
from dpt_ray.data.importing.digits import read_digits
from dpt_ray.data.importing.import_plan import RowRange
from dpt_ray.data.shards.samples import Sample, build_shard
from dpt_ray.data.shards.skipped import count_images, read_skipped

SHORT = ["stage1.images=3200", "stage2.images=1600", "stage3.images=3200", "sampling.per_class=2", "sampling.steps=4"]


def digit_samples(split: str, start: int, stop: int) -> list[Sample]:
    images = read_digits({"split": split}, RowRange(stop - start, start, stop).to_json())
    return [Sample(i.key, {"png": encode_png(i.data), "cls": str(i.label).encode()}) for i in images]


@pytest.fixture
def damaged(tmp_path) -> list[str]:
    """Digits as shards, one with a broken image, one with a broken header, one cut off; the settings for them."""
    for split, shards, per_shard in (("train", 6, 100), ("test", 2, 50)):
        (tmp_path / split).mkdir()
        for number in range(shards):
            samples = digit_samples(split, number * per_shard, (number + 1) * per_shard)
            if (split, number) == ("train", 0):
                samples[7] = Sample(samples[7].key, {**samples[7].files, "png": samples[7].files["png"][:40]})
            data = bytearray(build_shard(samples))
            if (split, number) == ("train", 1):
                data[data.index(samples[50].key.encode())] ^= 1
            if (split, number) == ("train", 2):
                del data[len(data) // 2 :]
            (tmp_path / split / f"{number}.tar").write_bytes(data)
    return [f"data.{split}={tmp_path / split}" for split in ("train", "test")] + ["data.num_classes=10"]


@pytest.mark.usefixtures("local_ray")
def test_a_run_goes_on_without_what_is_broken_and_says_what_that_was(tmp_path, damaged, capsys):
    root = tmp_path / "results"
    lenient = [*SHORT, *damaged, "data.on_error=skip", "data.max_skipped_share=0.5", "labels.per_class=2"]

    def labelled(settings: list[str]) -> int:
        return run_job("test", lambda run: [run.labelled], arguments=arguments(root, *settings))

    assert labelled([*damaged, "labels.per_class=2"]) == USER_MISTAKE
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "0.tar" in told
    assert "data.on_error=skip" in told
    assert labelled([*lenient, "data.max_skipped_share=0.001"]) == USER_MISTAKE
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert all(f"{number}.tar" in told for number in range(3))
    assert not list(root.glob("dataset/*/manifest.json"))

    assert labelled(lenient) == 0
    _, run = described(root, *lenient)
    facts = artifact(root, run.train_data).facts
    skipped = read_skipped(facts)
    assert facts["images_in"] == facts["images"] + count_images(skipped)
    broken = digit_samples("train", 7, 8)[0].key
    assert {entry.key for entry in skipped if entry.where.endswith("0.tar")} == {broken}
    assert 500 < facts["images"] < 560
    # An artifact that lacks images is not taken for a whole one.
    assert labelled([*damaged, "labels.per_class=2"]) == USER_MISTAKE

    # After the indexing one shard loses its content and another rots: every step from here on meets them.
    hollow, rotten = tmp_path / "train" / "4.tar", tmp_path / "train" / "5.tar"
    content, stamp = hollow.read_bytes(), hollow.stat()
    _rot(rotten)
    _restore(hollow, bytes(stamp.st_size), stamp)
    capsys.readouterr()
    assert run_all(root, *lenient) == 0
    told = capsys.readouterr().out
    lost = {str(hollow), str(rotten)}
    for step in (run.classifier, run.pseudo_labels, run.generator, run.retrained):
        found = artifact(root, step).facts
        assert {entry.where for entry in read_skipped(found)} == lost, step.title
        assert f"{step.title}: done" in told
    predicted = artifact(root, run.pseudo_labels).facts
    assert predicted["images_in"] == predicted["images"] + 200 == facts["images"]
    assert sum(predicted["predicted_per_class"]) == predicted["images"]
    report = (root / "runs" / "digits" / "report.html").read_text()
    assert broken in report
    assert all(place in report for place in lost)

    # Mended, a shard is read again by what is made from here on.
    _restore(hollow, content, stamp)
    fresh = [*lenient, "seed=1"]
    assert run_job("test", lambda run: [run.classifier], arguments=arguments(root, *fresh)) == 0
    _, run = described(root, *fresh)
    assert {entry.where for entry in read_skipped(artifact(root, run.classifier).facts)} == {str(rotten)}


def _rot(shard: Path) -> None:
    """Change a byte of an image as bit rot does: size and time stay what they are."""
    stamp = shard.stat()
    content = bytearray(shard.read_bytes())
    content[content.index(b"IDAT", len(content) // 2) + 8] ^= 255
    _restore(shard, bytes(content), stamp)


def _restore(shard: Path, content: bytes, stamp: os.stat_result) -> None:
    """Write a shard in a way that no listing shows."""
    shard.write_bytes(content)
    os.utime(shard, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
