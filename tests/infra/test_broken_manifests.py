"""Manifests broken on purpose, one mistake each: the check that is there for it must find it."""

import core_schema
import kuberay_schema
import manifest_rules
import pytest
from rendering import KUBERNETES, overlay, ray_job, render

MISSED_BY_SCHEMAS = {
    "a submission mode that there is not": ("spec.submissionMode", "Bogus", "submissionMode 'Bogus'"),
    "fewer than no tries": ("spec.backoffLimit", -1, "backoffLimit -1"),
    "a pull policy that there is not": (
        "spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.imagePullPolicy",
        "Sometimes",
        "imagePullPolicy 'Sometimes'",
    ),
    "a mount of no volume": (
        "spec.rayClusterSpec.headGroupSpec.template.spec.containers.0.volumeMounts.0.name",
        "scratsh",
        "mounts 'scratsh'",
    ),
    "at least more than at most": ("spec.rayClusterSpec.workerGroupSpecs.0.minReplicas", 9, "minReplicas 9"),
    "a time to live of what stays": ("spec.ttlSecondsAfterFinished", 600, "ttlSecondsAfterFinished has no effect"),
    "two ways of deletion": ("spec.shutdownAfterJobFinishes", True, "exclude each other"),
    "workers that outlive their cluster": (
        "spec.deletionStrategy.deletionRules.0.condition.ttlSeconds",
        700,
        "deleted after their cluster (SUCCEEDED)",
    ),
    "an autoscaler beside a rule for workers": (
        "spec.rayClusterSpec.enableInTreeAutoscaling",
        True,
        "DeleteWorkers is refused",
    ),
}
"""Neither KubeRay's schema nor Kubernetes' finds these; most would show on a running cluster only."""

MORE_RULES = {
    "a cluster that stays": ("spec.deletionStrategy", {}, "the cluster is never deleted"),
    "a cluster that stays after a failure": (
        "spec.deletionStrategy.deletionRules.3.condition.jobStatus",
        "SUCCEEDED",
        "the cluster stays after FAILED",
    ),
    "a pod that stops at once": (
        "spec.rayClusterSpec.workerGroupSpecs.1.template.spec.containers.0.lifecycle",
        {},
        "trainers: its Ray container does not drain",
    ),
    "a pod without time to drain": (
        "spec.rayClusterSpec.headGroupSpec.template.spec.terminationGracePeriodSeconds",
        50,
        "head: preStop may take 50 s",
    ),
    "no time to run": ("spec.activeDeadlineSeconds", 0, "activeDeadlineSeconds 0"),
    "a request above its limit": (
        "spec.rayClusterSpec.headGroupSpec.template.spec.containers.0.resources.requests.memory",
        "17Gi",
        "requests more memory",
    ),
    "part of a GPU": (
        "spec.rayClusterSpec.workerGroupSpecs.1.template.spec.containers.0.resources.requests",
        {"nvidia.com/gpu": "0"},
        "request and limit of nvidia.com/gpu differ",
    ),
    "a variable that is no name": (
        "spec.rayClusterSpec.headGroupSpec.template.spec.containers.0.env.0.name",
        "MY HOME",
        "'MY HOME' is no name",
    ),
    "an object store larger than its memory": (
        "spec.rayClusterSpec.workerGroupSpecs.1.rayStartParams.object-store-memory",
        "20000000000",
        "more than /dev/shm holds",
    ),
    "shared memory on disk": (
        "spec.rayClusterSpec.workerGroupSpecs.1.template.spec.volumes.1.emptyDir.medium",
        "",
        "/dev/shm is no memory",
    ),
    "shared memory without room for anything else": (
        "spec.rayClusterSpec.workerGroupSpecs.1.template.spec.volumes.1.emptyDir.sizeLimit",
        "30Gi",
        "more than half of the memory",
    ),
    "settings that nobody made": (
        "spec.rayClusterSpec.headGroupSpec.template.spec.volumes.3.configMap.name",
        "dpt-run",
        "names the ConfigMap 'dpt-run'",
    ),
    "an account that nobody made": (
        "spec.submitterPodTemplate.spec.serviceAccountName",
        "dpt-worker",
        "names the ServiceAccount 'dpt-worker'",
    ),
    "a name that is too long": ("metadata.name", "d" * 48, "at most 47"),
    "two groups of one name": ("spec.rayClusterSpec.workerGroupSpecs.0.groupName", "trainers", "share a name"),
    "pods that come back by themselves": (
        "spec.rayClusterSpec.workerGroupSpecs.0.template.spec.restartPolicy",
        "Always",
        "restartPolicy must be Never",
    ),
    "an autoscaler that is off": ("spec.rayClusterSpec.enableInTreeAutoscaling", False, "autoscalerOptions has no"),
}

