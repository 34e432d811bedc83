"""Dual pseudo training (You et al., NeurIPS 2023), as a graph of steps.

    labelled + unlabelled images
        | 0  encoder         learns features from all images, for a probe on it (optional)
        | 1  classifier      learns from few labels and all images
        |    pseudo-labels   every image gets a label
        | 2  generator       learns images of a class from pseudo-labels
        |    pseudo images   K images of every class
        | 3  classifier      learns again, from labels, all images and pseudo images
        v    evaluation

`build` states the whole method. It describes each step by its parents and its settings, and runs nothing.
`graph.make_all` makes the missing artifacts.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal

from dpt_ray.config.schema import RunConfig
from dpt_ray.core.diffusion.process_settings import build_process, lacks_times, reaches_guidance
from dpt_ray.errors import UserError
from dpt_ray.networks.pretrained.autoencoders import located
from dpt_ray.pipeline.artifacts.predictions import TOP
from dpt_ray.pipeline.classification_score import classification_score
from dpt_ray.pipeline.classifier_steps import Classifier, learn, own_encoder, predict, unlabelled_features
from dpt_ray.pipeline.execution.classifier_stage import ClassifierStage
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.generation_steps import SeenByStage1, measure_generation
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.splits import Split, test_split
from dpt_ray.pipeline.start_checks import check_num_classes, check_submitted
from dpt_ray.pipeline.steps.balanced_labels import BalancedLabels
from dpt_ray.pipeline.steps.cluster_images import ClusterImages
from dpt_ray.pipeline.steps.compare_splits import Overlap
from dpt_ray.pipeline.steps.conditioning import ConditioningLabels
from dpt_ray.pipeline.steps.encode_latents import EncodeLatents
from dpt_ray.pipeline.steps.evaluate import Evaluation
from dpt_ray.pipeline.steps.index_dataset import Dataset
from dpt_ray.pipeline.steps.labelled_subset import LabelledSubset
from dpt_ray.pipeline.steps.measure_generation import MeasureGeneration
from dpt_ray.pipeline.steps.predict import Predictions
from dpt_ray.pipeline.steps.sample_images import PseudoImages
from dpt_ray.pipeline.steps.train_encoder import TrainEncoder
from dpt_ray.pipeline.steps.train_generator import PretrainGenerator, TrainGenerator
from dpt_ray.pipeline.steps.validation import DataPart, LabelledRest


@dataclass(frozen=True)
class DualPseudoTraining:
    """The steps of one run."""

    train_data: Dataset | DataPart
    test_data: Dataset | DataPart
    overlap: Overlap | None
    labelled: LabelledSubset | LabelledRest
    encoder: TrainEncoder | None
    classifier: Classifier
    pseudo_labels: Predictions | BalancedLabels
    conditioning: ConditioningLabels | None
    latents: EncodeLatents | None
    pretraining: PretrainGenerator | None
    generator: TrainGenerator
    pseudo_images: PseudoImages
    retrained: Classifier
    stage1_predictions: Predictions
    stage3_predictions: Predictions
    pseudo_image_predictions: Predictions
    real_features: Predictions | None
    generation: MeasureGeneration | None
    trained_on_pseudo: Classifier | None
    score_predictions: Predictions | None
    evaluation: Evaluation

    def steps(self) -> list[Step]:
        """Return all steps in the order of the method."""
        return list(self.by_id().values())

    def by_id(self) -> dict[str, Step]:
        """Return all steps by their ids, which are the names of the fields, in the order of the method."""
        steps = {field.name: getattr(self, field.name) for field in fields(self)}
        return {id: step for id, step in steps.items() if step is not None}

    def checked(self, targets: list[Step]) -> list[Step]:
        """Return the comparison of the splits, which may end a job before any training, and then `targets`."""
        return [self.overlap, *targets] if self.overlap is not None else targets


def build(
    config: RunConfig, split: Callable[[RunConfig, Inputs], Split] = test_split, inputs: Inputs | None = None
) -> DualPseudoTraining:
    """Describe a run.

    Args:
        config: all settings.
        split: returns the images for training and those for evaluation.
        inputs: reads the storage for the description. Several runs may share one, which reads each place once.

    Raises:
        UserError: the data, the label file or a model that `config` names cannot be read or used, or nothing would be
            guided; or the job was submitted, and they or the results lie in the folder that Ray made for it.
    """
    inputs = inputs or Inputs()
    _check(config, inputs)
    data, seed, features = config.data, config.seed, config.evaluation.reads_stage1
    parts = split(config, inputs)
    train_data, test_data, labelled = parts.train_data, parts.held_out, parts.labelled
    encoder = own_encoder(config, train_data)
    classifier = learn(_classifier_stage(config, "stage1", parts, encoder=encoder), inputs)
    predicted = predict("pseudo-labels", data, classifier, train_data, inputs, details=config.pseudo_labels)
    is_balanced = config.pseudo_labels.assignment == "balanced"
    pseudo_labels = BalancedLabels(config.pseudo_labels, predicted, train_data) if is_balanced else predicted

    real_features = None
    if features or config.stage2.conditioning.clusters > 1:
        real_features = predict("stage 1 features of real images", data, classifier, train_data, inputs, features=True)
    stage2, conditioning = located(config.stage2), None
    if stage2.conditioning.changes_labels:
        conditioning = ConditioningLabels(stage2.conditioning, pseudo_labels, train_data, labelled, real_features)
    latents = EncodeLatents(stage2, data, train_data, inputs.autoencoder(stage2, data)) if stage2.in_latents else None
    pretraining, generator = _generator(config, inputs, train_data, encoder, conditioning or pseudo_labels, latents)
    pseudo_images = PseudoImages(config.sampling, seed, generator, classifier, train_data, stage2.latents)

    on_pseudo_images = predict("stage 1 on pseudo images", data, classifier, pseudo_images, inputs, features=features)
    retrained = learn(_classifier_stage(
        config, "stage3", parts, encoder=encoder, stage1=classifier, pseudo_labels=pseudo_labels,
        pseudo_images=pseudo_images, pseudo_predictions=on_pseudo_images,
    ), inputs)  # fmt: skip

    name, measured = parts.held_out_name, config.evaluation.measures_stage1
    stage1_predictions = predict(f"stage 1 on {name}", data, classifier, test_data, inputs, features=measured, kept=TOP)
    stage3_predictions = predict(f"stage 3 on {name}", data, retrained, test_data, inputs, kept=TOP)
    seen = SeenByStage1(real_features if features else None, on_pseudo_images, stage1_predictions)
    generation = measure_generation(config, inputs, train_data, pseudo_images, test_data, seen)
    on_pseudo, scored = classification_score(config, inputs, encoder, pseudo_images, test_data, name)
    evaluation = Evaluation(
        train_data=train_data, test_data=test_data, overlap=parts.overlap, labelled=labelled,
        pseudo_labels=pseudo_labels, stage1=stage1_predictions, stage3=stage3_predictions,
        pseudo_images=on_pseudo_images, real_features=real_features if config.evaluation.frechet else None,
        generation=generation, trained_on_pseudo=scored,
    )  # fmt: skip
    return DualPseudoTraining(
        train_data, test_data, parts.overlap, labelled, encoder, classifier, pseudo_labels, conditioning, latents,
        pretraining, generator, pseudo_images, retrained, stage1_predictions, stage3_predictions, on_pseudo_images,
        real_features, generation, on_pseudo, scored, evaluation,
    )  # fmt: skip


def _classifier_stage(
    config: RunConfig, name: Literal["stage1", "stage3"], parts: Split, **parents: Step | None
) -> ClassifierStage:
    return ClassifierStage(
        name=name,
        config=getattr(config, name),
        data=config.data,
        seed=config.seed,
        train_data=parts.train_data,
        labelled=parts.labelled,
        start=None,  # `learn` finds it
        title=None,
        **parents,
    )


def _generator(
    config: RunConfig, inputs: Inputs, train_data: Step, encoder: Step | None, labels: Step, latents: Step | None
) -> tuple[PretrainGenerator | None, TrainGenerator]:
    """Return the steps that train the generator: without labels, if the settings ask for it, and with them."""
    stage2, data, seed = located(config.stage2), config.data, config.seed
    start = inputs.generator_start(stage2, data)
    if not stage2.pretraining.images:
        return None, TrainGenerator(stage2, data, seed, train_data, labels, latents, start)
    clusters = None
    if stage2.pretraining.clusters > 1:
        features = unlabelled_features(config, train_data, inputs, encoder)
        clusters = ClusterImages(stage2.pretraining, train_data, features)
    pretraining = PretrainGenerator(stage2, data, seed, train_data, latents, start, clusters)
    generator = TrainGenerator(
        stage2, data, seed, train_data, labels, latents, pretraining=pretraining, clusters=clusters
    )
    return pretraining, generator


def _check(config: RunConfig, inputs: Inputs) -> None:
    inputs.use_listings(config)
    check_submitted(config)
    check_num_classes(config, inputs)
    process = build_process(config.stage2)
    if lacks_times(config.sampling, process):
        raise UserError(
            f"sampling.sampler={config.sampling.sampler} steps uniformly in time, but "
            f"stage2.process={config.stage2.process} has noise levels only",
            fix="set sampling.sampler=heun, or another process",
        )
    if not reaches_guidance(config.sampling, process):
        low, high = config.sampling.guidance_interval or (0, 0)
        raise UserError(
            f"sampling.guidance_interval [{low:g}, {high:g}] holds no noise level of {config.stage2.process}",
            fix=f"they go from {process.sigma_min:.3g} to {process.sigma_max:.3g}",
        )
