"""Mistakes in a RayJob that no schema shows: they come to light on a cluster, some only after hours."""

import re
from collections.abc import Iterator

from core_schema import pods
from quantities import quantity

SUBMISSION_MODES = ("K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
LONGEST_NAME = 47
"""KubeRay appends to the name of the job what its cluster and services are called, which must stay below 63."""
DRAIN = "dpt_ray.distributed.drain_node"
RAY_CONTAINER = 0
"""KubeRay takes the first container for Ray's."""


def mistakes(documents: list[dict]) -> list[str]:
    """Return what is wrong with the RayJob among `documents`, one line each."""
    (job,) = [document for document in documents if document["kind"] == "RayJob"]
    found = [*_job(job), *_deletion(job["spec"]), *_groups(job["spec"]["rayClusterSpec"])]
    for place, template in pods(job):
        found += [f"{place}: {mistake}" for mistake in _pod(template["spec"], _sidecars(job, place))]
    for place, start, template in _ray_nodes(job):
        found += [f"{place}: {mistake}" for mistake in _object_store(start, template["spec"])]
        found += [f"{place}: {mistake}" for mistake in _stop(template["spec"])]
    return [*found, *_references(job, documents)]


def _job(job: dict) -> Iterator[str]:
    spec, name = job["spec"], job["metadata"]["name"]
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > LONGEST_NAME:
        yield f"name {name!r} must be a DNS label of at most {LONGEST_NAME} characters"
    if spec.get("submissionMode", "K8sJobMode") not in SUBMISSION_MODES:
        yield f"submissionMode {spec['submissionMode']!r} is none of {', '.join(SUBMISSION_MODES)}"
    if spec.get("backoffLimit", 0) < 0:
        yield f"backoffLimit {spec['backoffLimit']} is below 0"
    for field in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if spec.get(field, 1) <= 0:
            yield f"{field} {spec[field]} is not above 0"
    if spec.get("ttlSecondsAfterFinished", 0) < 0:
        yield "ttlSecondsAfterFinished is below 0"
    if not spec.get("shutdownAfterJobFinishes"):
        for field, why in (("ttlSecondsAfterFinished", "has no effect"), ("suspend", "is refused")):
            if spec.get(field):
                yield f"{field} {why} without shutdownAfterJobFinishes"


def _deletion(spec: dict) -> Iterator[str]:
    """What KubeRay refuses of the rules of deletion, and ends of a job after which its cluster would stay."""
    rules = spec.get("deletionStrategy", {}).get("deletionRules", [])
    if not rules and not spec.get("shutdownAfterJobFinishes"):
        yield "the cluster is never deleted"
    if rules and spec.get("shutdownAfterJobFinishes"):
        yield "deletionRules and shutdownAfterJobFinishes exclude each other"
    seconds = {(_end(rule["condition"]), rule["policy"]): rule["condition"].get("ttlSeconds", 0) for rule in rules}
    if len(seconds) < len(rules):
        yield "two deletionRules have one policy for the same end"
    if spec["rayClusterSpec"].get("enableInTreeAutoscaling") and any(
        policy == "DeleteWorkers" for _, policy in seconds
    ):
        yield "DeleteWorkers is refused with enableInTreeAutoscaling"
    for end in ("SUCCEEDED", "FAILED", "Failed") if rules else ():
        if (end, "DeleteCluster") not in seconds:
            yield f"the cluster stays after {end}"
        elif seconds.get((end, "DeleteWorkers"), 0) > seconds[end, "DeleteCluster"]:
            yield f"workers would be deleted after their cluster ({end})"


def _end(condition: dict) -> str:
    return condition.get("jobStatus") or condition["jobDeploymentStatus"]


def _stop(spec: dict) -> Iterator[str]:
    """A pod drains its node before it stops, and Kubernetes gives it the time for that."""
    command = spec["containers"][RAY_CONTAINER].get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
    if not command or command[:3] != ["python", "-m", DRAIN]:
        yield "its Ray container does not drain the node before it stops"
    elif float(command[3]) >= spec.get("terminationGracePeriodSeconds", 30):
        yield f"preStop may take {command[3]} s, terminationGracePeriodSeconds is not above"


def _groups(cluster: dict) -> Iterator[str]:
    scales = cluster.get("enableInTreeAutoscaling", False)
    if cluster.get("autoscalerOptions") and not scales:
        yield "autoscalerOptions has no effect without enableInTreeAutoscaling"
    names = [group["groupName"] for group in cluster["workerGroupSpecs"]]
    if len(set(names)) < len(names):
        yield f"worker groups share a name: {names}"
    for group in cluster["workerGroupSpecs"]:
        least, wanted, most = (group.get(field, 0) for field in ("minReplicas", "replicas", "maxReplicas"))
        if least < 0 or not least <= wanted <= most:
            yield f"{group['groupName']}: minReplicas {least} <= replicas {wanted} <= maxReplicas {most} does not hold"
        if scales and group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            yield f"{group['groupName']}: restartPolicy must be Never or absent with the second autoscaler"
        if "idleTimeoutSeconds" in group and cluster.get("autoscalerOptions", {}).get("version") != "v2" and scales:
            yield f"{group['groupName']}: idleTimeoutSeconds needs autoscalerOptions.version v2"


def _sidecars(job: dict, place: str) -> list[dict]:
    """Return containers that KubeRay adds: beside the head, the autoscaler as its options say."""
    options = job["spec"]["rayClusterSpec"].get("autoscalerOptions")
    return [{"name": "autoscaler", **options}] if place == "head" and options else []


def _pod(spec: dict, sidecars: list[dict]) -> Iterator[str]:
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    for container in [*spec.get("initContainers", []), *spec["containers"], *sidecars]:
        name = container["name"]
        policy = container.get("imagePullPolicy", "IfNotPresent")
        if policy not in PULL_POLICIES:
            yield f"{name}: imagePullPolicy {policy!r} is none of {', '.join(PULL_POLICIES)}"
        mounts = container.get("volumeMounts", [])
        for mount in mounts:
            if mount["name"] not in volumes:
                yield f"{name}: mounts {mount['name']!r}, which is no volume of the pod"
        paths = [mount["mountPath"] for mount in mounts]
        if len(set(paths)) < len(paths):
            yield f"{name}: mounts two volumes at one path"
        for variable in container.get("env", []):
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable["name"]):
                yield f"{name}: {variable['name']!r} is no name of a variable"
        yield from _resources(name, container.get("resources", {}))


