"""Faults of network and store: what passes by itself ends in the right bytes, what doesn't in one line, soon."""

import logging
import time
import uuid

import pytest
from fault_proxy import Fault

from dpt_ray.data.storage import retries, stores
from dpt_ray.errors import UserError

CONTENT = bytes(range(256)) * 1024
PASSING = [
    Fault("", "status", status=503, code="SlowDown"),
    Fault("", "status", status=500, code="InternalError"),
    Fault("", "status", status=502, code=""),
    Fault("", "status", status=429, code="TooManyRequests"),
    Fault("", "status", status=503, code="RequestLimitExceeded"),
    Fault("", "status", status=400, code="RequestTimeout"),
    Fault("", "reset"),
    Fault("", "lost"),
]
READING = [
    Fault("GET", "reset_body", after=0),
    Fault("GET", "reset_body", after=100_000),
    Fault("GET", "cut_body", after=0),
    Fault("GET", "cut_body", after=100_000),
]


def named(fault: Fault) -> str:
    return "-".join(str(part) for part in (fault.kind, fault.status, fault.code, fault.after))


@pytest.fixture
def quick(monkeypatch):
    """Waits too short to notice; all other limits as they are."""
    monkeypatch.setattr(retries, "LONGEST_WAIT_SECONDS", 0.01)


@pytest.fixture
def file(aws, shared_bucket, proxy) -> str:
    """URL of a file of `CONTENT` in a folder of its own."""
    url = stores.join(shared_bucket, uuid.uuid4().hex, "file.bin")
    stores.write_bytes(url, CONTENT)
    proxy.clear()
    return url


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", PASSING + READING, ids=named)
def test_a_file_is_read_whole_through_faults(file, proxy, fault):
    for times in (1, 5):
        proxy.clear()
        proxy.inject(Fault(**{**vars(fault), "match": "GET", "times": times}))
        assert stores.read_bytes(file) == CONTENT
        assert proxy.count() == times + 1
        assert stores.read_range(file, 1000, 200_000) == CONTENT[1000:200_000]
        assert proxy.count() == times + 2


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", PASSING, ids=named)
def test_a_file_is_written_whole_through_faults(file, client, proxy, fault):
    for times, content in ((1, CONTENT[::-1]), (5, CONTENT)):
        proxy.clear()
        proxy.inject(Fault(**{**vars(fault), "match": "PUT", "times": times}))
        stores.write_bytes(file, content)
        assert proxy.count() == times + 1
        assert client.cat_file(file) == content


OPERATIONS = {
    "exists": lambda folder: stores.exists(stores.join(folder, "file.bin")) and stores.exists(folder),
    "absent": lambda folder: not stores.exists(stores.join(folder, "none")),
    "list_files": lambda folder: [file["name"] for file in stores.list_files(folder)] == ["file.bin"],
    "list_folders": lambda folder: stores.list_folders(folder) == [],
    "list_tree": lambda folder: [file["name"] for file in stores.list_tree(folder)] == ["file.bin"],
    "check_writable": lambda folder: stores.check_writable(folder) is None,
    "remove_tree": lambda folder: stores.remove_tree(folder) is None and not stores.exists(folder),
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["status", "reset", "lost"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_gets_through_faults(file, proxy, name, kind):
    folder = file.rpartition("/")[0]
    assert OPERATIONS[name](folder)
    if name == "remove_tree":
        stores.write_bytes(file, CONTENT)
    undisturbed = proxy.count()
    proxy.clear()
    proxy.inject(*(Fault(method, kind, times=2) for method in ("HEAD", "GET", "PUT", "POST", "DELETE")))
    assert OPERATIONS[name](folder)
    assert undisturbed / 2 < proxy.count() <= undisturbed + 2 * 5


@pytest.mark.usefixtures("quick")
def test_a_hanging_server_is_asked_again(file, proxy, monkeypatch):
    from dpt_ray.data.storage.object_store import ObjectStore

    monkeypatch.setattr(ObjectStore, "read_timeout", 0.5)
    ObjectStore.clear_instance_cache()
    proxy.inject(Fault("GET", "hang", times=2))
    assert stores.read_bytes(file) == CONTENT
    assert proxy.count() == 3


@pytest.mark.usefixtures("quick")
def test_a_server_that_takes_nothing_in_is_asked_again(file, client, proxy, monkeypatch):
    monkeypatch.setattr(retries, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(retries, "READ_SECONDS", 0.5)
    proxy.inject(Fault("PUT", "slow", rate=1000))
    stores.write_bytes(file, CONTENT[:30_000])
    assert proxy.count() == 2
    assert client.cat_file(file) == CONTENT[:30_000]


def test_a_slow_body_is_no_fault(file, proxy):
    proxy.inject(Fault("GET", "slow", rate=200_000))
    assert stores.read_bytes(file) == CONTENT
    assert proxy.count() == 1


@pytest.mark.usefixtures("quick")
def test_a_large_file_goes_up_in_parts_through_faults(file, client, proxy):
    """Also when the answer to the last request of all is lost, after which the parts are gone."""
    content = CONTENT * 50
    filesystem, path = stores.filesystem(file)
    proxy.inject(
        Fault("POST .*uploads", "status"),
        Fault("PUT .*partNumber=2", "reset", times=2),
        Fault("POST .*uploadId", "lost"),
    )
    filesystem.pipe_file(path, content, chunksize=5 * 2**20)
    assert proxy.count("PUT") == 3 + 2
    assert client.cat_file(path) == content
    assert client.info(path)["ETag"].endswith('-3"')


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (404, "NoSuchKey"), (400, "InvalidRequest")])
def test_what_will_not_pass_is_asked_once(file, proxy, status, code):
    proxy.inject(Fault("GET", "status", times=-1, status=status, code=code))
    with pytest.raises(UserError, match=r"cannot be read|does not exist"):
        stores.read_bytes(file)
    assert proxy.count() == 1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("", "status"), "HTTP status 503, SlowDown"),
        (Fault("", "status", status=500, code="InternalError"), "HTTP status 500, InternalError"),
        (Fault("", "reset"), "the connection was closed"),
        (Fault("GET", "cut_body", after=1000), "the answer was cut short"),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_a_lasting_fault_ends_in_one_line(file, proxy, fault, reason):
    proxy.inject(Fault(**{**vars(fault), "times": -1}))
    with pytest.raises(UserError) as caught:
        stores.read_bytes(file)
    assert str(caught.value).startswith(f"{file}: the object store keeps failing: gave up after 10 attempts in ")
    assert f"({reason}); run the same command again" in str(caught.value)
    # The HTTP library itself sends a request once more, without a wait, where an open connection proves dead.
    assert proxy.count() == retries.ATTEMPTS * (2 if fault.kind == "reset" else 1)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["status", "reset"])
