"""A local Ray is closed to other machines; what readers get of a cluster."""

import ipaddress
from pathlib import Path

import pytest
import ray

from dpt_ray.distributed import resources
from dpt_ray.distributed.node_capacity import MOST_READERS, Node
from dpt_ray.distributed.resources import Resources, stream_readers

LISTENING = "0A"


def _sockets_of(process: Path) -> set[str]:
    try:
        links = [str(link.readlink()) for link in (process / "fd").iterdir()]
    except OSError:  # the process has ended
        return set()
    return {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}


def _address(hexadecimal: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read an address of /proc/net/tcp: 32-bit words in the machine's (little-endian) byte order."""
    raw = bytes.fromhex(hexadecimal)
    words = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    address = ipaddress.ip_address(words)
    return getattr(address, "ipv4_mapped", None) or address


def _listening(session: str) -> dict[str, str]:
    """Return address -> command line of everything that listens in the Ray session."""
    found = {}
    tables = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text().replace("\0", " ")
            belongs = session in command or session in (process / "environ").read_text(errors="replace")
        except OSError:
            continue
        if belongs:
            sockets = _sockets_of(process)
            found |= {row[1]: command for row in tables if row[3] == LISTENING and row[9] in sockets}
    return found


@pytest.mark.usefixtures("local_ray")
def test_everything_that_a_local_ray_starts_listens_on_the_loopback_address():
    assert ray.nodes()[0]["NodeManagerAddress"] == "127.0.0.1"
    session = ray.get_runtime_context().get_session_name()
    listening = _listening(session)
    assert any("gcs_server" in command for command in listening.values())
    open_to_others = {a: c for a, c in listening.items() if not _address(a.partition(":")[0]).is_loopback}
    assert not open_to_others


def test_readers_share_what_a_training_leaves(monkeypatch):
    nodes = [Node("a", 16.0, 2.0)]
    monkeypatch.setattr(resources, "cluster_nodes", lambda: nodes)
    assert stream_readers() == (16, 1.0)
    assert stream_readers(streams=3) == (5, 1.0)
    assert stream_readers(streams=2, training=Resources(2, 4.0, 1.0)) == (4, 1.0)
    assert stream_readers(streams=2, training=Resources(1, 15.5, 0.0)) == (1, 0.5)
    nodes.append(Node("b", 984.0))
    assert stream_readers() == (MOST_READERS, 1.0)
