"""The container's health check: exit status 0 if its Ray node is healthy, or if it runs a job without a Ray node.

The agent of a Ray node answers without a token. Kubernetes ignores the health check of an image; there KubeRay queries
the same address.
"""

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

AGENT_PORT = 52365
ANSWER_SECONDS = 5.0


def node_is_well(url: str) -> bool:
    """Return whether the agent answers with status 200 within `ANSWER_SECONDS`."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def runs_ray_node(command_line: Path = Path("/proc/1/cmdline")) -> bool:
    """Return whether the container's first process starts a Ray node by `ray start`, directly or in a shell."""
    words = command_line.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return "ray start" in words


if __name__ == "__main__":
    port = os.environ.get("RAY_AGENT_PORT", str(AGENT_PORT))
    sys.exit(0 if not runs_ray_node() or node_is_well(f"http://127.0.0.1:{port}/api/healthz") else 1)
