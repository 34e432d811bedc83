"""The words for a number of images are those that `dpt_ray/data/loading/__init__.py` defines, and no others."""

import re
from pathlib import Path

import pytest

from dpt_ray.data import loading

ROOT = Path(__file__).parents[2]
WORDS = ("shard", "lane", "shuffle window", "segment", "fetch", "read task", "block", "batch")
RETIRED = re.compile(r"(?<![a-z])(pieces?|hands?|deals?|dealt|rooms?|groups?|parts?|chunks?|runs? of)(?![a-z])", re.I)
FILES = [
    *sorted((ROOT / "dpt_ray/data/loading").glob("*.py")),
    *(ROOT / f"dpt_ray/distributed/{name}.py" for name in ("reading", "datasource", "scheduler_throttle")),
    *(ROOT / f"tests/unit/test_{name}.py" for name in ("buffer_pool", "order", "prefetch_plan", "scheduler_throttle")),
    *(ROOT / f"tests/distributed/test_{name}.py" for name in ("reading", "unreadable_shards")),
]


def retired_words(text: str) -> list[str]:
    return [found[0] for line in text.splitlines() for found in RETIRED.finditer(line.replace("_", " "))]


def test_each_word_is_defined_once():
    text = loading.__doc__
    assert [word for word in WORDS if len(re.findall(rf"^- {word}[:,]", text, re.M)) != 1] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_other_word_is_used(path):
    assert retired_words(path.read_text(encoding="utf-8")) == []


def test_a_retired_word_is_found():
    assert retired_words("a = pieces[0]\nthe_room = Rooms()  # dealt in parts") == [
        "pieces",
        "room",
        "Rooms",
        "dealt",
        "parts",
    ]
