"""How the guide brings keys into a cluster: its own commands, run with kubectl without a cluster."""

import base64
import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest
import yaml
from botocore.session import Session
from rendering import REPOSITORY

KUBECTL = """#!/bin/sh
printf '%s\\n' "$@" > "{record}/arguments"
ls -A "{folder}" > "{record}/files"
{after}
exec {kubectl} "$@" --dry-run=client --output yaml
"""


def _commands() -> str:
    """Return the guide's block of commands that makes the Secret."""
    blocks = re.findall(r"(?:^    .*\n)+", (REPOSITORY / "docs/guide/cluster/kubernetes.md").read_text(), re.MULTILINE)
    (block,) = [textwrap.dedent(block) for block in blocks if "create secret" in block]
    return block


@pytest.fixture
def run(tmp_path):
    """Return a function that runs the guide's commands in an empty folder; kubectl says what it was given."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("THE GUIDE'S KEYS NOT TRIED: kubectl is not installed")
    folder, record, programs = (tmp_path / name for name in ("folder", "record", "programs"))
    for each in (folder, record, programs):
        each.mkdir()

    def commands(after: str = "") -> tuple[subprocess.CompletedProcess, Path, Path]:
        program = programs / "kubectl"
        program.write_text(KUBECTL.format(record=record, folder=folder, after=after, kubectl=kubectl))
        program.chmod(0o755)
        result = subprocess.run(
            ["bash", "-c", _commands() + '\necho "left: $ID$SECRET"'],
            input="an-id\na/secret+with=signs\n",
            cwd=folder,
            env={"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        return result, folder, record

    return commands


def test_the_secret_has_what_the_client_reads(run, tmp_path, monkeypatch):
    result, _, record = run()
    text, _, left = result.stdout.partition("left: ")
    secret = yaml.safe_load(text[text.index("apiVersion") :])
    assert (secret["kind"], secret["metadata"]["name"], secret["metadata"]["namespace"]) == ("Secret", "dpt-s3", "dpt")
    assert list(secret["data"]) == ["credentials"]
    file = tmp_path / "credentials"
    file.write_bytes(base64.b64decode(secret["data"]["credentials"]))
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    found = Session().get_credentials()
    assert (found.access_key, found.secret_key) == ("an-id", "a/secret+with=signs")
    assert left.strip() == ""  # no variable of the shell keeps them
    assert "secret+" not in (record / "arguments").read_text()  # which every user of the machine can read


@pytest.mark.parametrize("after", ["", "exit 1", "kill -TERM $PPID", "kill -INT $PPID", "kill -KILL $PPID"])
def test_no_file_ever_holds_the_keys_however_it_ends(run, after):
    result, folder, record = run(after)
    assert (record / "files").read_text() == ""
    assert list(folder.iterdir()) == []
    assert "secret+" not in result.stderr


@pytest.mark.parametrize(
    "page",
    [
        "docs/guide/cluster/kubernetes.md",
        "docs/guide/cluster/manifests.md",
        "docs/guide/object-storage.md",
        "README.md",
    ],
)
def test_no_page_writes_keys_into_a_file(page):
    text = (REPOSITORY / page).read_text()
    assert not re.search(r"keys\.env|from-env-file|from-literal", text)