def _resources(name: str, resources: dict) -> Iterator[str]:
    limits = resources.get("limits", {})
    for resource, wanted in resources.get("requests", {}).items():
        if resource in limits and quantity(wanted) > quantity(limits[resource]):
            yield f"{name}: requests more {resource} than its limit ({wanted} > {limits[resource]})"
    for resource in limits:
        # Kubernetes wants these whole and equal: devices are not shared.
        if "/" in resource and resources.get("requests", {}).get(resource, limits[resource]) != limits[resource]:
            yield f"{name}: request and limit of {resource} differ"


def _ray_nodes(job: dict) -> Iterator[tuple[str, dict, dict]]:
    cluster = job["spec"]["rayClusterSpec"]
    yield "head", cluster["headGroupSpec"].get("rayStartParams", {}), cluster["headGroupSpec"]["template"]
    for group in cluster["workerGroupSpecs"]:
        yield group["groupName"], group.get("rayStartParams", {}), group["template"]


def _object_store(start: dict, spec: dict) -> Iterator[str]:
    """Ray's object store lives in /dev/shm: it must fit there, and both must fit in the container's memory."""
    container = spec["containers"][RAY_CONTAINER]
    memory = quantity(container["resources"]["limits"]["memory"])
    (name,) = [mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == "/dev/shm"] or [None]
    shared = next((volume["emptyDir"] for volume in spec["volumes"] if volume["name"] == name), {})
    if shared.get("medium") != "Memory":
        yield "/dev/shm is no memory"
        return
    size, store = quantity(shared["sizeLimit"]), int(start["object-store-memory"])
    if store > size:
        yield f"object-store-memory {store} is more than /dev/shm holds ({shared['sizeLimit']})"
    if 2 * size > memory:
        yield f"/dev/shm ({shared['sizeLimit']}) takes more than half of the memory, which it counts against"


def _references(job: dict, documents: list[dict]) -> Iterator[str]:
    """Everything that pods name and that is not made by the cluster itself must be made here."""
    names = {(document["kind"], document["metadata"]["name"]) for document in documents}
    for place, template in pods(job):
        spec = template["spec"]
        wanted = [("ServiceAccount", spec.get("serviceAccountName", "default"))]
        wanted += [("ConfigMap", volume["configMap"]["name"]) for volume in spec["volumes"] if "configMap" in volume]
        for container in spec["containers"]:
            for source in container.get("envFrom", []):
                if "configMapRef" in source:
                    wanted.append(("ConfigMap", source["configMapRef"]["name"]))
        for kind, name in wanted:
            if (kind, name) not in names:
                yield f"{place}: names the {kind} {name!r}, which is not among the manifests"