REFUSED_BY_KUBERAY = {
    "an unknown field": ("spec.shutdownAfterJobFinish", True),
    "an unknown field of the cluster": ("spec.rayClusterSpec.enableAutoscaling", True),
    "an unknown field of a pod": ("spec.rayClusterSpec.headGroupSpec.template.spec.serviceAcountName", "dpt-head"),
    "text for a number": ("spec.backoffLimit", "3"),
    "a number for text": ("spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus", 0),
    "text for a boolean": ("spec.shutdownAfterJobFinishes", "yes"),
    "no quantity": ("spec.rayClusterSpec.headGroupSpec.template.spec.containers.0.resources.limits.memory", "2 GB"),
    "a mode of authentication that there is not": ("spec.rayClusterSpec.authOptions.mode", "tokens"),
    "an autoscaler that there is not": ("spec.rayClusterSpec.autoscalerOptions.version", "v3"),
    "a number that is too large": ("spec.ttlSecondsAfterFinished", 2**31),
}

REFUSED_BY_KUBERNETES = {
    "an unknown field of a pod": ("spec.rayClusterSpec.headGroupSpec.template.spec.serviceAcountName", "dpt-head"),
    "an unknown field of a container": (
        "spec.rayClusterSpec.workerGroupSpecs.1.template.spec.containers.0.volumesMounts",
        [],
    ),
    "an unknown field of a security context": (
        "spec.submitterPodTemplate.spec.containers.0.securityContext.allowPrivilegeEscalations",
        False,
    ),
    "containers as a mapping": ("spec.submitterPodTemplate.spec.containers", {"name": "submitter"}),
    "text for a boolean": ("spec.rayClusterSpec.headGroupSpec.template.spec.automountServiceAccountToken", "no"),
}

BROKEN_OBJECTS = {
    "NetworkPolicy": ("spec.policyTypes", "Ingress"),
    "PodDisruptionBudget": ("spec.minAvailables", 1),
    "ServiceAccount": ("automountToken", False),
    "ConfigMap": ("data", ["run.yaml"]),
}


_AUTOSCALING = "spec.rayClusterSpec.enableInTreeAutoscaling"


def _break(document: dict, path: str, value: object) -> None:
    *parents, last = path.split(".")
    node = document
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[int(last) if isinstance(node, list) else last] = value


def _broken(path: str, value: object) -> list[dict]:
    needs_autoscaler = "autoscaler" in path or path.endswith("restartPolicy") or (path, value) == (_AUTOSCALING, False)
    documents = overlay("tune" if needs_autoscaler else "gpu")
    _break(ray_job(documents), path, value)
    return documents


@pytest.mark.parametrize("what", [*MISSED_BY_SCHEMAS, *MORE_RULES])
def test_rules_find_what_schemas_miss(what):
    path, value, told = (MISSED_BY_SCHEMAS | MORE_RULES)[what]
    documents = _broken(path, value)
    found = manifest_rules.mistakes(documents)
    assert any(told in mistake for mistake in found), found


@pytest.mark.parametrize("what", MISSED_BY_SCHEMAS)
def test_schemas_do_miss_it(what):
    """Should a schema learn to find one of these, the rule may go."""
    path, value, _ = MISSED_BY_SCHEMAS[what]
    job = ray_job(_broken(path, value))
    assert core_schema.mistakes(job) == []
    assert kuberay_schema.mistakes(job) == []


@pytest.mark.parametrize("what", REFUSED_BY_KUBERAY)
def test_kuberay_schema_refuses_it(what):
    path, value = REFUSED_BY_KUBERAY[what]
    found = kuberay_schema.mistakes(ray_job(_broken(path, value)))
    assert len(found) == 1, found


@pytest.mark.parametrize("what", REFUSED_BY_KUBERNETES)
def test_kubernetes_schemas_refuse_it(what):
    """Needs no definitions of KubeRay's."""
    path, value = REFUSED_BY_KUBERNETES[what]
    assert len(core_schema.mistakes(ray_job(_broken(path, value)))) == 1


@pytest.mark.parametrize("kind", BROKEN_OBJECTS)
def test_kubernetes_schemas_refuse_other_broken_objects(kind):
    document = next(document for document in overlay("gpu") if document["kind"] == kind)
    assert core_schema.mistakes(document) == []
    _break(document, *BROKEN_OBJECTS[kind])
    assert len(core_schema.mistakes(document)) == 1


def test_a_field_that_kuberay_requires_is_missed_when_it_is_gone():
    job = ray_job(overlay("gpu"))
    del job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["groupName"]
    assert any("groupName" in mistake for mistake in kuberay_schema.mistakes(job))


def test_kueue_gets_a_job_that_waits_and_keeps_its_size(tmp_path):
    (tmp_path / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [gpu]\ncomponents: [kueue]\n"
    )
    for name, target in (("gpu", "overlays/gpu"), ("kueue", "components/kueue"), ("base", "base")):
        (tmp_path / name).symlink_to(KUBERNETES / target)
    documents = render(tmp_path)
    job = ray_job(documents)
    assert manifest_rules.mistakes(documents) == []
    assert core_schema.mistakes(job) == []
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "dpt"
    assert job["spec"]["suspend"] is True
    assert job["spec"]["shutdownAfterJobFinishes"] is True  # otherwise KubeRay refuses to suspend it
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is False
    assert [group["replicas"] for group in cluster["workerGroupSpecs"]] == [2, 4]
    assert kuberay_schema.mistakes(job) == []


def test_an_unknown_field_in_a_kustomization_is_refused(tmp_path):
    (tmp_path / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresource: [base]\n"
    )
    with pytest.raises(AssertionError, match="unknown field"):
        render(tmp_path)
