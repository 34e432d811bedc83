"""The namespace's quota: every overlay fits, twice, and every container counts with an amount that is allowed."""

from collections import Counter
from decimal import Decimal

import pytest
from core_schema import pods
from quantities import quantity
from rendering import KUBERNETES, OVERLAYS, overlay, ray_job, render

KUBERAY_ADDS = {"name": "wait-gcs-ready", "resources": {"requests": {"cpu": "200m", "memory": "256Mi"},
                                                         "limits": {"cpu": "200m", "memory": "256Mi"}}}  # fmt: skip
"""The init container of each worker's pod, which ends before the others begin: a pod needs the larger amounts."""


def _object(kind: str) -> dict:
    (document,) = [document for document in render(KUBERNETES / "cluster") if document["kind"] == kind]
    return document


def _limits() -> dict:
    (container,) = [each for each in _object("LimitRange")["spec"]["limits"] if each["type"] == "Container"]
    return container


def _containers(job: dict, place: str, template: dict) -> list[dict]:
    options = job["spec"]["rayClusterSpec"].get("autoscalerOptions")
    extra = [{"name": "autoscaler", **options}] if place == "head" and options else []
    return [*template["spec"]["containers"], *extra]


def _amounts(container: dict) -> Counter:
    """What a container counts with, left-out amounts as the LimitRange fills them in."""
    defaults, found = _limits(), Counter()
    for kind, filled in (("limits", "default"), ("requests", "defaultRequest")):
        given = container.get("resources", {}).get(kind, {})
        for resource, amount in {**defaults[filled], **given}.items():
            found[f"{kind}.{resource}"] = quantity(amount)
    return found


def _pods_at_most(job: dict) -> dict[str, int]:
    cluster = job["spec"]["rayClusterSpec"]
    groups = {group["groupName"]: group["maxReplicas"] for group in cluster["workerGroupSpecs"]}
    return {"submitter": 1, "head": 1, **groups}


def _needed(job: dict) -> Counter:
    total: Counter = Counter()
    for place, template in pods(job):
        count = _pods_at_most(job)[place]
        for container in _containers(job, place, template):
            for resource, amount in _amounts(container).items():
                total[resource] += count * amount
        total["pods"] += count
    return total


def _fits(needed: Counter, times: int) -> list[str]:
    hard = {name: quantity(amount) for name, amount in _object("ResourceQuota")["spec"]["hard"].items()}
    assert {"limits.cpu", "limits.memory", "requests.cpu", "requests.memory", "pods"} <= hard.keys()
    return [name for name, amount in hard.items() if times * needed.get(name, Decimal(0)) > amount]


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_overlay_fits_beside_the_end_of_its_last_try(name):
    assert _fits(_needed(ray_job(overlay(name))), times=2) == []


def test_a_run_that_grew_by_mistake_does_not_fit():
    job = ray_job(overlay("gpu"))
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"] = 80
    assert "limits.cpu" in _fits(_needed(job), times=1)


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_container_is_larger_than_one_may_be(name):
    most = _limits()["max"]
    job = ray_job(overlay(name))
    for place, template in pods(job):
        for container in [*_containers(job, place, template), KUBERAY_ADDS]:
            amounts = _amounts(container)
            for resource, limit in most.items():
                assert amounts[f"limits.{resource}"] <= quantity(limit), (place, container["name"], resource)
                assert amounts[f"requests.{resource}"] <= amounts[f"limits.{resource}"], (place, resource)


def test_what_a_run_does_not_need_is_forbidden():
    hard = _object("ResourceQuota")["spec"]["hard"]
    for kind in ("services.loadbalancers", "services.nodeports", "persistentvolumeclaims"):
        assert hard[kind] == "0"
    for name in OVERLAYS:
        kinds = {document["kind"] for document in overlay(name)}
        assert not kinds & {"Service", "PersistentVolumeClaim", "Ingress"}
