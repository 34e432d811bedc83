"""YAML's scalars: a text where a text is wanted, YAML 1.2's number where a number is wanted, or one line."""

import re
from decimal import Decimal
from fractions import Fraction

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from dpt_ray.config.load import load_config
from dpt_ray.config.scalars import MAX_INTEGER, Plain
from dpt_ray.config.section import Section
from dpt_ray.config.yaml_reader import UnreadableYamlError, read_value, read_yaml, write_value, write_yaml
from dpt_ray.errors import UserError

STRANGE = [
    "007", "010", "0o10", "0O10", "0x1F", "0b1", "1_000", "1:30", "190:20:30", "1e5", "1e-4", "1E+2", "1.5e3", "2.",
    ".5",
    "+7", "-0", "--1", "1e400", "1e-400", "9" * 40, "1" * 5000, "yes", "NO", "on", "Off", "y", "true", "TRUE", "tRUE",
    "null", "~", "Null", "2024-01-01", "2024-01-01 10:00", ".inf", "-.INF", ".nan", ".NaN", "inf", "nan", "1,000", "٣",
    "1e5.0", "0x", "0o8", "1.0.0", "=", "<<", "<", "-", ".", "..", "...", "a #b", "a: b", "#", "@a", "%", "&a", "*a",
    "!a",
]  # fmt: skip
TEXTS = st.sampled_from(STRANGE) | st.text(alphabet="0123456789+-._:eExXoObnyYtrufals~", min_size=1, max_size=8)


class Wanted(Section):
    text: str = ""
    whole: int = 0
    number: float = 0.0
    flag: bool = False
    perhaps: int | None = 0
    texts: tuple[str, ...] = ()


def read_as(name: str, text: str):
    """What a setting of a type takes a plain scalar for; None if it is refused."""
    try:
        return getattr(Wanted.model_validate({name: Plain(text)}), name)
    except ValidationError:
        return None


def exact(text: str) -> Fraction | None:
    """The number that a text is by YAML 1.2's core schema, exactly; written from its table of regular expressions."""
    if re.fullmatch(r"[-+]?[0-9]+", text, re.ASCII):
        return Fraction(int(text)) if len(text) < 4000 else None
    if re.fullmatch(r"0o[0-7]+", text):
        return Fraction(int(text[2:], 8))
    if re.fullmatch(r"0x[0-9a-fA-F]+", text):
        return Fraction(int(text[2:], 16))
    if re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", text, re.ASCII):
        return Fraction(Decimal(text))
    return None


@given(TEXTS)
@example("010")
def test_a_whole_number_is_the_one_that_was_typed_or_refused(text):
    read, right = read_as("whole", text), exact(text)
    if right is not None and right.denominator == 1 and abs(right) <= MAX_INTEGER and len(text) <= 64:
        assert read == right
        assert type(read) is int
    else:
        assert read is None


@given(TEXTS)
def test_a_number_is_the_nearest_float_or_refused(text):
    read, right = read_as("number", text), exact(text)
    if right is None or len(text) > 64:
        assert read is None
    elif read is not None:
        assert read == float(right)
        assert (read == 0) == (right == 0)
    else:  # no float is near, or a whole number of more than 64 bits
        assert abs(right) > MAX_INTEGER or 0 < abs(right) < Fraction(1, 10**300)


@given(TEXTS)
def test_a_truth_value_is_true_or_false_alone(text):
    truths = dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
    assert read_as("flag", text) is truths.get(text)


@given(TEXTS)
def test_a_text_is_what_was_typed_and_null_is_none(text):
    if text in ("null", "Null", "NULL", "~"):
        assert read_as("text", text) is None
        assert Wanted.model_validate({"perhaps": Plain(text)}).perhaps is None
    else:
        assert read_as("text", text) == text
        assert type(read_as("text", text)) is str
        assert Wanted.model_validate({"texts": [Plain(text)]}).texts == (text,)


@given(TEXTS)
def test_in_quotes_it_is_a_text_wherever_it_stands(text):
    for quoted in (f"'{text}'", f'"{text}"'):
        tree = {"text": read_value(quoted)}
        assert Wanted.model_validate(tree).text == text
        for name in ("whole", "number", "flag", "perhaps"):
            with pytest.raises(ValidationError):
                Wanted.model_validate({name: read_value(quoted)})


@given(st.text(max_size=12).filter(lambda text: not set(text[:1]) & set("[{\"'") and text == text.strip()))
def test_a_value_on_the_command_line_is_taken_whole(text):
    assert read_value(text) == text
    assert isinstance(read_value(text), Plain)


@given(TEXTS | st.text(max_size=8))
def test_what_is_written_is_a_text_to_every_reader(text):
    tree = {"a": text, "b": [text, {"c": text}]}
    written = write_yaml(tree)
    assert read_yaml(written) == tree
    assert yaml.safe_load(written) == tree  # YAML 1.1
    assert not isinstance(read_yaml(written)["a"], Plain) or exact(text) is None
    assert Wanted.model_validate({"text": read_value(write_value(text))}).text == text


@given(
    st.lists(st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | TEXTS, max_size=4)
)
def test_values_that_are_written_on_one_line_read_back(values):
    from dpt_ray.config.scalars import untyped

    written = write_value(values)
    assert "\n" not in written
    assert untyped(read_value(written)) == values


@pytest.mark.parametrize("value", ["[1, 2] # note", "'a' b", '"a" #b', "[1] [2]", "{a: 1} x", "[1, 2", "'a", '"\\q"'])
def test_nothing_behind_a_value_is_dropped(value):
    with pytest.raises(UnreadableYamlError):
        read_value(value)


@pytest.mark.parametrize(
    ("setting", "value", "read"),
    [
        ("name", "007", "007"),
        ("name", "NO", "NO"),
        ("name", "2024-01-01", "2024-01-01"),
        ("root", "a #b", "a #b"),
        ("root", "a: b", "a: b"),
        ("seed", "010", 10),
        ("seed", "0o10", 8),
        ("stage1.images", "1e5", 100_000),
        ("stage1.images", "2.5e6", 2_500_000),
        ("stage1.optimizer.learning_rate", "1e-4", 1e-4),
        ("data.class_names", "[NO, yes, 007, 1e5, '~']", ("NO", "yes", "007", "1e5", "~")),
        ("sampling.guidance_interval", "[0, 1e1]", (0.0, 10.0)),
    ],
)
def test_settings_are_read_as_they_look(tmp_path, setting, value, read):
    def get(config):
        for part in setting.split("."):
            config = getattr(config, part)
        return config

    assert get(load_config(None, [f"{setting}={value}"])) == read
    if "#" in value or ": " in value:
        return
    *groups, name = setting.split(".")
    file = tmp_path / "run.yaml"
    file.write_text("".join(f"{group}: {{" for group in groups) + f"{name}: {value}" + "}" * len(groups))
    assert get(load_config(str(file))) == read
    assert type(get(load_config(str(file)))) is type(read)


@pytest.mark.parametrize("value", [True, False, "5", "1e5", 1.5, [1]])
def test_python_values_are_not_bent_either(value):
    with pytest.raises(ValidationError):
        Wanted.model_validate({"whole": value})


@pytest.mark.parametrize("value", [1, 0, "true", "yes", 1.0])
def test_no_number_and_no_text_is_a_truth_value(value):
    with pytest.raises(ValidationError):
        Wanted.model_validate({"flag": value})


def test_a_long_value_is_shown_in_part():
    with pytest.raises(UserError) as caught:
        load_config(None, [f"seed={'9' * 5000}"])
    assert len(str(caught.value)) < 600
    assert "too large" in str(caught.value)
