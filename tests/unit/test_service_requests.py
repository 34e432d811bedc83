"""Requests for images: what is read, and one line for everything else."""

import json
import os

import pytest

from dpt_ray.errors import UserError
from dpt_ray.serving.access import check_host, read_token
from dpt_ray.serving.limits import Limits, RefusedError
from dpt_ray.serving.service_requests import UploadRequest, goes_with, read_drawing_request

CLASSES = ("ant", "bee", "7")


def read(**body):
    return read_drawing_request(json.dumps(body).encode(), CLASSES, Limits())


def test_a_request_is_read():
    request = read(**{"class": "bee", "images": 3, "first": 5, "guidance_scale": 1, "seed": -2, "steps": 9})
    assert request.places == [(1, 5), (1, 6), (1, 7)]
    assert request.sampling.given() == {"guidance_scale": 1, "seed": -2, "steps": 9}


def test_what_is_left_out_is_the_generator_s_own():
    request = read(**{"class": 2})
    assert (request.label, request.first, request.images, request.sampling.given()) == (2, 0, 4, {})


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "the body is no JSON"),
        (b"[" * 100_000, "the body is no JSON"),
        (b"\xff\xfe", "the body is no JSON"),
        (b"[1]", "the body: input should be an object"),
        (b"{}", "class is missing"),
        (b'{"class": "wasp"}', "there is no class 'wasp'; there are: ant, bee, 7"),
        (b'{"class": 3}', "there is no class 3; ids go from 0 to 2"),
        (b'{"class": true}', "class: input should be a valid"),
        (b'{"class": 1.5}', "class: input should be a valid"),
        (b'{"class": 0, "images": 0}', "images: input should be greater than or equal to 1"),
        (b'{"class": 0, "images": 17}', "images must be at most 16, not 17"),
        (b'{"class": 0, "steps": 251}', "steps must be at most 250, not 251"),
        (b'{"class": 0, "guidance_scale": -1}', "guidance_scale: input should be greater than or equal to 0"),
        (b'{"class": 0, "guidance_scale": NaN}', "guidance_scale: input should be a finite number"),
        (b'{"class": 0, "seed": "5"}', "seed: input should be a valid integer"),
        (b'{"class": 0, "seed": 9223372036854775808}', "seed: input should be less than or equal to"),
        (b'{"class": 0, "cfg": 1}', "there is no field 'cfg'; there are: class, images, first, guidance_scale"),
    ],
)
def test_other_bodies_are_refused_in_one_line(body, says):
    with pytest.raises(RefusedError) as refused:
        read_drawing_request(body, CLASSES, Limits())
    assert refused.value.status == 400
    assert says in refused.value.what
    assert "\n" not in refused.value.what


def test_only_images_of_equal_settings_are_drawn_together():
    first, same, other = read(**{"class": 0}), read(**{"class": 1}), read(**{"class": 0, "seed": 1})
    assert goes_with(first, same)
    assert not goes_with(first, other)
    assert not goes_with(first, UploadRequest(b""))
    assert goes_with(UploadRequest(b"a"), UploadRequest(b"b"))


TOKEN = "0123456789abcdef"


def test_a_service_that_others_can_reach_needs_a_token():
    for host in ("127.0.0.1", "localhost", "::1"):
        check_host(host, None)
    check_host("0.0.0.0", TOKEN)
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        with pytest.raises(UserError, match="needs a token; set DPT_SERVE_TOKEN or --token-file, or leave --host out"):
            check_host(host, None)
    with pytest.raises(UserError, match="there is no such address"):
        check_host("no such host", None)


def test_the_token_comes_from_a_private_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("DPT_SERVE_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("DPT_SERVE_TOKEN", TOKEN)
    assert read_token(None) == TOKEN
    file = tmp_path / "token"
    file.write_text(f"{TOKEN[::-1]}\n")
    os.chmod(file, 0o644)
    with pytest.raises(UserError, match="other users may read this token; chmod 600"):
        read_token(str(file))
    os.chmod(file, 0o600)
    assert read_token(str(file)) == TOKEN[::-1]
    with pytest.raises(UserError, match="cannot be read"):
        read_token(str(tmp_path / "none"))
    monkeypatch.setenv("DPT_SERVE_TOKEN", "short")
    with pytest.raises(UserError, match="at least 16 printable ASCII characters"):
        read_token(None)
