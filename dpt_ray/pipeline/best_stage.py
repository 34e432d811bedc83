"""Which of a run's classifiers predicts, where the user names none."""

from dpt_ray.data.storage import stores
from dpt_ray.pipeline.artifacts.evaluation import EvaluationFacts
from dpt_ray.pipeline.artifacts.run import RUN_FILE
from dpt_ray.pipeline.network_origin import CLASSIFIER_IDS, find_origin


def best_stage(model: str) -> tuple[int, str]:
    """Return the stage of the classifier to use, and the reason as a part of a sentence.

    It is stage 3, unless McNemar's test on the run's held-out images says that stage 1 is more accurate.

    Args:
        model: URL of a run. Anything that is no run has one classifier; the stage means nothing there.

    Raises:
        UserError: artifacts of the run are gone, or this version does not read them.
    """
    url = stores.absolute_url(model).rstrip("/")
    if not stores.exists(stores.join(url, RUN_FILE)):
        return 3, ""
    evaluation = find_origin(url, CLASSIFIER_IDS[3], "classifier").evaluation
    change = EvaluationFacts.read(evaluation).stage3_change if evaluation is not None else None
    if change is None or change.gain >= 0 or not change.is_distinguishable:
        return 3, ""
    lost = -100 * change.gain
    return 1, f" by stage 1, which is {lost:.1f} points more accurate than stage 3 on the run's held-out images"
