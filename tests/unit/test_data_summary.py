"""The summary of prepared data: all of few classes, the extremes of many; the first entries of long lists."""

from dataclasses import replace

from dpt_ray.config.load import load_config
from dpt_ray.data.importing.import_plan import Ignored
from dpt_ray.data.shards.skipped import Skipped, skip_facts
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.data_summary import summarise_data
from dpt_ray.pipeline.dpt import build

NOTHING = {"test_images": 0, "train_images": 0, "pairs": 0}
NO_OVERLAP = {
    "train_images": 5000,
    "test_images": 1000,
    "exact": NOTHING,
    "near": NOTHING,
    "without_perceptual_hash": {"train": 0, "test": 0},
    "listed": 0,
    "first": [],
}

WRITTEN = {
    "images": 0,
    "files": [],
    "bytes": 0,
    "class_names": None,
    "images_per_class": [],
    "levels": None,
    "skipped": [],
}


def summary(
    tmp_path, train_classes: list[int], test_classes: list[int], *settings: str, skipped=(), facts=None, overlap=None
) -> str:
    """The summary of data that is shards already, or of digits if `facts` tell of them."""
    source = []
    if facts is None:
        for split in ("train", "test"):
            (tmp_path / split).mkdir(exist_ok=True)
            (tmp_path / split / "1.tar").touch()
        source = [f"data.{split}={tmp_path / split}" for split in ("train", "test")] + ["data.num_classes=null"]
    config = load_config(None, ["preset=digits", *source, *settings])
    run = build(config)
    artifacts = {}
    for step, counts in ((run.train_data, train_classes), (run.test_data, test_classes)):
        found = {
            "images": sum(counts) + 2,
            "shards": 1,
            "bytes": 3 * 2**20,
            "images_per_class": counts,
            "class_names": None,
        }
        lost = list(skipped) if step is run.train_data else []
        artifacts[step] = Artifact("root/dataset/1", {"facts": {**found, **skip_facts(sum(counts) + len(lost), lost)}})
        if step.imported is not None:
            artifacts[step.imported] = Artifact("root/shards/1", {"facts": {**WRITTEN, **facts}})
            beside = tuple(Ignored(*entry) for entry in facts["ignored"]["first"])
            step.images = replace(step.images, ignored=beside)
    artifacts[run.overlap] = Artifact("root/overlap/1", {"facts": {**NO_OVERLAP, **(overlap or {})}})
    return summarise_data(config, run, artifacts, "root")


def test_data_that_is_shards_already_is_told_where_it_lies(tmp_path):
    text = summary(tmp_path, [5, 7], [1, 0], "data.class_names=[ant, bee]")
    assert f"  in      {tmp_path}/train\n" in text
    assert "  images  14, 2 of them unlabelled\n  shards  1, 3.0 MiB together" in text
    assert "   0  ant           5     1\n   1  bee           7     0" in text
    assert "refused" not in text
    assert "ignored" not in text


def test_of_many_classes_the_smallest_and_the_largest_are_told(tmp_path):
    text = summary(tmp_path, list(range(100, 200)), [1] * 100)
    assert "images in each of 100 classes" in text
    assert "(90 classes between)" in text
    assert all(f" {count} " in text for count in (100, 104, 195, 199))
    assert not any(f" {count} " in text for count in (105, 194))


def test_long_lists_are_cut_and_the_rest_is_counted(tmp_path):
    skipped = [Skipped(f"{number}.tar", "x", "is broken") for number in range(23)]
    text = summary(tmp_path, [50, 50], [1, 1], skipped=skipped)
    assert "refused: 23 of 123 images (listed in root/dataset/1/manifest.json)" in text
    assert "    19.tar: sample 'x': is broken\n    ... and 3 more" in text
    ignored = {"files": 9, "first": [[f"{n}.txt", "hidden"] for n in range(9)]}
    text = summary(tmp_path, [1] * 10, [1] * 10, facts={"sizes": None, "ignored": ignored})
    assert "ignored: 9 files (listed in root/shards/1/left_out.csv)" in text
    assert "    4.txt: hidden\n    ... and 4 more" in text


def test_what_lies_beside_shards_is_told_as_it_is_now(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "more").mkdir(parents=True)
        (tmp_path / split / "more" / "2.tar").touch()
        (tmp_path / split / "docs").mkdir()
        (tmp_path / split / "1.tar.gz").touch()
    text = summary(tmp_path, [5, 7], [1, 0])
    assert text.count("  ignored: 2 files and 1 folder\n    1.tar.gz: an archive that is not read; decompress it") == 2
    assert "    more/2.tar: lies in a folder below; to have it read, give" in text
    assert "    docs/: a folder without shards" in text


def test_image_sizes_are_told_with_what_they_were_brought_to(tmp_path):
    nothing = {"files": 0, "first": []}
    sizes = {"smallest": [3, 4], "median": [8, 8], "largest": [30, 20]}
    for settings, expected in (
        ((), "3x4 to 30x20, median 8x8\n"),
        (("data.prepare_size=9",), "median 8x8; brought to 9x9"),
    ):
        assert expected in summary(tmp_path, [1] * 10, [1] * 10, *settings, facts={"sizes": sizes, "ignored": nothing})
    equal = {name: [8, 8] for name in sizes}
    assert "width x height  8x8\n" in summary(tmp_path, [1] * 10, [1] * 10, facts={"sizes": equal, "ignored": nothing})


def test_test_images_among_the_training_images_are_told_with_the_first_pairs(tmp_path):
    told = "no test image has the pixels of a training image; none looks like one\n"
    assert f"test images among the training images\n  {told}" in summary(tmp_path, [5, 7], [1, 1])
    place = {"number": 0, "row": 0, "shard": "0.tar"}
    pairs = [
        {"bits": bits, "train": place | {"key": f"train-{number}"}, "test": place | {"key": f"test-{number}"}}
        for number, bits in enumerate([None, None, 3, 5, 7, 9, 11])
    ]
    found = {
        "exact": {"test_images": 2, "train_images": 1, "pairs": 2},
        "near": {"test_images": 1, "train_images": 5, "pairs": 5},
        "without_perceptual_hash": {"train": 9, "test": 4},
        "first": pairs,
    }
    text = summary(tmp_path, [5, 7], [1, 1], overlap=found)
    assert "test images among the training images (pairs are listed in root/overlap/1/pairs.csv)\n" in text
    assert (
        "  2 of 1,000 test images have the very pixels of a training image; "
        "1 looks like one (5 pairs); 4 are too plain to compare\n"
    ) in text
    assert "    test image 'test-1', training image 'train-1': equal pixels\n" in text
    assert "    test image 'test-4', training image 'train-4': 7 of 255 bits differ\n" in text
    assert "'test-5'" not in text
    plain = {"without_perceptual_hash": {"train": 0, "test": 1000}}
    assert "similar images are not looked for" in summary(tmp_path, [5, 7], [1, 1], overlap=plain)
