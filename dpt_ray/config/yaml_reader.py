"""Read and write YAML: a tree of dicts, lists and scalars, with bounds against hostile input.

PyYAML parses the text to events. Its loaders are not used, since they resolve scalars, keys and tags by YAML 1.1.
Scalars stay text (`scalars.Plain`, or str for one in quotes). A repeated key is refused.

Rejected: ruamel.yaml, which reads YAML 1.2. It also resolves a scalar before the type of its setting is known, so the
tree would have to be built from its events as well, with one more dependency.
"""

from dataclasses import dataclass, field
from typing import Any

import yaml

from dpt_ray.config.places import redacted_value
from dpt_ray.config.scalars import Plain, core_value, shown
from dpt_ray.errors import UserError

MAX_BYTES = 2**20
"""Largest file that is read, in bytes."""
MAX_DEPTH = 32
MAX_NODES = 100_000
"""Largest number of scalars, lists and mappings of a document, with aliases expanded."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = "<<"
_TEXT_TAG = "tag:yaml.org,2002:str"


class UnreadableYamlError(Exception):
    """A text is not valid, or exceeds a bound; the message is one line."""


def read_yaml_file(file: str, kind: str, fix: str) -> Any:
    """Return the tree of a local file; None if it is empty.

    Args:
        file: its path.
        kind: the kind of file in words, for the error message.
        fix: the remedy if the file is missing.

    Raises:
        UserError: it is missing, or is not a single valid YAML document.
    """
    if "://" in file:
        raise UserError(f"a {kind} is read from this machine alone", where=file, fix="fetch it first")
    try:
        with open(file, "rb") as content:
            data = content.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UserError(f"no such {kind}", where=file, fix=fix) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"cannot be read ({reason})", where=file) from None
    return read_yaml_bytes(data, file)


def read_yaml_bytes(data: bytes, where: str) -> Any:
    """Return the tree of a file's content; see `read_yaml_file`.

    Raises:
        UserError: it is not a single valid YAML document, or is too large.
    """
    if len(data) > MAX_BYTES:
        raise UserError(f"is larger than {MAX_BYTES // 2**20} MiB, so it is no file of settings", where=where)
    utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"cannot be read (line {line} is no UTF-8 text)", where=where, fix="save it as UTF-8") from None
    try:
        return read_yaml(text)
    except UnreadableYamlError as error:
        raise UserError(f"is not valid YAML ({error})", where=where) from None


def read_value(text: str) -> Any:
    """Return the tree of a value on the command line.

    The value is a single scalar unless it begins as a list, a mapping or a text in quotes.

    Raises:
        UnreadableYamlError: it begins as one of these and is not valid YAML.
    """
    text = text.strip()
    if text[:1] not in ("[", "{", '"', "'"):
        return Plain(text)
    built = _built(text)
    if text[built.end :].strip():
        raise UnreadableYamlError(f"{shown(text[built.end :].strip())} stands behind it")
    return built.document


def read_yaml(text: str) -> Any:
    """Return the tree of a document; None if it is empty.

    Raises:
        UnreadableYamlError: it is not a single valid YAML document, repeats a key, or exceeds a bound.
    """
    return _built(text).document


def _built(text: str) -> "_Builder":
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.add(event)
    except yaml.MarkedYAMLError as error:
        raise UnreadableYamlError(_marked_reason(error, text)) from None
    except yaml.reader.ReaderError as error:
        code = error.character if isinstance(error.character, int) else ord(error.character)
        raise UnreadableYamlError(f"it holds the character U+{code:04X}; in quotes, write \\u{code:04x}") from None
    except yaml.YAMLError as error:
        raise UnreadableYamlError(_shortened(str(error))) from None
    except UnicodeEncodeError:
        raise UnreadableYamlError("it holds bytes that are no UTF-8 text") from None
    return builder


def _marked_reason(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark or error.context_mark
    reason = _shortened(error.problem or error.context or "unknown")
    if mark and "cannot start any token" in reason:
        character = text[mark.index : mark.index + 1]
        tab, other = "a tab stands where YAML takes spaces alone", f"no text without quotes begins with {character}"
        reason = tab if character == "\t" else other
    return f"line {mark.line + 1}: {reason}" if mark else reason


def _shortened(text: str) -> str:
    text = "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
    return text if len(text) <= 120 else f"{text[:120]}..."


@dataclass
class _Open:
    """A list or mapping whose end event has not occurred yet."""

    value: list[Any] | dict[str, Any]
    line: int
    anchor: str | None
    nodes_before: int
    key: Any = None
    has_key: bool = False
    key_line: int = 0
    lines: dict[str, int] = field(default_factory=dict)
    merged: list[dict[str, Any]] = field(default_factory=list)


class _Builder:
    """Builds the tree from PyYAML's events, without recursion.

    Attributes:
        document: the tree.
        end: position in the text after the last complete node.
    """

    def __init__(self) -> None:
        self.document: Any = None
        self.end = 0
        self._documents = 0
        self._nodes = 0
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}

    def add(self, event: yaml.Event) -> None:
        """Process one event."""
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise UnreadableYamlError(f"line {line}: a second document begins (---); give one")
        elif isinstance(event, yaml.ScalarEvent):
            self._count(1, line)
            self._put(self._scalar(event, line), line, event.anchor, 1)
            self._end_at(event)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event, line)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._finish()
            self._end_at(event)

    def _end_at(self, event: yaml.Event) -> None:
        assert event.end_mark is not None
        self.end = event.end_mark.index

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> str:
        if event.tag in (None, "!", _TEXT_TAG):
            is_plain = event.implicit[0] and event.tag is None
            return Plain(event.value) if is_plain else str(event.value)
        raise UnreadableYamlError(f"line {line}: the tag {_shortened(event.tag or '')} is not read; leave it out")

    def _begin(self, event: yaml.CollectionStartEvent, line: int) -> None:
        if event.tag is not None and event.tag != "!":
            raise UnreadableYamlError(f"line {line}: the tag {_shortened(event.tag)} is not read; leave it out")
        if len(self._open) >= MAX_DEPTH:
            raise UnreadableYamlError(f"line {line}: it is nested more than {MAX_DEPTH} deep")
        self._count(1, line)
        empty: list[Any] | dict[str, Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._open.append(_Open(empty, line, event.anchor, self._nodes - 1))

    def _finish(self) -> None:
        done = self._open.pop()
        if isinstance(done.value, dict):
            for merged in done.merged:  # by descending precedence
                done.value = {**merged, **done.value}
        self._put(done.value, done.line, done.anchor, self._nodes - done.nodes_before)

    def _alias(self, event: yaml.AliasEvent, line: int) -> None:
        if any(group.anchor == event.anchor for group in self._open):
            raise UnreadableYamlError(f"line {line}: *{_shortened(str(event.anchor))} stands within itself")
        if event.anchor not in self._anchors:
            raise UnreadableYamlError(f"line {line}: nothing before is called &{_shortened(str(event.anchor))}")
        value, nodes = self._anchors[event.anchor]
        self._count(nodes, line)
        self._put(value, line, None, nodes)
        self._end_at(event)

    def _count(self, nodes: int, line: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise UnreadableYamlError(f"line {line}: it holds more than {MAX_NODES:,} values")

    def _put(self, value: Any, line: int, anchor: str | None, nodes: int) -> None:
        """Add a complete node to the list, mapping or document that contains it."""
        if anchor is not None:
            self._anchors[anchor] = value, nodes
        if not self._open:
            self.document = None if isinstance(value, Plain) and value == "" else value
            return
        group = self._open[-1]
        if isinstance(group.value, list):
            group.value.append(value)
        elif not group.has_key:
            self._take_key(group, value, line)
        else:
            self._take_value(group, value, line)

    def _take_key(self, group: _Open, key: Any, line: int) -> None:
        if not isinstance(key, str):
            raise UnreadableYamlError(f"line {line}: a list or mapping stands where a name is wanted: {shown(key)}")
        group.key, group.has_key, group.key_line = key, True, line

    def _take_value(self, group: _Open, value: Any, line: int) -> None:
        assert isinstance(group.value, dict)
        key, group.has_key = group.key, False
        name = str(key)
        if name in group.lines:
            path = ".".join([*(str(g.key) for g in self._open[:-1] if g.has_key), name])
            first, second = group.lines[name], group.key_line
            lines = f"twice in line {first}" if first == second else f"in line {first} and again in line {second}"
            raise UnreadableYamlError(f"{_shortened(redacted_value(path))} stands {lines}; keep one")
        group.lines[name] = group.key_line
        if name == _MERGE and isinstance(key, Plain):
            group.merged = self._merged(value, line)
        else:
            group.value[name] = value

    def _merged(self, value: Any, line: int) -> list[dict[str, Any]]:
        """Return the mappings of a merge key (`<<: *base`), by descending precedence."""
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(item, dict) for item in values):
            raise UnreadableYamlError(f"line {line}: << takes a mapping, or a list of them")
        return values


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would resolve to another type."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write no aliases."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    special = not isinstance(core_value(text), str) or text == _MERGE
    return dumper.represent_scalar(_TEXT_TAG, str(text), style="'" if special else None)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(Plain, _represent_text)


def write_yaml(tree: Any) -> str:
    """Return a tree of Python values as YAML that means the same in YAML 1.1 and in `read_yaml`."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False)


def write_value(value: Any) -> str:
    """Return a value as YAML on one line, for `--set`."""
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.dump(plain, Dumper=_Dumper, default_flow_style=True, width=float("inf"))
    return text.removesuffix("...\n").strip()
