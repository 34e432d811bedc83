"""Who a pod is to the cloud: keys as a file, a role by EKS Pod Identity or by GKE, and nothing of the machine's."""

import core_schema
import manifest_rules
import pytest
from botocore.session import Session
from network import METADATA_SERVICES, PORTS_TRIED, STORES, may_reach
from rendering import OVERLAYS, overlay, ray_job, render_with

ROLES = {
    "eks-pod-identity": {("169.254.170.23", 80), ("fd00:ec2::23", 80)},
    "gke-workload-identity": {("169.254.169.254", 80), ("169.254.169.252", 988)},
}


def _policies_of(documents: list[dict], component: str) -> list[dict]:
    job = ray_job(documents)
    templates = dict(core_schema.pods(job))
    labels = templates[component]["metadata"]["labels"]
    policies = [document["spec"] for document in documents if document["kind"] == "NetworkPolicy"]
    return [each for each in policies if each["podSelector"]["matchLabels"].items() <= labels.items()]


@pytest.mark.parametrize("name", OVERLAYS)
def test_object_stores_are_reached_at_one_port_and_by_ray_nodes_alone(name):
    documents = overlay(name)
    for place in dict(core_schema.pods(ray_job(documents))):
        policies = _policies_of(documents, place)
        reached = {port for address in STORES for port in PORTS_TRIED if may_reach(policies, address, port)}
        assert reached == {"submitter": set(), "head": {443, 6443}}.get(place, {443}), place
        if place != "submitter":
            assert all(may_reach(policies, address, 443) for address in STORES), place


@pytest.mark.parametrize("component", ROLES)
@pytest.mark.parametrize("name", ["gpu", "cpu-smoke"])
def test_a_role_opens_the_address_that_hands_it_out_and_no_other(tmp_path, component, name):
    documents = render_with(tmp_path, name, component)
    assert manifest_rules.mistakes(documents) == []
    assert [mistake for document in documents for mistake in core_schema.mistakes(document)] == []
    job = ray_job(documents)
    for place in dict(core_schema.pods(job)):
        policies = _policies_of(documents, place)
        reached = {
            (address, port)
            for address in METADATA_SERVICES
            for port in PORTS_TRIED
            if may_reach(policies, address, port)
        }
        assert reached == (set() if place == "submitter" else ROLES[component]), place
    (added,) = [each for each in documents if each["metadata"]["name"].startswith(("dpt-pod-identity", "dpt-workload"))]
    instance = job["spec"]["submitterPodTemplate"]["metadata"]["labels"]["app.kubernetes.io/instance"]
    assert added["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] == instance
    assert added["metadata"]["namespace"] == "dpt"


def test_the_client_reads_keys_from_the_file_and_does_without_it(tmp_path, monkeypatch):
    """The Secret is optional: its folder is then empty, and the client goes on to the role."""
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CONFIG_FILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    assert Session().get_credentials() is None
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = an-id\naws_secret_access_key = a-secret\n")
    found = Session().get_credentials()
    assert (found.access_key, found.secret_key) == ("an-id", "a-secret")
