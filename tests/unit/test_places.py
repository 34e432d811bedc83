"""Names, paths and URLs that settings give; no secret in them is ever shown or stored."""

import json
import time
import traceback
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, ValidationError
from pydantic.fields import FieldInfo

from dpt_ray.config.load import dump_yaml, load_config
from dpt_ray.config.places import (
    BEST,
    MAX_NAME_BYTES,
    check_name,
    check_place,
    check_root,
    check_search_name,
    has_secret,
    is_relative,
    redacted,
    redacted_value,
    without_credentials,
)
from dpt_ray.config.scalars import is_section
from dpt_ray.config.schema import RunConfig
from dpt_ray.config.search_settings import TuneConfig, load_tune
from dpt_ray.errors import UserError

PLACES = [  # all of them: `test_every_setting_that_takes_a_place_is_tried`
    "root", "data.train", "data.test", "data.train_labels", "data.test_labels", "data.class_file", "labels.file",
    "stage1.probe.encoder", "stage3.probe.encoder", "stage2.latents.autoencoder", "tracking.mlflow",
    "cluster.compiled_code", "stage1.from", "stage2.from", "stage3.from", "evaluation.network", "evaluation.inception",
    "evaluation.reference",
]  # fmt: skip


def refusal(call: Any, *arguments: Any) -> str:
    """What a call is refused with; nothing if it is not."""
    try:
        call(*arguments)
    except (UserError, ValueError) as error:
        return str(error)
    return ""


def complaint(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config(None, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "run",
        "007",
        "a b",
        "cifar10_best",
        "2024-01-01",
        "12:30",
        "é",
        "名前",
        "a.b",
        "x" * MAX_NAME_BYTES,
        "NO",
        "a+b=c",
    ],
)
def test_plain_names_are_taken(name):
    assert load_config(None, [f"name={name}"]).name == name


