"""The choices that studies compare: name -> settings. Imports no torch, so that the command line lists them quickly."""

from dpt_ray.json_values import JsonObject

STAGE1, STAGE2 = "stage1", "stage2"
MEASURES = {STAGE1: "test accuracy", STAGE2: "Fréchet distance of pseudo images in stage 1's features"}
"""Stage -> its measure in the curves."""

_QUARTER, _OWN = "stage3.mixing.real_share=0.25", "stage3.mixing.separate_statistics=true"
_AGREEING = ("stage3.mixing.only_agreeing=true", "stage3.mixing.least_confidence=0.9")
_FROM_STAGE1 = "stage3.mixing.from_stage1=true"
_BALANCED, _TOLD = "pseudo_labels.assignment=balanced", "stage2.conditioning.confidence=true"
_CLUSTERS = "stage2.conditioning.clusters=4"
_ON_CLUSTERS = ("stage2.pretraining.images=112000", "stage2.pretraining.clusters=20")
QUARTER = "stage2.images=28000"
"""A quarter of the length of stage 2 on digits."""

MIXINGS: dict[str, tuple[str, ...]] = {
    "official": (),
    "quarter real": (_QUARTER,),
    "quarter real, own statistics": (_QUARTER, _OWN),
    "weight 0.3": ("stage3.mixing.pseudo_weight=0.3",),
    "agreeing": _AGREEING,
    "quarter real, agreeing": (_QUARTER, *_AGREEING),
    "also unlabelled": ("stage3.mixing.unlabelled=true",),
    "entropy 0.1": ("sampling.entropy_scale=0.1",),
    "entropy 1": ("sampling.entropy_scale=1",),
    "4 clusters a class": (_CLUSTERS,),
    "4 clusters a class, quarter real, own statistics": (_CLUSTERS, _QUARTER, _OWN),
    "three times as many pseudo images": ("sampling.per_class=300",),
    "real images with pseudo-labels": ("stage3.mixing.images=real",),
    "pretrained on 20 clusters": (*_ON_CLUSTERS, QUARTER),
    "from stage 1": (_FROM_STAGE1,),
    "from stage 1, quarter real, own statistics": (_FROM_STAGE1, _QUARTER, _OWN),
    "from stage 1, no pseudo images": (_FROM_STAGE1, _QUARTER, _OWN, "stage3.mixing.pseudo_weight=0"),
    "quarter real, own statistics, balanced": (_QUARTER, _OWN, _BALANCED),
    "balanced, told the confidence": (_BALANCED, _TOLD),
    "quarter real, own statistics, balanced, told the confidence": (_QUARTER, _OWN, _BALANCED, _TOLD),
}
"""Settings of the mixing in stage 3, and of the labels that the generator learns from."""

HEADS: dict[str, JsonObject] = {
    "logistic": {"head": "logistic"},
    "mixture": {"head": "mixture"},
    "propagation, equal shares": {"head": "propagation", "propagation": {"class_shares": "equal"}},
    "propagation": {"head": "propagation"},
}
"""Settings of `probe`; the last is compared with the first."""

ONE_OF_EACH = "random, of each class"
CHOICES = (ONE_OF_EACH, "any images", "farthest images", "typical images")
"""Who chooses labelled images: a draw that knows the classes, a draw that does not, k-center, TypiClust."""

FEATURES = ("pixels", "encoder")
"""Features of the digits."""

ALL_LABELS = ("labels.per_class=null", "labels.fraction=1.0", "stage1.algorithm.name=supervised")
"""Settings by which stage 1 learns from the true labels of all training images."""

_GUIDED_BY_CONFIDENCE = (
    "stage2.conditioning.confidence=true",
    "stage2.label_dropout=0",
    "sampling.guidance_method=confidence",
)

NO_LABELS, TRUE_LABELS = "no labels", "true labels"
VARIANTS: dict[str, tuple[str, ...]] = {
    NO_LABELS: ("labels.per_class=4", "stage2.label_dropout=1.0"),
    **{f"pseudo-labels, {count} a class": (f"labels.per_class={count}",) for count in (1, 2, 4, 10)},
    TRUE_LABELS: (*ALL_LABELS, "stage2.conditioning.true_labels=true"),
    **{
        f"{count} a class, {name}": (f"labels.per_class={count}", *(f"stage2.conditioning.{s}" for s in settings))
        for count in (1, 4)
        for name, settings in {
            "under 0.9 dropped": ("least_confidence=0.9",),
            "told the confidence": ("confidence=true",),
            "true labels kept": ("true_labels=true",),
            "labels drawn": ("labels=drawn",),
            "2 clusters a class": ("clusters=2",),
            "4 clusters a class": ("clusters=4",),
        }.items()
    },
    **{
        f"{count} a class, {name}": (f"labels.per_class={count}", *settings)
        for count in (1, 4)
        for name, settings in {
            "a quarter of the images": (QUARTER,),
            "pretrained, a quarter of the images": (QUARTER, "stage2.pretraining.images=112000"),
            "pretrained on 20 clusters, a quarter of the images": (QUARTER, *_ON_CLUSTERS),
        }.items()
    },
    **{
        f"{count} a class, {name}": (
            f"labels.per_class={count}",
            *_GUIDED_BY_CONFIDENCE,
            f"sampling.guidance_scale={scale}",
        )
        for count in (1, 4)
        for name, scale in {
            "told the confidence, unguided": 0,
            "guided by confidence": 0.4,
            "guided by confidence, scale 1": 1,
        }.items()
    },
}
"""Settings of the labels of stage 2."""
