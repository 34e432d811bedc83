"""What the user can mend is said in one line, at once."""

import socket
import time

import pytest
from fault_proxy import Fault
from object_store_server import READER_KEY, READER_SECRET, SECRET

from dpt_ray.data.storage import stores
from dpt_ray.distributed.checkpoints import run_storage
from dpt_ray.errors import UserError

CALLS = {
    "read_bytes": stores.read_bytes,
    "read_range": lambda url: stores.read_range(url, 0, 1),
    "write_bytes": lambda url: stores.write_bytes(url, b"x"),
    "exists": stores.exists,
    "list_files": stores.list_files,
    "list_folders": stores.list_folders,
    "list_tree": stores.list_tree,
    "remove_tree": stores.remove_tree,
    "check_writable": stores.check_writable,
}
CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


@pytest.fixture
def fresh(no_aws, proxy, variables, monkeypatch):
    """A process that has the user's environment and used no store before; returns a function that changes it."""

    def change(**changes: str | None) -> None:
        for name, value in {**variables, **changes}.items():
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)

    change()
    return change


def complaint(call, url: str) -> str:
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        call(url)
    assert time.monotonic() - start < 10
    message = str(caught.value)
    assert message.startswith(url)
    assert "\n" not in message
    assert SECRET not in message
    return message


def test_a_wrong_secret(fresh, bucket, proxy):
    fresh(AWS_SECRET_ACCESS_KEY="wrong")
    for name, call in CALLS.items():
        proxy.clear()
        message = complaint(call, f"{bucket}/a")
        if name in ("exists", "remove_tree"):  # they ask with HEAD, whose answer has no code
            assert "(permission denied); check that AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in message
        else:
            assert f"the object store refuses the key or its secret (SignatureDoesNotMatch); {CREDENTIALS}" in message
        assert proxy.count() == 1


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_an_unknown_key(fresh, bucket, proxy, code):
    """Amazon answers with the first code, Swift with the second."""
    fresh(AWS_ACCESS_KEY_ID="nobody")
    if code == "InvalidAccessKeyId":
        proxy.inject(Fault("", "status", times=-1, status=403, code=code))
    assert f"({code}); {CREDENTIALS}" in complaint(stores.read_bytes, f"{bucket}/a")
    assert proxy.count() == 1


@pytest.mark.parametrize("name", CALLS)
def test_no_credentials_at_all(fresh, bucket, proxy, name):
    fresh(AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    message = complaint(CALLS[name], f"{bucket}/a")
    assert f"no usable credentials were found (NoCredentialsError); {CREDENTIALS}" in message
    assert proxy.count() == 0


def test_a_key_without_a_secret_and_a_profile_that_is_not_there(fresh, bucket):
    fresh(AWS_SECRET_ACCESS_KEY=None)
    assert f"(PartialCredentialsError); {CREDENTIALS}" in complaint(stores.read_bytes, f"{bucket}/a")
    fresh(AWS_PROFILE="none")
    with pytest.raises(UserError, match="AWS_PROFILE names no profile of the AWS files; correct AWS_PROFILE"):
        stores.read_bytes(f"{bucket}/a")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ExpiredToken", f"the session token has expired (ExpiredToken); {CREDENTIALS}, and a new AWS_SESSION_TOKEN"),
        ("RequestTimeTooSkewed", "the object store's clock differs from this machine's (RequestTimeTooSkewed); set"),
        ("AuthorizationHeaderMalformed", "(AuthorizationHeaderMalformed); set AWS_REGION to the bucket's region"),
    ],
)
@pytest.mark.usefixtures("fresh")
def test_other_refusals(bucket, proxy, code, message):
    proxy.inject(Fault("", "status", times=-1, status=403, code=code))
    assert message in complaint(stores.read_bytes, f"{bucket}/a")


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("look", [stores.exists, stores.file_size])
def test_a_lookup_tells_why_it_was_refused_although_its_answer_has_no_body(bucket, proxy, look):
    proxy.inject(Fault("", "status", times=-1, status=400, code="ExpiredToken"))
    assert "the session token has expired (ExpiredToken)" in complaint(look, f"{bucket}/a")


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.usefixtures("fresh")
def test_a_missing_bucket(proxy, name):
    message = complaint(CALLS[name], "s3://no-such-bucket/a")
    assert "the bucket does not exist (NoSuchBucket); create the bucket, or correct its name" in message
    assert proxy.count() <= 2


@pytest.mark.usefixtures("fresh")
def test_a_bucket_itself_may_be_looked_up_and_is_never_made(client, bucket):
    assert stores.exists(bucket)
    assert not stores.exists("s3://no-such-bucket")
    storage = run_storage("s3://no-such-bucket/a")
    storage["storage_filesystem"].create_dir(storage["storage_path"], recursive=True)
    assert not client.exists("no-such-bucket")


@pytest.mark.usefixtures("fresh")
def test_no_name_of_a_bucket():
    assert "is no valid name for a bucket" in complaint(stores.read_bytes, "s3://UPPER_case!/a")


def test_the_endpoint_is_down(fresh, bucket):
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        port = closed_soon.getsockname()[1]
    fresh(AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}")
    message = complaint(stores.read_bytes, f"{bucket}/a")
    assert "the object store cannot be reached: gave up after 5 attempts in " in message
    assert message.endswith("(no connection); check AWS_ENDPOINT_URL, the network and that it is running")


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9", "http://nowhere.invalid"])
def test_the_endpoint_is_no_endpoint(fresh, bucket, endpoint):
    fresh(AWS_ENDPOINT_URL=endpoint)
    assert "check AWS_ENDPOINT_URL" in complaint(stores.read_bytes, f"{bucket}/a")


@pytest.fixture
def readable(fresh, server, client, bucket) -> str:
    """URL of an object that the present user may read, in a bucket that this user may not list."""
    client.pipe_file(f"{bucket}/data/a", b"content")
    client.call_s3(
        "put_object_acl",
        Bucket=bucket.removeprefix("s3://"),
        Key="data/a",
        AccessControlPolicy={
            "Owner": {"ID": "dpt:admin", "DisplayName": "dpt:admin"},
            "Grants": [{"Grantee": {"ID": READER_KEY, "Type": "CanonicalUser"}, "Permission": "READ"}],
        },
    )
    fresh(AWS_ACCESS_KEY_ID=READER_KEY, AWS_SECRET_ACCESS_KEY=READER_SECRET)
    return f"{bucket}/data/a"


def test_a_user_who_may_get_but_not_list(readable, proxy):
    assert stores.read_bytes(readable) == b"content"
    assert stores.read_range(readable, 1, 3) == b"on"
    assert stores.exists(readable)
    assert proxy.count() == 3
    folder = readable.removesuffix("/a")
    for call in (stores.list_files, stores.list_folders, stores.list_tree):
        assert "cannot be listed (permission denied); check that" in complaint(call, folder)
    assert "cannot be written (permission denied); check that" in complaint(CALLS["write_bytes"], readable)
    assert "cannot be written (permission denied); check that" in complaint(stores.check_writable, folder)