def test_a_write_that_failed_for_good_leaves_the_old_content_or_nothing(file, client, proxy, kind):
    proxy.inject(Fault("PUT", kind, times=-1))
    for url in (file, f"{file}.new"):
        with pytest.raises(UserError, match="gave up after 10 attempts"):
            stores.write_bytes(url, b"new")
    proxy.clear()
    proxy.inject(Fault("PUT .*partNumber=2", kind, times=-1))
    filesystem, path = stores.filesystem(f"{file}.large")
    with pytest.raises(UserError, match="gave up after 10 attempts"):
        filesystem.pipe_file(path, CONTENT * 50, chunksize=5 * 2**20)
    assert client.cat_file(file) == CONTENT
    assert client.find(file.rpartition("/")[0]) == [file.removeprefix("s3://")]


@pytest.mark.usefixtures("quick")
def test_waiting_can_be_seen_from_the_second_failure_on(file, proxy, caplog, capsys):
    with caplog.at_level(logging.WARNING, "dpt_ray.storage"):
        proxy.inject(Fault("GET", "status"))
        stores.read_bytes(file)
        assert caplog.messages == []
        proxy.inject(Fault("GET", "status", times=3))
        stores.read_bytes(file)
    assert [message.split("; the next in")[0] for message in caplog.messages] == [
        f"{file}: {failures} attempts failed (HTTP status 503, SlowDown)" for failures in (2, 3)
    ]
    assert capsys.readouterr().out == ""


def test_objects_that_were_not_removed_are_no_silent_success(file, proxy, monkeypatch):
    """S3 refuses to remove single objects in an answer with status 200."""
    from s3fs import S3FileSystem

    answer = {"Errors": [{"Key": "file.bin", "Code": "AccessDenied", "Message": ""}]}
    original = S3FileSystem._call_s3

    async def refuse(self, method, *defaults, **parameters):
        return answer if method == "delete_objects" else await original(self, method, *defaults, **parameters)

    monkeypatch.setattr(S3FileSystem, "_call_s3", refuse)
    with pytest.raises(UserError, match=r"cannot be removed \(permission denied\)"):
        stores.remove_tree(file.rpartition("/")[0])


def test_the_waits_grow_and_are_bounded():
    waits = [retries.longest_wait(failures) for failures in range(1, retries.ATTEMPTS)]
    assert waits[:3] == [0.5, 1.0, 2.0]
    assert waits == sorted(waits)
    assert waits[-1] == retries.LONGEST_WAIT_SECONDS
    assert 60 <= sum(waits) <= 90


def test_the_longest_that_a_request_can_take_is_a_minute_and_a_half():
    """No attempt begins after GIVE_UP_SECONDS, and one that is never answered ends after its own limits."""
    assert retries.GIVE_UP_SECONDS + retries.CONNECT_SECONDS + retries.READ_SECONDS <= 90


def test_no_attempt_begins_after_the_time_to_give_up(file, proxy, monkeypatch):
    monkeypatch.setattr(retries, "GIVE_UP_SECONDS", 1.0)
    monkeypatch.setattr(retries, "ATTEMPTS", 1000)
    monkeypatch.setattr(retries, "LONGEST_WAIT_SECONDS", 0.3)
    proxy.inject(Fault("GET", "status", times=-1))
    start = time.monotonic()
    with pytest.raises(UserError, match="gave up after"):
        stores.read_bytes(file)
    assert time.monotonic() - start < 2.5