BAD_NAMES = [
    "", "''", "' '", ".", "..", "../x", "../../../escaped", "/abs/olute", "a/b", "a\\b", ".hidden", "-x", "--help",
    "x.",
    "'a '", "' a'", "x" * (MAX_NAME_BYTES + 1), "é" * (MAX_NAME_BYTES // 2 + 1), '"a\\nb"', '"a\\0b"', '"\\e[31mred"',
    "'*'", "a?b", "a#b", "100%", "a::b", "a<b", '"a\\u202eb"', '"a\\u2028b"', "'[a]'",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_no_plain_file_name_is_refused_for_runs_and_searches(tmp_path, name):
    assert "name " in complaint(f"name={name}")
    file = tmp_path / "tune.yaml"
    quoted = name if name[:1] in ("'", '"') else f"'{name}'"
    rest = "base: x\nspace: {sampling.steps: {grid: [5]}}\nvalidation: {images: training}\n"
    file.write_text(f"name: {quoted}\n{rest}")
    with pytest.raises(UserError, match="name "):
        load_tune(str(file))


def test_the_best_settings_of_a_search_have_a_name_that_is_taken():
    longest = "x" * (MAX_NAME_BYTES - len(BEST))
    assert check_name(check_search_name(longest) + BEST)
    with pytest.raises(ValueError, match="at most 95 bytes"):
        check_search_name(longest + "x")


@given(st.text(max_size=60))
@example("a\udcffb")
def test_what_is_taken_as_a_name_stays_in_its_folder(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("runs")
    told = refusal(check_name, name)
    assert "\n" not in told
    if told:
        return
    place = folder / name
    assert place.resolve().parent == folder.resolve()
    place.mkdir()
    assert [entry.name for entry in folder.iterdir()] == [name]


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("file://res", "write file:///res if the path is /res, or give the path alone"),
        ("file://data/x", "write file:///data/x"),
        ("file:x", "write file:///x"),
        ("file:/x", "write file:///x if the path is /x"),
        ("file://localhost/x", "write file:///x if the path is /x"),
        ("file://", "is no file URL"),
        ("file://./x", "is no file URL"),
        ("file://~/x", "is no file URL"),
        ("local://res", "is no file URL"),
        ("FILE:///x", "write file://"),
        ("S3://bucket/x", "write s3://"),
        ("s3:/bucket/x", "write s3://bucket/x"),
        ("s3:bucket/x", "write s3://bucket/x"),
        ("s3://", "names no bucket"),
        ("s3:///x", "names no bucket"),
        ("https:///x", "names no host"),
        ("file:///a%20b", "give the path alone: /a b"),
        ("C:\\data", "Windows path"),
        ("c:/data", "Windows path"),
        ("\\\\server\\share", "Windows path"),
        ("~nobody-of-that-name/x", "home folder of a user who does not exist"),
        ("''", "is empty"),
        ("'  '", "is empty"),
        ("'x '", "begins or ends with a space"),
        ('"a\\0b"', "control character"),
        ('"a\\nb"', "control character"),
    ],
)
def test_places_that_processes_would_take_differently_are_refused(place, told):
    for setting in PLACES:
        message = complaint(f"{setting}={place}", *(["data.train=x"] if setting == "data.test" else []))
        assert message.startswith(f"--set {setting}=")
        assert told in message


@pytest.mark.parametrize(
    "place", ["http://host/x", "https://host/x", "zip://a.zip::s3://bucket", "simplecache::s3://b/x"]
)
def test_results_cannot_be_written_to_what_is_read_alone(place):
    assert "results cannot be written" in complaint(f"root={place}")


GOOD_PLACES = [
    "results", "./a", "../a", "/a", "~/a", "~", "a b", "a=b", "file:///a", "s3://bucket/a", "s3://bucket", "gs://b/c",
    "a:b/c", "memory://x", "abfss://container@account.dfs.core.windows.net/p", "s3://bucket/a@b", "a@b", "owner/name",
    "s3://bucket/k?versionId=3", "http://host:9000/a@b.txt", "https://host/x?download=true",
]  # fmt: skip


@pytest.mark.parametrize("place", GOOD_PLACES)
def test_other_places_are_taken(place):
    assert check_place(place) == place
    assert place.startswith("http") or check_root(place) == place


def test_which_places_depend_on_the_folder_of_a_process():
    assert [place for place in GOOD_PLACES if is_relative(place)] == [
        "results", "./a", "../a", "a b", "a=b", "a:b/c", "a@b", "owner/name",
    ]  # fmt: skip


SECRET = "hunter2"
SECRET_URLS = [
    f"https://me:{SECRET}@host/data",
    f"https://{SECRET}@host/data",
    f"https://:{SECRET}@host/data",
    f"http://me:{SECRET}@host:8080/data?x=1",
    f"s3://AKIA:{SECRET}@bucket/data",
    f"s3://AKIA:{SECRET}/with/slash@bucket/data",
    f"s3://AKIA:{SECRET}@in@bucket/data",
    f"sftp://me:{SECRET}@host/data",
    f"s3:/AKIA:{SECRET}@bucket/data",
    f"zip://a.zip::https://me:{SECRET}@host/a.zip",
    f"https://bucket.s3.amazonaws.com/k?X-Amz-Algorithm=a&X-Amz-Signature={SECRET}",
    f"https://bucket.s3.amazonaws.com/k?X-Amz-Security-Token={SECRET}&X-Amz-Date=1",
    f"https://bucket.s3.amazonaws.com/k?AWSAccessKeyId=A&Signature={SECRET}",
    f"https://storage.googleapis.com/k?X-Goog-Signature={SECRET}",
    f"https://account.blob.core.windows.net/c?sv=1&sig={SECRET}",
    f"https://host/x?token={SECRET}",
    f"https://host/x?ACCESS_TOKEN={SECRET}",
    f"https://host/x?api-key={SECRET}",
    f"https://host/x?p%61ssword={SECRET}",
    f"https://host/x;auth={SECRET}",
    f"https://host/x#access_token={SECRET}",
    f"bucket.s3.amazonaws.com/k?X-Amz-Signature={SECRET}",
]


def places_of(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the names of all settings that take a place."""
    for name, setting in section.model_fields.items():
        group = is_section(setting.annotation)
        if group is not None:
            yield from places_of(group, f"{prefix}{name}.")
        elif {AfterValidator(check_place), AfterValidator(check_root)} & _validators(setting):
            yield prefix + name


def _validators(setting: FieldInfo) -> set[AfterValidator]:
    """Return how a setting is checked, whether or not it may be null."""
    held = [argument for kind in (setting.annotation, *get_args(setting.annotation)) for argument in get_args(kind)]
    return {each for each in (*setting.metadata, *held) if isinstance(each, AfterValidator)}


def test_every_setting_that_takes_a_place_is_tried():
    assert sorted(places_of(RunConfig)) == sorted(PLACES)
    assert list(places_of(TuneConfig)) == ["base"]


@pytest.mark.parametrize("url", SECRET_URLS)
def test_no_setting_takes_a_secret_and_no_message_shows_it(url):
    for setting in PLACES:
        message = complaint(f"{setting}={url}", *(["data.train=x"] if setting == "data.test" else []))
        assert SECRET not in message
        assert "AWS_ACCESS_KEY_ID" in message
        assert f"--set {setting}=" in message


@pytest.mark.parametrize("url", [*SECRET_URLS, f"https://me:a {SECRET}@host/x", f"https://me:a'{SECRET}@host/x"])
def test_no_other_mistake_shows_a_secret(tmp_path, url):
    """Whatever is wrong with a setting, be it its name, type or form, or that of another one."""
    quoted = json.dumps(url)
    for override in (f"data.trian={quoted}", f"data.image_size={quoted}", f"sampling.sampler={quoted}",
                     f"name={quoted}", f"stage1={quoted}", f"root=[{quoted}]", f"preset={quoted}", f"a..b={quoted}",
                     f"root=[{quoted}", f"data.class_names=[1, {quoted}, 1, {quoted}]",
                     f"stage1.algorithm.name={quoted} x"):  # fmt: skip
        assert SECRET not in refusal(load_config, None, [override]), override
    file = tmp_path / "run.yaml"
    for text in (f"data: {{trian: {quoted}}}", f"root: {quoted}", f"data: {{train: [{quoted}]}}", f"seed: {quoted}",
                 f"{quoted}: 1", f"{quoted}: 1\n{quoted}: 2"):  # fmt: skip
        file.write_text(text)
        with pytest.raises(UserError) as caught:
            load_config(str(file))
        assert SECRET not in "".join(traceback.format_exception(caught.value)), text
        file.write_text(f"name: x\nbase: {quoted}\n{text}")
        with pytest.raises(UserError) as caught:
            load_tune(str(file))
        assert SECRET not in str(caught.value), text


@pytest.mark.parametrize("part", ["a", "a.", "a:", "a:/", "?a", "1/", "a@", "a&", "a=", "a://b@"])
@pytest.mark.parametrize("before", ["", "https://me:"])
def test_secrets_are_looked_for_in_time_in_proportion_to_the_text(part, before):
    text = f"{before}{part * (2**20 // len(part))} https://me:{SECRET}@host/data"
    began = time.process_time()
    assert SECRET not in redacted(text)
    assert SECRET not in str(UserError(text, where=text))
    has_secret(text)
    without_credentials(text)
    assert time.process_time() - began < 5


def test_an_error_of_pydantic_itself_holds_no_secret():
    with pytest.raises(ValidationError) as caught:
        RunConfig.model_validate({"root": SECRET_URLS[0], "seed": SECRET_URLS[1]})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", SECRET_URLS)
def test_secrets_of_urls_are_hidden_wherever_they_are_told(url):
    assert has_secret(url)
    assert SECRET not in redacted(f"reading {url}: refused")
    assert not has_secret(redacted(url))
    assert SECRET not in without_credentials(url)
    error = UserError(f"{url} is gone", where=url, fix=f"look at {url}")
    assert SECRET not in f"{error} {error.what} {error.where} {error.fix}"


@pytest.mark.parametrize("text", [*GOOD_PLACES, "step 3: done (a@b.c)", "stage1.images=3; x=1", "a?b=c"])
def test_what_is_no_secret_stays_as_it_is(text):
    assert redacted(text) == redacted_value(text) == text


@given(st.sampled_from(GOOD_PLACES))
def test_a_stored_configuration_holds_no_secret_since_none_is_taken(place):
    config = load_config(None, [f"root={place}"]) if not place.startswith(("http", "~")) else load_config(None)
    assert not has_secret(dump_yaml(config))
