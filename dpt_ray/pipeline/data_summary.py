"""The summary that `dpt prepare` prints: images, sizes, classes, and everything that was left out."""

from collections.abc import Mapping

from dpt_ray.config.schema import RunConfig
from dpt_ray.data.images.white_level import say_levels
from dpt_ray.data.importing.facts import ImageSizes
from dpt_ray.data.importing.import_plan import missed_first
from dpt_ray.data.shards.skipped import count_images
from dpt_ray.pipeline.artifacts.dataset import DatasetFacts, class_names, say_passed_over
from dpt_ray.pipeline.artifacts.held_out import DataPartFacts
from dpt_ray.pipeline.artifacts.overlap import PAIRS_FILE, OverlapFacts, tell_exact, tell_near
from dpt_ray.pipeline.artifacts.shards import LEFT_OUT_FILE, SHARDS, ShardsFacts, ignored_files
from dpt_ray.pipeline.artifacts.store import MANIFEST_FILE, Artifact
from dpt_ray.pipeline.dpt import DualPseudoTraining
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.steps.index_dataset import Dataset
from dpt_ray.pipeline.steps.validation import DataPart
from dpt_ray.tables import format_bytes, text_table

TOLD_CLASSES, EXTREMES = 20, 5
"""Largest number of classes that are all listed; of more, so many of the smallest and of the largest are."""
TOLD_REFUSED, TOLD_IGNORED, TOLD_PAIRS = 20, 5, 5

Artifacts = Mapping[Step, Artifact]


def summarise_data(config: RunConfig, run: DualPseudoTraining, artifacts: Artifacts, folder: str) -> str:
    """Return the summary of both splits' data as text for a terminal."""
    blocks = [_split("training data", _whole(run), artifacts, config)]
    if isinstance(run.test_data, Dataset):
        blocks.append(_split("test data", run.test_data, artifacts, config))
    else:
        blocks.append(_drawn(config, run, artifacts))
    return "\n" + "\n\n".join([*blocks, *_overlap(run, artifacts), _classes(config, run, artifacts)])


def _whole(run: DualPseudoTraining) -> Dataset:
    """Return the step that indexes all training images, held-out ones included."""
    whole = run.train_data.parents["images"] if isinstance(run.train_data, DataPart) else run.train_data
    assert isinstance(whole, Dataset)  # parts of a part are a search's alone
    return whole


def _facts(step: Dataset | DataPart, artifacts: Artifacts) -> DatasetFacts | DataPartFacts:
    facts: DatasetFacts | DataPartFacts = step.facts_type.read(artifacts[step])
    return facts


def _drawn(config: RunConfig, run: DualPseudoTraining, artifacts: Artifacts) -> str:
    """Say which images are held out where there are no test data."""
    held_out = DataPartFacts.read(artifacts[run.test_data])
    text = (
        f"{held_out.images:,} of these images, {config.data.test_share:.0%} of every class, are drawn with "
        f"data.test_seed={config.data.test_seed}; no training reads them. Other images: data.test"
    )
    return "\n".join(["held-out images", *_indent(text)])


def _split(title: str, step: Dataset, artifacts: Artifacts, config: RunConfig) -> str:
    """Describe one split."""
    facts = DatasetFacts.read(artifacts[step])
    made = ShardsFacts.read(artifacts[step.imported]) if step.imported is not None else None
    rows = [
        ("images", _images(facts)),
        ("shards", f"{facts.shards:,}, {format_bytes(facts.bytes)} together"),
    ]
    if facts.repeated_images:
        rows.append(("repeated", f"{facts.repeated_images:,} images have the pixels of another one of them"))
    if step.imported is not None:
        rows += [("from", _origin(step, config)), ("in", artifacts[step.imported].file(SHARDS))]
    else:
        rows.append(("in", str(step.settings["location"])))
    if made is not None and made.sizes is not None:
        rows.append(("width x height", _sizes(made.sizes, config.data.prepare_size)))
    if levels := (made.levels if made is not None else None) or facts.levels:
        rows.append(("brightness", say_levels(levels)))
    if passed_over := say_passed_over(facts.passed_over):
        rows.append(("ignored", passed_over))
    lines = [title, *_indent(text_table(rows))]
    lines += [f"  note: {note}" for note in (made.notes if made is not None else ())]
    return "\n".join(lines + _refused(step, artifacts) + _ignored(step, artifacts))


def _origin(step: Dataset, config: RunConfig) -> str:
    settings = step.imported.settings if step.imported is not None else {}
    given = config.data.train if settings["split"] == "train" else config.data.test
    return "the embedded digits" if settings["source"] == "digits" else f"{given} ({settings['source']})"


