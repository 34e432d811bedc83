"""The images that a run trains on, and those of its evaluation."""

from dataclasses import dataclass
from typing import Literal

from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.schema import RunConfig
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
        train_data: indexes the training images; training reads their labels from `labelled` only.
        labelled: chooses the labelled images among them.
        held_out: indexes the images that only the evaluation reads.
        held_out_name: their name in messages.
        overlap: finds held-out images among the training images; None in a search.
    """

    train_data: Dataset | DataPart
    labelled: LabelledSubset | LabelledRest
    held_out: Dataset | DataPart
    held_out_name: str
    overlap: Overlap | None = None


def describe_dataset(
    role: Literal["train", "test"], data: DataConfig, inputs: Inputs, train: Dataset | None = None
) -> Dataset:
    """Return the step that indexes the images of a split; its parent writes their shards if there are none.

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
    """Return the usual split: training on all training images, evaluation on the test images.

    Without test data some of the training images are held out for evaluation.

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
    """Return the split of a search: evaluation on some training images, which are held out. The test data is not read.

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
    # Drawn labels come from the remaining images, so that all trials have the same validation images. Images that a
    # label file names are never held out.
    chosen_first = validation.images == "training" and config.labels.file is None
    all_labelled = None if chosen_first else describe_labelled(config, whole, inputs)
    choice = ValidationChoice(validation, whole, all_labelled, purpose)
    training, held_out = DataPart("training", whole, choice), DataPart("validation", whole, choice, purpose)
    labelled: LabelledSubset | LabelledRest
    if all_labelled is None:
        labelled = describe_labelled(config, training, inputs)
    else:
        labelled = LabelledRest(all_labelled, training)
    if purpose == "validation":
        return Split(training, labelled, held_out, VALIDATION_IMAGES)
    return Split(training, labelled, held_out, DRAWN_IMAGES, Overlap(config.data, training, held_out))
