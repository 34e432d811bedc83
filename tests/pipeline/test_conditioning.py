"""Noise-aware conditioning of the generator, from predictions to a trained network."""

import numpy as np
import pytest
from tiny_runs import artifact, described

from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.sidecars import read_sidecar, sidecar_name
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.generator import Generator
from dpt_ray.pipeline import graph
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.artifacts.predictions import SIDECARS

LEAST = 0.5


@pytest.mark.slow
def test_the_generator_learns_from_true_labels_and_sure_ones_alone(finished):
    config, run = described(
        finished,
        "stage2.conditioning.true_labels=true",
        f"stage2.conditioning.least_confidence={LEAST}",
        "stage2.conditioning.confidence=true",
        "stage2.images=1600",
    )
    wanted = [run.conditioning, run.generator]
    graph.make_all(wanted, graph.ArtifactStore(config.root), config.cluster, lambda text: None)
    made = artifact(finished, run.conditioning)
    true = {(image.shard, image.row): image.label for image in read_labelled(artifact(finished, run.labelled))}
    dropped = corrected = 0
    for number in range(len(read_index(artifact(finished, run.train_data).url).shards)):
        columns = ["label", "confidence"]
        given = read_sidecar(artifact(finished, run.pseudo_labels).file(SIDECARS, sidecar_name(number)), columns)
        labels = read_sidecar(made.file(SIDECARS, sidecar_name(number)), columns)
        assert labels["key"] == given["key"]
        known = np.array([(number, row) in true for row in range(len(given["key"]))])
        assert labels["label"][known].tolist() == [true[number, row] for row in np.flatnonzero(known)]
        assert (labels["confidence"][known] == 1).all()
        unsure = ~known & (given["confidence"] < LEAST)
        assert (labels["label"][unsure] == UNKNOWN_LABEL).all()
        rest = ~known & ~unsure
        assert (labels["label"][rest] == given["label"][rest]).all()
        assert (labels["confidence"][~known] == given["confidence"][~known]).all()
        dropped += unsure.sum()
        corrected += (labels["label"][known] != given["label"][known]).sum()
    assert made.facts["known"] == len(true)
    assert made.facts["dropped"] == dropped > 0
    assert made.facts["corrected"] == corrected
    network = Generator(artifact(finished, run.generator).file(NETWORK_FILE)).network
    assert network.confidence_embedding.projection.weight.abs().max() > 0  # it was zero before training


def test_as_published_nothing_lies_between_pseudo_labels_and_generator(finished):
    _, run = described(finished)
    assert run.conditioning is None
    assert run.generator.parents["pseudo_labels"] is run.pseudo_labels
    _, told = described(finished, "stage2.conditioning.confidence=true")
    assert told.conditioning is None  # predictions have the confidence beside the label
    assert told.generator.fingerprint != run.generator.fingerprint
