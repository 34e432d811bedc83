"""The model card of an exported network, written from its configuration."""

from collections.abc import Iterable, Sequence

from dpt_ray.data.storage import stores
from dpt_ray.export.folder import AUTOENCODER_FOLDER, ENCODER_FOLDER, ONNX_FILE, WEIGHTS_FILE, ExportConfig, MetricEntry

_LISTED = 20
"""Largest number of classes that the card lists."""


def model_card(config: ExportConfig, files: Iterable[str], folder: str) -> str:
    """Return the model card as Markdown.

    Args:
        config: content of `config.json`.
        files: names of the folder's other files.
        folder: name of the folder, for the code that loads it.
    """
    generator = config["kind"] == "generator"
    what = "Class-conditional image generator" if generator else "Image classifier"
    lines = [
        "---",
        "library_name: dpt_ray",
        *([] if generator else ["pipeline_tag: image-classification"]),
        f"tags: [{'u-vit' if 'imported' in config else 'dual-pseudo-training, semi-supervised'}]",
        "---",
        "",
        f"# {what}: {_plain(config['title'])}",
        "",
        _origin(config),
        "",
        *_table(("what", ""), _model_rows(config)),
        "",
        *_data_lines(config),
        *_metric_lines(config["metrics"]),
        "## How to load",
        "",
        *(_generator_code(config, folder) if generator else _classifier_code(folder)),
        "",
        *_file_lines(config, set(files)),
        "## Limits",
        "",
        _limits(config),
        "",
    ]
    return "\n".join(lines)


def _limits(config: ExportConfig) -> str:
    sentences = ["It knows only the classes above, in images of the size above."]
    if "imported" not in config:
        sentences.append(
            "Some pseudo-labels in training were wrong (see the figures), and the network has learned from them."
        )
    others = {"imported": " and of the weights", "probe": " and of the encoder"}
    also = others.get("imported" if "imported" in config else config["kind"], "")
    sentences.append(f"Check that the licences of the training data{also} allow your use.")
    return " ".join(sentences)


def _origin(config: ExportConfig) -> str:
    version = f"dpt_ray {config['software'].get('dpt_ray', '')}"
    if "imported" in config:
        return (
            "The weights of an official U-ViT ([Bao et al., CVPR 2023](https://arxiv.org/abs/2209.12152)), converted "
            f"to another file format by {version}. The values are unchanged."
        )
    paper = "[You et al., NeurIPS 2023](https://arxiv.org/abs/2302.10586)"
    return f"Made by dual pseudo training ({paper}) with {version}."


def _model_rows(config: ExportConfig) -> list[tuple[str, str]]:
    image, classes = config["image"], config["classes"]
    names = ", ".join(map(_plain, classes[:_LISTED])) + (", ..." if len(classes) > _LISTED else "")
    rows = [
        ("network", f"{config['architecture']}, {config['parameters']:,} parameters"),
        ("images", f"{image['size']}x{image['size']} pixels, {_colours(image['channels'])}, uint8"),
        ("classes", f"{len(classes)}: {names}"),
    ]
    if config["kind"] == "generator":
        sampling = config["sampling"]
        rows += [
            ("guidance scale", f"{sampling['guidance_scale']:g}{_sampled(config)}"),
            ("sampler", _sampler(config)),
        ]
        if "latents" in config["network"]:
            place = stores.without_credentials(str(config["network"]["latents"].get("location", "")))
            rows.append(("autoencoder", f"{place}, a copy in `{AUTOENCODER_FOLDER}/`"))
    return rows


