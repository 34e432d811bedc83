"""Which images a run trains on, and which ones it is judged by."""

from dataclasses import dataclass

from dpt_ray.config.schema import RunConfig
from dpt_ray.config.tune import ValidationConfig
from dpt_ray.pipeline.steps.compare_splits import Overlap
from dpt_ray.pipeline.steps.index_dataset import Dataset
from dpt_ray.pipeline.steps.labelled_subset import LabelledSubset
from dpt_ray.pipeline.steps.validation import DataPart, LabelledRest, ValidationChoice

TEST_DATA, VALIDATION_IMAGES = "test data", "validation images"


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


def test_split(config: RunConfig) -> Split:
    """Train on all training images, judge by the test data.

    Raises:
        UserError: the data or the label file that `config` names cannot be read.
    """
    train_data = Dataset("train", config.data)
    test_data = Dataset("test", config.data, train_data)
    labelled = LabelledSubset(config.labels, config.data, train_data)
    overlap = Overlap(train_data, test_data, config.data.on_overlap)
    return Split(train_data, labelled, test_data, TEST_DATA, overlap)


def validation_split(config: RunConfig, validation: ValidationConfig) -> Split:
    """Keep some training images out of training and judge by those; the test data is not even looked for.

    Raises:
        UserError: the data or the label file that `config` names cannot be read.
    """
    if validation.images == "test":
        return test_split(config)
    whole = Dataset("train", config.data)
    # Drawn labels come from what is left, so that all trials have the same validation images; named ones are spared.
    chosen_first = validation.images == "training" and config.labels.file is None
    all_labelled = None if chosen_first else LabelledSubset(config.labels, config.data, whole)
    choice = ValidationChoice(validation, whole, all_labelled)
    training, held_out = DataPart("training", whole, choice), DataPart("validation", whole, choice)
    labelled: LabelledSubset | LabelledRest
    if all_labelled is None:
        labelled = LabelledSubset(config.labels, config.data, training)
    else:
        labelled = LabelledRest(all_labelled, training)
    return Split(training, labelled, held_out, VALIDATION_IMAGES)
