"""Print the entries of a lock file, with their hashes, for pip's --require-hashes.

    locked_requirements.py requirements.lock report.json    packages that `pip install --dry-run --report` resolved
    locked_requirements.py requirements.lock torch          one package

The lock file holds every package that any part of the project may need. pip resolves the packages of an installation;
then each file is compared with its hash.
"""

import json
import re
import sys
from pathlib import Path


def entries(lock: str) -> dict[str, str]:
    """Return the entries of a lock file with their hashes, by normalised name."""
    found = {}
    for entry in re.split(r"\n(?=\S)", lock):
        match = re.match(r"([A-Za-z0-9][\w.-]*)==", entry)
        if match:
            found[normalised(match[1])] = entry.strip()
    return found


def normalised(name: str) -> str:
    """Return the normalised name of a package (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(report: dict) -> dict[str, str]:
    """Return the version of each package in pip's report, by normalised name."""
    parts = [entry["metadata"] for entry in report["install"]]
    return {normalised(part["name"]): part["version"] for part in parts}


def select(lock: str, names: dict[str, str | None]) -> list[str]:
    """Return the entries of packages.

    Args:
        lock: text of a lock file.
        names: the version of each package; None for the locked version.

    Raises:
        SystemExit: a package is not locked, or in another version.
    """
    there, chosen = entries(lock), []
    for name, version in sorted(names.items()):
        entry = there.get(normalised(name))
        if entry is None or "--hash=" not in entry:
            raise SystemExit(f"error: {name} is not in the lock file; run make lock")
        locked = re.split(r"[\s;\\]", entry.partition("==")[2])[0]
        if version not in (None, locked):
            raise SystemExit(f"error: {name} {version} would be installed, but {locked} is locked; run make lock")
        chosen.append(entry)
    return chosen


if __name__ == "__main__":
    lock_file, what = Path(sys.argv[1]), sys.argv[2]
    packages = wanted(json.loads(Path(what).read_text())) if what.endswith(".json") else {what: None}
    print("\n".join(select(lock_file.read_text(), packages)))
