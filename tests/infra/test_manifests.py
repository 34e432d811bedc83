"""Every overlay as it is sent to a cluster: valid, closed, and with what its run needs."""

import re
from pathlib import Path

import core_schema
import kuberay_schema
import manifest_rules
import pytest
import yaml
from core_schema import pods
from network import METADATA_SERVICES, PORTS_TRIED, may_reach
from quantities import quantity
from rendering import KUBERNETES, OVERLAYS, REPOSITORY, overlay, ray_job, render

from dpt_ray import __version__
from dpt_ray.config.load import load_config

pytestmark = pytest.mark.parametrize("name", OVERLAYS)

IMAGE_FOLDER = "/app"
"""Where the image has what the repository has at its root."""

TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"


def _containers(job):
    """Yield place, container and pod of every container, KubeRay's autoscaler too."""
    for place, template in pods(job):
        for container in template["spec"]["containers"]:
            yield place, container, template["spec"]
    options = job["spec"]["rayClusterSpec"].get("autoscalerOptions")
    if options:
        yield "autoscaler", options, job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]


@pytest.mark.parametrize("version", [core_schema.OLDEST, core_schema.NEWEST])
def test_kubernetes_schemas_accept_everything(name, version):
    documents = [*overlay(name), *render(KUBERNETES / "cluster")]
    assert [mistake for document in documents for mistake in core_schema.mistakes(document, version)] == []


def test_kuberay_schema_accepts_the_job(name):
    assert kuberay_schema.mistakes(ray_job(overlay(name))) == []


def test_nothing_is_wrong_that_schemas_miss(name):
    documents = overlay(name)
    assert manifest_rules.mistakes(documents) == []


def test_names_and_namespaces_are_one(name):
    documents = overlay(name)
    assert {document["metadata"]["namespace"] for document in documents} == {"dpt"}
    cluster = render(KUBERNETES / "cluster")
    assert [each["metadata"]["name"] for each in cluster if each["kind"] == "Namespace"] == ["dpt"]
    priorities = {each["metadata"]["name"] for each in cluster if each["kind"] == "PriorityClass"}
    assert {template["spec"]["priorityClassName"] for _, template in pods(ray_job(documents))} <= priorities


def test_pods_meet_the_restricted_standard_and_write_nowhere_else(name):
    job = ray_job(overlay(name))
    for place, container, pod in _containers(job):
        assert pod["securityContext"]["runAsNonRoot"] is True, place
        assert pod["securityContext"]["runAsUser"] == 1000, place
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, place
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, place
        assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]], place
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), place
        assert all("hostPath" not in volume for volume in pod["volumes"]), place
        resources = container["resources"]
        assert resources["requests"].keys() <= resources["limits"].keys(), place


def test_only_the_autoscaler_gets_a_token_of_kubernetes(name):
    documents = overlay(name)
    job = ray_job(documents)
    for place, template in pods(job):
        assert template["spec"]["automountServiceAccountToken"] is False, place
    for account in (document for document in documents if document["kind"] == "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    mounted = {
        place
        for place, container, pod in _containers(job)
        for mount in container["volumeMounts"]
        for volume in pod["volumes"]
        if mount["name"] == volume["name"] and "projected" in volume
    }
    if "autoscalerOptions" not in job["spec"]["rayClusterSpec"]:
        assert mounted == set()
        return
    assert mounted == {"autoscaler"}
    (mount,) = [mount for mount in job["spec"]["rayClusterSpec"]["autoscalerOptions"]["volumeMounts"]
                if mount["mountPath"] == TOKEN_FOLDER]  # fmt: skip
    assert mount["readOnly"]


