"""The reader of YAML: repeated keys, bounds, encodings; every text gives a tree or one line."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.config.load import load_config
from dpt_ray.config.search_settings import load_tune
from dpt_ray.config.yaml_reader import MAX_BYTES, MAX_DEPTH, UnreadableYamlError, read_yaml, read_yaml_bytes
from dpt_ray.errors import UserError


def refusal(text: str) -> str:
    with pytest.raises(UnreadableYamlError) as caught:
        read_yaml(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed: 3\nseed: 4\n", "seed stands in line 1 and again in line 2"),
        ("seed: 3\nseed: 3\n", "seed stands in line 1 and again in line 2"),
        (
            "stage1: {images: 1600}\nseed: 3\nstage1: {labelled_batch: 16}\n",
            "stage1 stands in line 1 and again in line 3",
        ),
        (
            "stage1:\n  images: 1\n  model:\n    width: 1\n    width: 2\n",
            "stage1.model.width stands in line 4 and again",
        ),
        ("a: {b: 1, b: 2}\n", "a.b stands twice in line 1"),
        ("'a': 1\n\"a\": 2\na: 3\n", "a stands in line 1 and again in line 2"),
        ("a:\n- {b: 1}\n- {b: 1, b: 2}\n", "a.b stands twice in line 3"),
        ("x: &x {a: 1}\ny: {<<: *x, a: 1, a: 2}\n", "y.a stands twice"),
    ],
)
def test_a_key_that_stands_twice_is_named_with_both_lines(tmp_path, text, told):
    assert told in refusal(text)
    file = tmp_path / "file.yaml"
    file.write_text(text)
    for load in (load_config, load_tune):
        with pytest.raises(UserError, match="is not valid YAML") as caught:
            load(str(file))
        assert str(caught.value).startswith(f"{file}: ")
        assert told in str(caught.value)


def test_a_key_that_stands_twice_in_an_override_is_refused():
    with pytest.raises(UserError, match="images stands twice in line 1"):
        load_config(None, ["stage1={images: 160, seed: 1, images: 320}"])


@given(st.lists(st.sampled_from("abcde"), max_size=6), st.booleans())
def test_exactly_the_repeated_keys_are_refused(keys, flow):
    lines = [f"{key}: {number}" for number, key in enumerate(keys)]
    text = "{" + ", ".join(lines) + "}" if flow else "\n".join(lines)
    if len(set(keys)) < len(keys):
        assert "stands" in refusal(text)
    elif keys:
        assert read_yaml(text) == {key: str(number) for number, key in enumerate(keys)}


def test_merge_keys_give_what_is_not_given():
    tree = read_yaml("a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], x: 5}\nd:\n  <<: *b\n  w: 6\n")
    assert tree["c"] == {"x": "5", "y": "2", "z": "4"}
    assert tree["d"] == {"y": "3", "z": "4", "w": "6"}
    assert read_yaml("'<<': 1") == {"<<": "1"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x: " + "[" * (MAX_DEPTH + 1), "nested more than"),
        ("x: " + "[" * 200_000, "nested more than"),
        ("- " * 200_000, "nested more than"),
        ("? " * 100_000, "nested more than"),
        ("a: &a [*a]", "*a stands within itself"),
        ("a: *b", "nothing before is called &b"),
        ("a: *" + "b" * 900, "nothing before is called &bbb"),
        ("a: &a " + "[x, x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(12)
        ), "it holds more than"),
        ("[" + "a," * 100_001 + "]", "it holds more than"),
        ("a: 1\n---\nb: 2\n", "line 2: a second document begins"),
        ("? [a]\n: b\n", "a list or mapping stands where a name is wanted"),
        ("{a: 1}: b\n", "a list or mapping stands where a name is wanted"),
        ("a:\n\tb: 1\n", "line 2: a tab stands"),
        ("a: @b\n", "no text without quotes begins with @"),
        ("a: !!python/object/apply:os.system [x]\n", "the tag"),
        ("a: !!int '5'\n", "the tag"),
        ("a: !other:str 5\n", "the tag"),
        ("!!set {a, b}\n", "the tag"),
        ("a: !" + "x" * 5000 + " b", "the tag"),
        ("a: \x00b", "U+0000"),
        ("<<: 5", "<< takes a mapping"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n  <<: *a\n", "c.<< stands in line 3 and again in line 4"),
        ("a: 1\nb", "line"),
        ("a: 'x", "line"),
        ("%FOO\n%YAML 3.0\n---\na", ""),
    ],
)  # fmt: skip
def test_what_goes_beyond_a_bound_is_one_line_soon(text, told):
    began = time.process_time()
    assert told in refusal(text)
    assert time.process_time() - began < 5


@given(st.text(alphabet="abc01 \n\t:-[]{}#&*!|>'\"%@`,?<~.\\", max_size=40) | st.text(max_size=20))
def test_every_text_gives_a_tree_or_one_line(text):
    try:
        read_yaml(text)
        told = ""
    except UnreadableYamlError as error:
        told = str(error)
    assert told.isprintable()  # a line break is not


@given(st.binary(max_size=40) | st.sampled_from([b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf"]).flatmap(
    lambda mark: st.binary(max_size=20).map(lambda rest: mark + rest)
))  # fmt: skip
def test_every_file_gives_a_tree_or_one_line(data):
    try:
        read_yaml_bytes(data, "run.yaml")
        told = "run.yaml: "
    except UserError as error:
        told = str(error)
    assert told.startswith("run.yaml: ")
    assert told.isprintable()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_files_of_other_editors_are_read(encoding, newline):
    text = newline.join(["name: café", "stage1:", "  images: 160", ""])
    assert read_yaml_bytes(text.encode(encoding), "x") == {"name": "café", "stage1": {"images": "160"}}


def test_a_file_in_another_encoding_names_its_line(tmp_path):
    file = tmp_path / "latin.yaml"
    file.write_bytes("seed: 1\nname: café\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin.yaml: cannot be read \(line 2 is no UTF-8 text\); save it as UTF-8"):
        load_config(str(file))


def test_a_large_file_and_an_endless_one_are_refused(tmp_path):
    file = tmp_path / "large.yaml"
    file.write_bytes(b"#" * (MAX_BYTES + 1))
    for path in (str(file), "/dev/zero"):
        with pytest.raises(UserError, match="is larger than 1 MiB"):
            load_config(path)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "null\n", "~", "{}\n"])
def test_a_document_that_holds_nothing_is_none_or_empty(tmp_path, text):
    file = tmp_path / "empty.yaml"
    file.write_text(text)
    assert load_config(str(file)) == load_config(None)
    with pytest.raises(UserError, match=r"is empty|is missing"):
        load_tune(str(file))


def test_a_configuration_at_a_url_says_what_to_do():
    with pytest.raises(
        UserError, match=r"^s3://bucket/best.yaml: a config file is read from this machine alone; fetch"
    ):
        load_config("s3://bucket/best.yaml")
