"""Packages: every one locked with hashes, the licences known, and tools that refuse what they must."""

import importlib.util
import json
import re
import subprocess
import sys
from importlib import metadata
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rendering import REPOSITORY

FOLDER = REPOSITORY / "infra" / "packages"
LOCKS = ("requirements.lock", "infra/local/object_store/requirements.lock", "infra/packages/tools.lock")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")
DIGEST = "docker.io/library/python@sha256:" + "0123456789abcdef" * 4


def _module(name: str):
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def locked():
    return _module("locked_requirements")


@pytest.fixture(scope="module")
def licences():
    return _module("licences")


def _pins(text: str) -> dict[str, str]:
    pairs = (line.split("==", 1) for line in text.splitlines() if re.match(r"[\w.-]+==", line))
    return {re.sub(r"[-_.]+", "-", name).lower(): re.split(r"[\s;\\]", version)[0] for name, version in pairs}


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_a_version_and_hashes_and_comes_by_its_name(locked, name):
    entries = locked.entries((REPOSITORY / name).read_text())
    assert len(entries) > 10
    for package, entry in entries.items():
        first, *others = [line.strip().rstrip("\\").strip() for line in entry.splitlines()]
        assert re.match(r"[\w.-]+==[^\s@]+( ; .+)?$", first), package
        assert others, package
        assert all(HASH.fullmatch(line) for line in others), package
    assert not re.search(r"https?://|file:|--(find-links|index|trusted)", (REPOSITORY / name).read_text())


def test_the_lock_file_has_the_versions_that_are_tested_together():
    tested = _pins((REPOSITORY / "constraints.txt").read_text())
    there = _pins((REPOSITORY / "requirements.lock").read_text())
    assert {name: version for name, version in there.items() if tested.get(name, version) != version} == {}
    for folder in ("infra/local/object_store/requirements", "infra/packages/tools"):
        wanted = _pins((REPOSITORY / f"{folder}.txt").read_text())
        assert wanted.items() <= _pins((REPOSITORY / f"{folder}.lock").read_text()).items()


def _needed(requirements: list[str]) -> set[str]:
    """Return the names of all packages that requirements need, by what the installed ones say."""
    left, seen, names = [Requirement(each) for each in requirements], set(), set()
    while left:
        requirement = left.pop()
        for extra in ("", *requirement.extras):
            key = (canonicalize_name(requirement.name), extra)
            if key in seen:
                continue
            seen.add(key)
            names.add(key[0])
            needed = map(Requirement, metadata.requires(requirement.name) or ())
            left += [each for each in needed if each.marker is None or each.marker.evaluate({"extra": extra})]
    return names