def _images(facts: DatasetFacts) -> str:
    return f"{facts.images:,}" + (f", {facts.unlabelled:,} of them unlabelled" if facts.unlabelled else "")


def _sizes(sizes: ImageSizes, prepared: int | None) -> str:
    smallest, median, largest = ("x".join(map(str, size)) for size in (sizes.smallest, sizes.median, sizes.largest))
    text = smallest if smallest == largest else f"{smallest} to {largest}, median {median}"
    return text + (f"; brought to {prepared}x{prepared}" if prepared else "")


def _refused(step: Dataset, artifacts: Artifacts) -> list[str]:
    """List what the conversion to shards refused, and what the index refused."""
    lines: list[str] = []
    for part, list_file in ((step.imported, LEFT_OUT_FILE), (step, MANIFEST_FILE)):
        if part is None:
            continue
        facts: DatasetFacts | ShardsFacts = part.facts_type.read(artifacts[part])
        if entries := facts.skipped:
            lost, images_in = count_images(entries), facts.images_in
            lines.append(f"  refused: {lost:,} of {images_in:,} images (listed in {artifacts[part].file(list_file)})")
            lines += [f"    {entry}" for entry in entries[:TOLD_REFUSED]]
            if len(entries) > TOLD_REFUSED:
                lines.append(f"    ... and {len(entries) - TOLD_REFUSED:,} more")
    return lines


def _ignored(step: Dataset, artifacts: Artifacts) -> list[str]:
    """List the files beside the images as they are now; the list in the artifact may be older."""
    ignored = step.ignored
    if not ignored:
        return []
    told = [f"    {entry.name}: {entry.reason}" for entry in missed_first(ignored)[:TOLD_IGNORED]]
    if len(ignored) > len(told):
        told.append(f"    ... and {len(ignored) - len(told):,} more")
    made = artifacts[step.imported] if step.imported is not None else None
    listed = made is not None and ShardsFacts.read(made).ignored == ignored_files(ignored)
    where = f" (listed in {made.file(LEFT_OUT_FILE)})" if made is not None and listed else ""
    folders = sum(entry.name.endswith("/") for entry in ignored)
    counts = [(len(ignored) - folders, "file"), (folders, "folder")]
    count = " and ".join(f"{number:,} {noun}{'s' * (number > 1)}" for number, noun in counts if number)
    return [f"  ignored: {count}{where}", *told]


def _overlap(run: DualPseudoTraining, artifacts: Artifacts) -> list[str]:
    """Say how many test images are training images, or look like one, with the first pairs."""
    if run.overlap is None:
        return []
    facts = OverlapFacts.read(artifacts[run.overlap])
    pairs = artifacts[run.overlap].file(PAIRS_FILE)
    lines = [
        f"test images among the training images (pairs are listed in {pairs})"
        if facts.first
        else "test images among the training images",
        f"  {tell_exact(facts)}; {tell_near(facts)}",
    ]
    for pair in facts.first[:TOLD_PAIRS]:
        alike = "equal pixels" if pair.bits is None else f"{pair.bits} of 255 bits differ"
        lines.append(f"    test image {pair.test.key!r}, training image {pair.train.key!r}: {alike}")
    return ["\n".join(lines)]


def _classes(config: RunConfig, run: DualPseudoTraining, artifacts: Artifacts) -> str:
    """Return a table of images in each class of both splits; of many classes the smallest and largest."""
    train, test = (_facts(step, artifacts).images_per_class for step in (run.train_data, run.test_data))
    number = max(len(train), len(test))
    names = class_names(config.data, number, DatasetFacts.read(artifacts[_whole(run)]).class_names)
    names += tuple(map(str, range(len(names), number)))  # classes of the test data alone
    counts = [[split[label] if label < len(split) else 0 for split in (train, test)] for label in range(number)]
    chosen = list(range(number))
    if number > TOLD_CLASSES:
        by_size = sorted(chosen, key=lambda label: (counts[label][0], label))
        chosen = by_size[:EXTREMES] + by_size[-EXTREMES:]
    rows = [(str(label), names[label], *(f"{count:,}" for count in counts[label])) for label in chosen]
    if number > TOLD_CLASSES:
        rows.insert(EXTREMES, ("", f"({number - 2 * EXTREMES:,} classes between)", "", ""))
    header = ("id", "class", "training", "test")
    return "\n".join([f"images in each of {number:,} classes", *_indent(text_table([header, *rows], header=True))])


def _indent(text: str) -> list[str]:
    return ["  " + line for line in text.splitlines()]
