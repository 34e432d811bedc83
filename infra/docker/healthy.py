"""The container's health check: exit status 0 if its Ray node is well, or if it runs no Ray node but a job.

A Ray node answers on its agent's port, also without a token. Kubernetes doesn't read an image's health check;
there KubeRay asks the same address.
"""

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

AGENT_PORT = 52365
ANSWER_SECONDS = 5.0


def node_is_well(url: str) -> bool:
    """Return whether the node's agent answers with success in time."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def runs_ray_node(command_line: Path = Path("/proc/1/cmdline")) -> bool:
    """Return whether the container's first process starts a Ray node (`ray start`, also inside a shell's command)."""
    words = command_line.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return "ray start" in words


if __name__ == "__main__":
    port = os.environ.get("RAY_AGENT_PORT", str(AGENT_PORT))
    sys.exit(0 if not runs_ray_node() or node_is_well(f"http://127.0.0.1:{port}/api/healthz") else 1)
