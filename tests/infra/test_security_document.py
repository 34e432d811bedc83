"""The tests that docs/security.md names exist."""

import re

from rendering import REPOSITORY


def test_every_test_that_the_document_names_is_there():
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (REPOSITORY / "docs/security.md").read_text())
    assert len(named) > 20
    for file, function in named:
        text = (REPOSITORY / "tests" / file).read_text()
        assert re.search(rf"^def {function}\(", text, re.MULTILINE), f"{file}::{function}"
