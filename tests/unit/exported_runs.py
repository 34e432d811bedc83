"""A finished run as the pipeline leaves it, with untrained networks, in a second and without Ray."""

from pathlib import Path
from typing import Any

from dpt_ray.config.load import dump_yaml, load_config
from dpt_ray.config.schema import RunConfig
from dpt_ray.core.training.from_settings import classifier_training, generator_training
from dpt_ray.data.shards.index import DatasetIndex, ShardInfo
from dpt_ray.data.storage import stores
from dpt_ray.networks.classifier import classifier_file
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.generator import generator_file
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore

CLASSES = ("ant", "bee", "cat")
SIZE = 8

TINY = [
    "preset=digits",
    "stage1.model.width=4",
    "stage2.model.dim=16",
    "stage2.model.heads=2",
    "sampling.steps=3",
    "data.class_names=[ant, bee, cat]",
    "data.num_classes=null",
    "seed=5",
    "sampling.seed=2",
]


def write_run(root: Path, *settings: str) -> tuple[str, RunConfig]:
    """Write a run called `tiny` below `root`; return its folder and settings."""
    config = load_config(None, [*TINY, f"root={root}", "name=tiny", *settings])
    store = ArtifactStore(str(root))

    def commit(
        step: str, address: str, facts: dict[str, Any], settings: dict[str, Any], **parents: Artifact
    ) -> Artifact:
        named = {
            role: {"step": p.manifest["step"], "fingerprint": p.manifest["fingerprint"]} for role, p in parents.items()
        }
        return store.commit(step, address, {"settings": settings, "parents": named, "facts": facts, "seconds": 1.0})

    folder = store.folder("dataset", "d")
    index = DatasetIndex((ShardInfo(f"{root}/shards/0.tar", 1, "0", 30),), (10, 10, 10), f"{folder}/labels", CLASSES)
    stores.write_json(f"{folder}/index.json", index.to_json(folder))
    data = commit("dataset", "d", {}, {})
    labelled = commit("labelled_subset", "l", {"images": 12, "of": 30}, {}, images=data)
    form = {"image_size": SIZE, "channels": 1}
    stages = {}
    for name, stage in (("classifier", config.stage1), ("retrained", config.stage3)):
        state = classifier_training(stage, channels=1, num_classes=3, seed=len(stages))
        address = f"c{len(stages)}"
        stores.write_bytes(
            f"{store.folder('classifier', address)}/{NETWORK_FILE}", classifier_file(stage.model, 1, 3, state)
        )
        training = {"training": stage.model_dump(mode="json"), **form}
        parents = {"images": data, "labelled": labelled}
        if stages:
            pseudo = commit("pseudo_images", "p", {"images": 36, "classes": 3, "files": []}, {})
            parents["pseudo_images"] = pseudo
        stages[name] = commit("classifier", address, {"images_seen": 320, "loss": 1.0}, training, **parents)
    predicted = commit(
        "predictions",
        "l",
        {"images": 30, "predicted_per_class": [9, 10, 11], "mean_confidence": 0.5, "files": []},
        {},
        classifier=stages["classifier"],
        images=data,
    )
    state = generator_training(config.stage2, **form, num_classes=3, seed=0)
    file = generator_file(config.stage2, {**form, "num_classes": 3}, state)
    stores.write_bytes(f"{store.folder('generator', 'g')}/{NETWORK_FILE}", file)
    trained = {"training": {}, **form, "seed": config.seed}
    generator = commit(
        "generator", "g", {"images_seen": 640, "loss": 1.0}, trained, images=data, pseudo_labels=predicted
    )
    figures = {"stage1_accuracy": 0.5, "pseudo_label_accuracy": 0.625, "stage3_accuracy": 0.75, "frechet_distance": 1.5}
    evaluation = commit("evaluation", "e", {**figures, "pseudo_image_agreement": 0.8, "test_images": 9}, {})
    named = {"generator": generator, "evaluation": evaluation, **stages}
    addresses = {id: f"{a.manifest['step']}/{a.manifest['fingerprint']}" for id, a in named.items()}
    run = f"{root}/runs/tiny"
    stores.write_json(f"{run}/run.json", {"format": 2, "artifacts": addresses, "settings": "s"})
    stores.write_bytes(f"{run}/config.yaml", dump_yaml(config).encode())
    return run, config
