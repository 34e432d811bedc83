"""Endpoint, region, key and secret come from the environment or the AWS files, and nowhere stay behind."""

import hashlib
import pickle

import fsspec
import pytest
from object_store_server import KEY, READER_KEY, READER_SECRET, REGION, SECRET

from dpt_ray.data.storage import stores
from dpt_ray.distributed.checkpoints import run_storage


def write(path, **sections: dict[str, str]) -> None:
    """Write an AWS file."""
    text = "".join(
        f"[{name.replace('_', ' ')}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
        for name, entries in sections.items()
    )
    path.write_text(text)


def round_trip(bucket: str) -> None:
    url = stores.join(bucket, "a")
    stores.write_bytes(url, b"content")
    assert stores.read_bytes(url) == b"content"


def test_the_environment_is_enough(aws, bucket, proxy):
    round_trip(bucket)
    assert {(request.key, request.region) for request in proxy.seen} == {(KEY, REGION)}


@pytest.mark.parametrize("endpoint", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
@pytest.mark.parametrize("region", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_either_name_of_a_variable_is_read(no_aws, bucket, proxy, variables, monkeypatch, endpoint, region):
    monkeypatch.setenv(endpoint, variables["AWS_ENDPOINT_URL"])
    monkeypatch.setenv(region, REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    round_trip(bucket)
    assert {(request.key, request.region) for request in proxy.seen} == {(KEY, REGION)}


def test_the_usual_files_are_enough(no_aws, bucket, proxy):
    write(no_aws / "config", default={"endpoint_url": proxy.url, "region": REGION})
    write(no_aws / "credentials", default={"aws_access_key_id": KEY, "aws_secret_access_key": SECRET})
    round_trip(bucket)
    assert {(request.key, request.region) for request in proxy.seen} == {(KEY, REGION)}


def test_a_profile_is_chosen_by_its_variable(no_aws, bucket, proxy, monkeypatch):
    write(
        no_aws / "config", default={"region": "elsewhere"}, profile_mine={"endpoint_url": proxy.url, "region": REGION}
    )
    write(
        no_aws / "credentials",
        default={"aws_access_key_id": "other", "aws_secret_access_key": "other"},
        mine={"aws_access_key_id": KEY, "aws_secret_access_key": SECRET},
    )
    monkeypatch.setenv("AWS_PROFILE", "mine")
    round_trip(bucket)
    assert {(request.key, request.region) for request in proxy.seen} == {(KEY, REGION)}


@pytest.mark.usefixtures("aws")
def test_a_session_token_is_sent(bucket, monkeypatch):
    """The store of the tests gives out no tokens, so the request is caught on its way."""
    from dpt_ray.data.storage.object_store import ObjectStore

    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token")
    headers = _headers_of_an_upload(ObjectStore(skip_instance_cache=True))
    assert headers["X-Amz-Security-Token"] in ("a-token", b"a-token")


@pytest.mark.usefixtures("no_aws")
def test_fsspec_configuration_of_the_user_is_kept(bucket, proxy, monkeypatch):
    mine = {"key": KEY, "secret": SECRET, "endpoint_url": proxy.url, "client_kwargs": {"region_name": REGION}}
    monkeypatch.setitem(fsspec.config.conf, "s3", {**mine, "config_kwargs": {"read_timeout": 3}})
    round_trip(bucket)
    filesystem, _ = stores.filesystem(bucket)
    assert filesystem.config_kwargs["read_timeout"] == 3
    assert filesystem.config_kwargs["retries"]["total_max_attempts"] == 1
    assert SECRET.encode() not in pickle.dumps(filesystem)


@pytest.mark.usefixtures("aws", "other_credentials")
def test_no_credentials_are_pickled_and_the_other_process_uses_its_own(bucket, client, proxy, monkeypatch):
    round_trip(bucket)
    pickled = pickle.dumps([stores.filesystem(bucket)[0], run_storage(bucket)["storage_filesystem"]])
    assert KEY.encode() not in pickled
    assert SECRET.encode() not in pickled
    client.chmod(f"{bucket}/a", "public-read")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER_SECRET)
    stores.filesystem(bucket)[0].clear_instance_cache()
    proxy.clear()
    filesystem, arrow_filesystem = pickle.loads(pickled)
    path = bucket.removeprefix("s3://") + "/a"
    assert filesystem.cat_file(path) == b"content"
    assert arrow_filesystem.open_input_stream(path).read() == b"content"
    assert {request.key for request in proxy.seen} == {READER_KEY}


def _headers_of_an_upload(filesystem) -> dict:
    """Return the headers of a PUT that is caught before it is sent."""
    filesystem.connect()
    caught = {}

    class CaughtError(Exception):
        pass

    def catch(request, **_):
        caught.update(request.headers)
        raise CaughtError

    filesystem.s3.meta.events.register("before-send.s3.PutObject", catch)
    with pytest.raises(CaughtError):
        filesystem.pipe_file("bucket/a", b"content")
    return caught


@pytest.mark.usefixtures("aws")
def test_uploads_to_any_server_have_a_length_and_a_signed_content(monkeypatch):
    """Older servers answer 411 to the client's default over TLS, an upload of no length with a checksum behind it."""
    from dpt_ray.data.storage.object_store import ObjectStore

    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://127.0.0.1:1")
    headers = _headers_of_an_upload(ObjectStore(skip_instance_cache=True))
    assert headers["Content-Length"] in ("7", b"7")
    assert "Transfer-Encoding" not in headers
    assert _text(headers["X-Amz-Content-SHA256"]) == hashlib.sha256(b"content").hexdigest()

    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")  # the user's word counts
    headers = _headers_of_an_upload(ObjectStore(skip_instance_cache=True))
    assert _text(headers["Transfer-Encoding"]) == "chunked"


def _text(value) -> str:
    return value.decode() if isinstance(value, bytes) else value
