"""Which images a run trains on, and which ones it is judged by."""

from dataclasses import dataclass
from typing import Literal

from dpt_ray.config.schema import DataConfig, RunConfig
from dpt_ray.config.search_settings import ValidationConfig
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.steps.compare_splits import Overlap
from dpt_ray.pipeline.steps.import_shards import ImportedShards
from dpt_ray.pipeline.steps.index_dataset import Dataset
from dpt_ray.pipeline.steps.labelled_subset import LabelledSubset
from dpt_ray.pipeline.steps.validation import DataPart, LabelledRest, Purpose, ValidationChoice

TEST_DATA, VALIDATION_IMAGES, DRAWN_IMAGES = "test data", "validation images", "held-out images"


@dataclass(frozen=True)
class Split:
    """The data steps of a run.

    Attributes:
        train_data: images that training sees, all of them without labels.
        labelled: those of them whose labels it sees.
        held_out: images that evaluation alone reads.
        held_out_name: what to call them.
        overlap: which of them are training images, too; None where they were divided off from those.
    """

    train_data: Dataset | DataPart
    labelled: LabelledSubset | LabelledRest
    held_out: Dataset | DataPart
    held_out_name: str
    overlap: Overlap | None = None


def describe_dataset(
    role: Literal["train", "test"], data: DataConfig, inputs: Inputs, train: Dataset | None = None
) -> Dataset:
    """Return the step that indexes a split's images, behind the one that writes their shards if there are none yet.

    Raises:
        UserError: the images cannot be found or used.
    """
    found = inputs.data(role, data)
    imported = None
    if found.images is not None:
        train_shards = train.parents.get("shards") if train is not None else None
        imported = ImportedShards(role, data, found.images, train_shards)
    return Dataset(role, data, found, imported, train)


def describe_labelled(config: RunConfig, images: Step, inputs: Inputs) -> LabelledSubset:
    """Return the step that chooses labelled images.

    Raises:
        UserError: the list of labelled images cannot be read.
    """
    listed = inputs.label_list(config.labels.file) if config.labels.file is not None else ()
    return LabelledSubset(config.labels, config.data, images, listed)


def test_split(config: RunConfig, inputs: Inputs) -> Split:
    """Judge by the test data, and train on all training images. Without test data some of these are held out.

    Raises:
        UserError: the data or the label file that `config` names cannot be read.
    """
    if config.data.draws_test:
        return _draw_test(config, describe_dataset("train", config.data, inputs), inputs)
    train_data = describe_dataset("train", config.data, inputs)
    test_data = describe_dataset("test", config.data, inputs, train_data)
    labelled = describe_labelled(config, train_data, inputs)
    overlap = Overlap(config.data, train_data, test_data)
    return Split(train_data, labelled, test_data, TEST_DATA, overlap)


def validation_split(config: RunConfig, validation: ValidationConfig, inputs: Inputs) -> Split:
    """Keep some training images out of training and judge by those; the test data is not even looked for.

    Without test data, the images that a run holds out are in neither part.

    Raises:
        UserError: the data or the label file that `config` names cannot be read.
    """
    if validation.images == "test":
        return test_split(config, inputs)
    images = describe_dataset("train", config.data, inputs)
    whole = _draw_test(config, images, inputs).train_data if config.data.draws_test else images
    return _divide(config, validation, whole, inputs, "validation")


def _draw_test(config: RunConfig, whole: Dataset, inputs: Inputs) -> Split:
    """Divide the training images as `data.test_share` says."""
    held_out = ValidationConfig(images="training", share=config.data.test_share, seed=config.data.test_seed)
    return _divide(config, held_out, whole, inputs, "test")


def _divide(
    config: RunConfig, validation: ValidationConfig, whole: Dataset | DataPart, inputs: Inputs, purpose: Purpose
) -> Split:
    """Divide the training images into those to train on and those to judge by.

    Args:
        config: all settings.
        validation: which images to judge by.
        whole: indexes all training images.
        inputs: reads the list of labelled images.
        purpose: what the images to judge by are for.
    """
    # Drawn labels come from what is left, so that all trials have the same validation images; named ones are spared.
    chosen_first = validation.images == "training" and config.labels.file is None
    all_labelled = None if chosen_first else describe_labelled(config, whole, inputs)
    choice = ValidationChoice(validation, whole, all_labelled, purpose)
    training, held_out = DataPart("training", whole, choice), DataPart("validation", whole, choice, purpose)
    labelled: LabelledSubset | LabelledRest
    if all_labelled is None:
        labelled = describe_labelled(config, training, inputs)
    else:
        labelled = LabelledRest(all_labelled, training)
    return Split(training, labelled, held_out, VALIDATION_IMAGES if purpose == "validation" else DRAWN_IMAGES)