def test_ray_asks_for_its_token_and_its_version_is_the_tested_one(name):
    cluster = ray_job(overlay(name))["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    pinned = re.search(r"^ray==(.+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    assert cluster["rayVersion"] == pinned[1]


def test_secrets_are_named_and_never_written(name):
    documents = overlay(name)
    assert not any(document["kind"] == "Secret" for document in documents)
    for place, container, pod in _containers(ray_job(documents)):
        # Keys are a file, which child processes and dumps of an environment don't show.
        assert not any("secretRef" in source for source in container.get("envFrom", [])), place
        assert not any("secretKeyRef" in variable.get("valueFrom", {}) for variable in container.get("env", [])), place
        if place in ("submitter", "autoscaler"):
            assert all(mount["name"] != "keys" for mount in container["volumeMounts"]), place
            continue
        (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "keys"]
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "keys"]
        assert mount["readOnly"]
        assert volume["secret"] == {"secretName": "dpt-s3", "optional": True, "defaultMode": 0o400}
        assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsUser"]  # else it could not read them
        (file,) = [each["value"] for each in container["env"] if each["name"] == "AWS_SHARED_CREDENTIALS_FILE"]
        assert file == f"{mount['mountPath']}/credentials"
    text = yaml.safe_dump_all(documents)
    assert not re.search(r"(?i)(secret_access_key|password|AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY)", text)
    submitter = ray_job(documents)["spec"]["submitterPodTemplate"]["spec"]["containers"][0]
    assert "envFrom" not in submitter  # it hands over a command and needs no access to data


def test_images_have_exact_versions(name):
    for place, container, _ in _containers(ray_job(overlay(name))):
        if place != "autoscaler":  # KubeRay gives it the head's
            kind = "gpu" if name in ("gpu", "spot") else "cpu"
            assert container["image"] == f"registry.example.com/dpt-ray:{__version__}-{kind}", place


def test_time_and_tries_are_bounded_and_the_cluster_goes(name):
    spec = ray_job(overlay(name))["spec"]
    rules = spec["deletionStrategy"]["deletionRules"]
    assert all(0 < rule["condition"]["ttlSeconds"] <= 3600 for rule in rules)
    assert 0 < spec["preRunningDeadlineSeconds"] < spec["activeDeadlineSeconds"]
    assert spec["backoffLimit"] >= 1


def test_the_run_is_a_configuration_that_the_project_accepts(name, tmp_path):
    documents = overlay(name)
    job = ray_job(documents)
    python, program, *words = job["spec"]["entrypoint"].split()
    assert python == "python"
    script = REPOSITORY / Path(program).relative_to(IMAGE_FOLDER)
    assert script.exists()
    given = words[words.index("--config") + 1]
    if given.startswith(IMAGE_FOLDER):
        from dpt_ray.config.search_settings import load_tune

        load_tune(str(REPOSITORY / Path(given).relative_to(IMAGE_FOLDER)))
        assert any(word.startswith("root=s3://") for word in words)
        return
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (folder,) = [mount for mount in head["containers"][0]["volumeMounts"] if given.startswith(mount["mountPath"] + "/")]
    (volume,) = [volume for volume in head["volumes"] if volume["name"] == folder["name"]]
    (made,) = [each for each in documents
               if each["kind"] == "ConfigMap" and each["metadata"]["name"] == volume["configMap"]["name"]]  # fmt: skip
    file = tmp_path / Path(given).name
    file.write_text(made["data"][file.name])
    config = load_config(str(file))
    assert config.root.startswith("s3://")  # a job that is made anew finds what the last one left
    groups = {group["groupName"]: group for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]}
    if config.cluster.gpus_per_worker:
        # A job asks at its start for the GPUs it needs, so they must be there before it is submitted.
        limits = groups["trainers"]["template"]["spec"]["containers"][0]["resources"]["limits"]
        there = groups["trainers"]["minReplicas"] * int(limits["nvidia.com/gpu"])
        assert there >= config.cluster.workers * config.cluster.gpus_per_worker
    # A training has stored its checkpoint before the pod's time to drain is over.
    for place, template in pods(job):
        if place != "submitter":
            seconds = float(template["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1])
            assert config.cluster.preemption_seconds < seconds, place
    # What is kept decoded must fit into the object stores of the nodes that are always there.
    stores = sum(
        int(group["rayStartParams"]["object-store-memory"]) * group["minReplicas"] for group in groups.values()
    )
    assert config.cluster.keep_mib * 2**20 <= stores


def _selects(selector: dict, labels: dict) -> bool:
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def test_the_network_is_closed_but_for_what_ray_needs(name):
    documents = overlay(name)
    policies = [document["spec"] for document in documents if document["kind"] == "NetworkPolicy"]
    places = dict(pods(ray_job(documents)))
    instances = {labels["metadata"]["labels"]["app.kubernetes.io/instance"] for labels in places.values()}
    assert len(instances) == 1
    for place, template in places.items():
        labels = template["metadata"]["labels"]
        held = [policy for policy in policies if _selects(policy["podSelector"], labels)]
        assert any(policy["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in policy and "egress" not in policy
                   for policy in held), place  # fmt: skip
        assert all("app.kubernetes.io/instance" in policy["podSelector"]["matchLabels"] for policy in held), place
        # Who reaches this pod from outside its own Ray cluster, at which ports.
        outside = set()
        for policy in held:
            for rule in policy.get("ingress", []):
                inside = all("podSelector" in peer and _selects(peer["podSelector"], labels) for peer in rule["from"])
                if inside and labels.get("dpt-ray/node") == "true":
                    continue
                assert rule["ports"], place
                outside |= {port["port"] for port in rule["ports"]}
        expected = {"head": {8265, 8080, 44217, 44227}, "submitter": set()}.get(place, {8080, 44217, 44227})
        assert outside == expected, place
        # Nothing leaves without a port being named, but to the same cluster; never to a cloud's metadata service.
        for policy in held:
            for rule in policy.get("egress", []):
                if "ports" not in rule:
                    assert all(_selects(peer["podSelector"], labels) for peer in rule["to"]), place
        reached = [address for address in METADATA_SERVICES for port in PORTS_TRIED if may_reach(held, address, port)]
        assert reached == [], place


def test_the_disruption_budget_holds_the_head_alone(name):
    documents = overlay(name)
    (budget,) = [document["spec"] for document in documents if document["kind"] == "PodDisruptionBudget"]
    # A RayCluster has no scale to take a share of; with a percentage no pod could ever be moved.
    assert budget == {"minAvailable": 1, "selector": budget["selector"]}
    held = {place for place, template in pods(ray_job(documents))
            if _selects(budget["selector"], template["metadata"]["labels"])}  # fmt: skip
    assert held == {"head"}


def test_the_head_does_no_work_but_the_driver(name):
    head = ray_job(overlay(name))["spec"]["rayClusterSpec"]["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    limits = head["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert "nvidia.com/gpu" not in limits
    assert quantity(limits["memory"]) >= quantity("4Gi")
