"""Which of a run's classifiers predicts, where the user names none."""

from dpt_ray.data.storage import stores
from dpt_ray.pipeline.artifacts.evaluation import EvaluationFacts
from dpt_ray.pipeline.artifacts.run import RUN_FILE
from dpt_ray.pipeline.execution.result_warnings import LEAST_AGREEMENT
from dpt_ray.pipeline.network_origin import CLASSIFIER_IDS, find_origin


def best_stage(model: str) -> tuple[int, str]:
    """Return the stage of the classifier to use, and the reason as a part of a sentence.

    Where McNemar's test on the run's held-out images tells the stages apart, it is the more accurate one. Otherwise it
    is stage 3, unless stage 1 sees the wanted class in less than half of the pseudo images: few held-out images would
    not show the harm that these do.

    Args:
        model: URL of a run. Anything that is no run has one classifier; the stage means nothing there.

    Raises:
        UserError: artifacts of the run are gone, or this version does not read them.
    """
    url = stores.absolute_url(model).rstrip("/")
    if not stores.exists(stores.join(url, RUN_FILE)):
        return 3, ""
    evaluation = find_origin(url, CLASSIFIER_IDS[3], "classifier").evaluation
    if evaluation is None:
        return 3, ""
    facts = EvaluationFacts.read(evaluation)
    change = facts.stage3_change
    if change is not None and change.is_distinguishable:
        if change.gain >= 0:
            return 3, ""
        lost = -100 * change.gain
        return 1, f" by stage 1, which is {lost:.1f} points more accurate than stage 3 on the run's held-out images"
    if (seen := facts.pseudo_image_agreement) < LEAST_AGREEMENT:
        return 1, f" by stage 1, which sees the wanted class in only {seen:.0%} of the pseudo images of stage 3"
    return 3, ""
