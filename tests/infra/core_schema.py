"""Kubernetes' own kinds, and the pods inside a RayJob, against Kubernetes' schemas with unknown fields refused."""

from collections.abc import Iterator

import kubernetes_validate

OLDEST, NEWEST = "1.32", kubernetes_validate.latest_version()
"""Versions of Kubernetes that manifests are for; the schemas come with the package, so nothing is fetched."""


def pods(job: dict) -> Iterator[tuple[str, dict]]:
    """Yield the place and the template of each kind of pod that a RayJob has."""
    yield "submitter", job["spec"]["submitterPodTemplate"]
    cluster = job["spec"]["rayClusterSpec"]
    yield "head", cluster["headGroupSpec"]["template"]
    for group in cluster["workerGroupSpecs"]:
        yield group["groupName"], group["template"]


def mistakes(document: dict, version: str = OLDEST) -> list[str]:
    """Return what the schema finds wrong with an object; for a RayJob, with its pods."""
    if document["kind"] != "RayJob":
        return _validate(document, f"{document['kind']}/{document['metadata']['name']}", version)
    found = []
    for place, template in pods(document):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": place, **template["metadata"]}}
        found += _validate(pod | {"spec": template["spec"]}, place, version)
    return found


def _validate(document: dict, place: str, version: str) -> list[str]:
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{place}: {'.'.join(map(str, error.path))}: {error.message[:300]}"]
    return []
