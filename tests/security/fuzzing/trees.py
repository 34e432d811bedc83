"""Changes of trees of JSON: other types, huge numbers, lost and added keys, deep nesting."""

import json
from random import Random
from typing import Any

from fuzzing.raw import change_raw
from fuzzing.target import Corpus, Mutator

_WORDS = ("", "x", "-1", "1e999", "nan", "../../x", "/etc/passwd", "a\0b", "\ud800", "\u202e", "\x1b[2J", "a" * 10_000,
          "s3://", "file:///", "memory://a", "{}", "%s", "9" * 5000)  # fmt: skip
_NUMBERS = (0, -1, 1, 2, 0.5, -0.0, 1e308, float("nan"), float("inf"), float("-inf"), 2**31, 2**32, 2**63, 2**64,
            10**12, 10**30, 10**400, -(10**12))  # fmt: skip
_MARK = "\x07placeholder"
_TEXTS = ("[" * 100_000 + "]" * 100_000, '{"a":' * 50_000 + "1" + "}" * 50_000, "9" * 5000, "1e99999", "NaN",
          "-Infinity", '"\\ud800"', "[" * 100_000, '{"a":1,"a":2}')  # fmt: skip
"""Values that `json.dumps` does not write."""


def hostile(rng: Random) -> Any:
    """Return a value that no reader expects."""
    kind = rng.randrange(5)
    if kind == 0:
        return rng.choice(_NUMBERS)
    if kind == 1:
        return rng.choice(_WORDS)
    if kind == 2:
        return rng.choice((None, True, False, [], {}, [[]], [None], {"": None}))
    if kind == 3:
        return [rng.choice(_NUMBERS)] * rng.choice((1, 2, 5, 1000))
    return {rng.choice(_WORDS): rng.choice((*_NUMBERS, *_WORDS))}


def change_tree(tree: Any, rng: Random) -> Any:
    """Return a tree with a node changed; some of the changes are made in place."""
    if isinstance(tree, (dict, list)) and tree and rng.random() < 0.9:
        key = rng.choice(list(tree)) if isinstance(tree, dict) else rng.randrange(len(tree))
        kind = rng.randrange(12)
        if kind == 0:
            del tree[key]
        elif kind == 1 and isinstance(tree, dict):
            tree[rng.choice((*_WORDS, str(key).upper(), f"{key}s"))] = tree[key]
        elif kind == 1:
            tree.append(tree[key])
        elif kind == 2:
            other = rng.choice(list(tree)) if isinstance(tree, dict) else rng.randrange(len(tree))
            tree[key] = tree[other]
        else:
            tree[key] = change_tree(tree[key], rng)
        return tree
    if isinstance(tree, (int, float)) and not isinstance(tree, bool) and rng.random() < 0.6:
        return rng.choice((tree + 1, tree - 1, -tree, tree * 2, tree // 2, str(tree), [tree], *_NUMBERS))
    if isinstance(tree, str) and rng.random() < 0.4:
        return rng.choice((tree + "x", tree[:-1], tree * 2, [tree], {tree: tree}, tree.upper()))
    return hostile(rng)


def dump(tree: Any, rng: Random) -> bytes:
    """Return a tree as JSON; sometimes with a value that no tree gives."""
    if rng.random() < 0.15 and isinstance(tree, (dict, list)) and tree:
        key = rng.choice(list(tree)) if isinstance(tree, dict) else rng.randrange(len(tree))
        tree[key] = _MARK
    return json.dumps(tree).replace(json.dumps(_MARK), rng.choice(_TEXTS)).encode()


def change_json(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Change nodes of a JSON document; one that is no JSON any more stays as it is."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return data
    for _ in range(rng.choice((1, 1, 2, 4))):
        tree = change_tree(tree, rng)
    return dump(tree, rng)


JSON: dict[Mutator, int] = {change_json: 6, change_raw: 1}
"""For documents of JSON."""
