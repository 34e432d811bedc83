"""What network policies let a pod reach, address by address."""

import ipaddress

METADATA_SERVICES = {
    "169.254.169.254": "Amazon, Google, Azure, OpenStack, Oracle and others",
    "169.254.170.2": "Amazon ECS, roles of tasks",
    "169.254.170.23": "EKS Pod Identity",
    "169.254.169.252": "GKE Workload Identity",
    "168.63.129.16": "Azure",
    "100.100.100.200": "Alibaba",
    "fe80::a9fe:a9fe": "OpenStack",
    "fd00:ec2::254": "Amazon",
    "fd00:ec2::23": "EKS Pod Identity",
    "fd20:ce::254": "Google",
    "fd00:c1::a9fe:a9fe": "Oracle",
    "fd00:42::42": "Scaleway",
    "64:ff9b::a9fe:a9fe": "behind NAT64",
    "64:ff9b::a83f:8110": "Azure behind NAT64",
}
"""Where clouds hand out the machine's own credentials, whoever asks."""

STORES = ("52.216.1.1", "10.1.2.3", "192.168.7.7", "100.64.1.1", "2600:1fa0::1", "fd12:3456::1", "64:ff9b::34d8:101")
"""Addresses that an object store may have."""

PORTS_TRIED = (53, 80, 443, 988, 6443, 8080, 8265, 32526)


def may_reach(policies: list[dict], address: str, port: int) -> bool:
    """Return whether the specifications of policies, all of which select a pod, let it connect to an address by TCP."""
    return any(
        _names(rule, port) and any(_contains(peer["ipBlock"], address) for peer in rule["to"] if "ipBlock" in peer)
        for policy in policies
        for rule in policy.get("egress", [])
    )


def _names(rule: dict, port: int) -> bool:
    return "ports" not in rule or any(each["port"] == port for each in rule["ports"] if each["protocol"] == "TCP")


def _contains(block: dict, address: str) -> bool:
    place = ipaddress.ip_address(address)

    def within(network: str) -> bool:
        parsed = ipaddress.ip_network(network)  # refuses host bits, as Kubernetes does
        return parsed.version == place.version and place in parsed

    return within(block["cidr"]) and not any(within(network) for network in block.get("except", []))