def test_all_that_the_project_needs_is_locked(locked):
    """Of all extras together, a step of the way at a time."""
    program = [sys.executable, "infra/docker/list_requirements.py", "pyproject.toml", "dev"]
    listed = subprocess.run(program, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()
    needed = _needed(listed)
    assert len(needed) > 100
    assert needed - locked.entries((REPOSITORY / "requirements.lock").read_text()).keys() == set()


def test_entries_are_chosen_by_pips_report_with_their_hashes(locked, tmp_path):
    entry, other = "a-b==1.0", "other==2.0 ; sys_platform == 'linux'"
    lock = f"{entry} \\\n    --hash=sha256:{'1' * 64}\n{other} \\\n    --hash=sha256:{'2' * 64}"
    report = {"install": [{"metadata": {"name": "A_b", "version": "1.0"}}]}
    assert locked.select(lock, locked.wanted(report)) == [lock.split("\nother")[0]]
    assert "sys_platform" in locked.select(lock, {"other": None})[0]
    with pytest.raises(SystemExit, match=r"a-b 1\.1 would be installed, but 1\.0 is locked"):
        locked.select(lock, {"a-b": "1.1"})
    with pytest.raises(SystemExit, match="strange is not in the lock file"):
        locked.select(lock, {"strange": "1.0"})
    with pytest.raises(SystemExit, match="a is not in the lock file"):
        locked.select("a==1.0\n", {"a": "1.0"})  # without a hash
    (tmp_path / "lock").write_text(lock)
    (tmp_path / "report.json").write_text(json.dumps(report))
    program = [sys.executable, str(FOLDER / "locked_requirements.py"), str(tmp_path / "lock")]
    result = subprocess.run([*program, str(tmp_path / "report.json")], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == lock.split("\nother")[0]


def test_a_file_with_another_hash_is_not_installed(locked, tmp_path):
    """By pip itself, as the image and `make install` call it, from a folder instead of an index."""
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    with ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    requirements = tmp_path / "locked.txt"
    requirements.write_text("\n".join(locked.select("tiny==1.0 \\\n    --hash=sha256:" + "0" * 64, {"tiny": "1.0"})))
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(tmp_path), "--no-deps"]
    command += ["--require-hashes", "--only-binary", ":all:", "--target", str(tmp_path / "target")]
    result = subprocess.run([*command, "--requirement", str(requirements)], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "DO NOT MATCH THE HASHES" in result.stderr
    assert not (tmp_path / "target" / "tiny.py").exists()


def test_the_project_itself_is_never_looked_up_in_an_index():
    """`dpt_ray[onnx]` among the requirements of `dev` stands for those of `onnx`."""
    program = [sys.executable, "infra/docker/list_requirements.py", "pyproject.toml", "dev"]
    listed = subprocess.run(program, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split("\n")
    assert not [line for line in listed if line.startswith("dpt")]
    assert {"onnx", "pytest", "optuna>=4"} <= set(listed)


def test_licences_are_known_and_allowed(licences):
    listed = licences.listed()
    assert len(listed) > 100
    others = {name: said for name, (_, said) in listed.items() if not licences.allowed(said)}
    assert others == licences.TOOLS


def test_the_page_of_licences_is_current(licences):
    assert (REPOSITORY / "docs/reference/licences.md").read_text() == licences.document()


@pytest.mark.parametrize(
    ("expression", "right"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("unknown", False),
        ("", False),
        ("Proprietary", False),
        ("Apache-2.0 OR GPL-2.0", True),
        ("Apache-2.0 AND GPL-2.0", False),
        ("MIT AND (GPL-3.0 OR BSD-3-Clause)", True),
        ("(MIT OR GPL-3.0) AND (GPL-2.0 OR AGPL-3.0)", False),
        ("Apache-2.0 WITH LLVM-exception", True),
    ],
)
def test_an_expression_is_allowed_if_its_licences_are(licences, expression, right):
    assert licences.allowed(expression) is right


def _make(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["make", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("base", ["", "docker.io/library/python:3.11", DIGEST[:-1], DIGEST + "0", "@sha256:x"])
def test_an_image_is_not_built_on_a_base_of_unknown_content(base):
    result = _make("image", f"PYTHON_IMAGE={base}", "DOCKER=false")
    assert result.returncode == 2
    assert "PYTHON_IMAGE must be name@sha256:" in result.stdout


def test_an_image_is_built_on_a_base_by_its_digest():
    result = _make("image", f"PYTHON_IMAGE={DIGEST}", "DOCKER=echo", "DEVICE=gpu")
    assert result.returncode == 0, result.stderr
    assert f"--build-arg PYTHON_IMAGE={DIGEST}" in result.stdout
    assert "--build-arg DEVICE=gpu --tag dpt-ray:gpu" in result.stdout


def test_bill_of_materials_and_audit_are_what_they_say():
    bill, audit = (_make("--dry-run", "--always-make", target).stdout for target in ("sbom", "audit"))
    assert "cyclonedx-py environment" in bill
    for lock in LOCKS:
        assert f"--requirement {lock}" in audit
    assert "--strict" in audit  # a package that cannot be looked up is an error