def _colours(channels: int) -> str:
    return {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels: latents, which are no images")


def _sampler(config: ExportConfig) -> str:
    name, steps = config["sampling"]["sampler"], config["sampling"]["steps"]
    if not name.endswith("_fast"):
        return f"{name}, {steps} steps"
    official = "; as the official code samples" if config.get("imported", {}).get("published_sampling") else ""
    return f"{name}, {steps} evaluations, without a last denoising{official}"


def _sampled(config: ExportConfig) -> str:
    if "imported" in config:
        return ", in the paper's convention: 0 is no guidance"
    if not config["sampled_in_run"]:
        return " (a default: no run has sampled from it)"
    sampling = config["sampling"]
    if sampling["guidance_scale"] == 0:
        return ": no guidance"
    interval = sampling.get("guidance_interval")
    where = f" at noise levels {interval[0]:g} to {interval[1]:g}" if interval else ""
    return f"{where}, in the paper's convention: 0 is no guidance"


def _data_lines(config: ExportConfig) -> list[str]:
    if "imported" in config:
        return []  # a checkpoint names no training data
    return ["## Trained on", "", *_table(("what", ""), _data_rows(config)), ""]


def _data_rows(config: ExportConfig) -> list[tuple[str, str]]:
    trained = config["trained_on"]
    rows = [("data", _plain(trained["data"]))] if trained["data"] else []
    rows += [("images", f"{trained['images']:,}"), ("true labels", f"{trained['true_labels']:,}")]
    rows.append(("labels used", trained["labels"]))
    if trained["labels_per_class"]:
        rows.append(("images by label", ", ".join(f"{n:,}" for n in trained["labels_per_class"][:_LISTED])
                     + (", ..." if len(trained["labels_per_class"]) > _LISTED else "")))  # fmt: skip
    if trained["images_seen"] is not None:
        rows.append(("length of training", f"{trained['images_seen']:,} images, repeats counted"))
    return rows


def _metric_lines(metrics: Sequence[MetricEntry]) -> list[str]:
    if not metrics:
        return []
    rows = [(m["name"], f"{m['value']:.4g}", m["meaning"]) for m in metrics]
    return ["## Figures of the run", "", *_table(("figure", "value", "meaning"), rows), ""]


def _generator_code(config: ExportConfig, folder: str) -> list[str]:
    guided = config["knows_null_label"]
    default = "By default, the images of a class are the pseudo images of the run."
    if "imported" in config:
        default = "By default, images are sampled with the settings in the table."
    return [
        "```python",
        "import dpt_ray",
        "",
        f'generator = dpt_ray.load_generator("{folder}")  # any URL; device="cuda" or "cpu" to choose',
        f"images = generator.sample([0, 0, 1]{', guidance_scale=0.4' if guided else ''}, seed=0)  # uint8 (3, C, H, W)",
        "```",
        "",
        f"Ray is not needed. {default}"
        + ("" if guided else " It was trained without label dropout, so it cannot be guided."),
    ]


def _classifier_code(folder: str) -> list[str]:
    return [
        "```python",
        "import dpt_ray",
        "",
        f'classifier = dpt_ray.load_classifier("{folder}")  # any URL; device="cuda" or "cpu" to choose',
        'images = classifier.read(["cat.png"])  # uint8 (N, C, H, W), resized as in training',
        "names = [classifier.classes[label] for label in classifier.predict(images)]",
        "```",
        "",
        "Ray is not needed. `classifier.probabilities(images)` has all classes.",
    ]


def _file_lines(config: ExportConfig, files: set[str]) -> list[str]:
    lines = [f"`{WEIGHTS_FILE}` holds averaged weights; nothing in this folder is a pickle."]
    if config["kind"] == "probe":
        lines.append(f"`{ENCODER_FOLDER}/` is the frozen encoder, {_plain(config['trained_on']['encoder'])}.")
    if ONNX_FILE in files:
        lines.append(
            f"`{ONNX_FILE}` takes `images`, uint8 (N, C, H, W) of any N, H and W, and gives `probabilities`, float32 "
            "(N, classes); resizing, cropping and normalisation are part of it."
        )
    return [" ".join(lines), ""]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_row(head), "|" + "---|" * len(head), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", r"\|").split()) for cell in cells) + " |"


def _plain(text: str) -> str:
    """Escape Markdown and HTML in names that users chose."""
    return "".join(f"\\{sign}" if sign in "\\`*_<>[]#" else sign for sign in " ".join(text.split()))
