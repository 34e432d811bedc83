"""Another user of the machine, uid 65534, against a local Ray, a head and the object store: every port, every file."""

import os
import re
from pathlib import Path

import psutil
import pytest
from stranger import (
    as_stranger,
    below,
    command,
    files_in_use,
    listening_ports,
    needs_root,
    open_to_others,
    private_views,
    process_tree,
    ray_methods,
    reach,
    request,
    try_ray,
)

pytestmark = needs_root

REPOSITORY = Path(__file__).parents[2]
JOB = '{"entrypoint": "touch /tmp/harm"}'
JSON = {"Content-Type": "application/json"}
RAY_REQUESTS = [
    ["GET", path, {}, None]
    for path in ("/", "/metrics", "/api/jobs/", "/api/v0/tasks", "/nodes?view=summary", "/api/cluster_status",
                 "/logical/actors", "/api/v0/logs", "/worker/traceback?pid=1", "/log_proxy", "/api/job_agent/jobs/")
] + [
    ["POST", path, JSON, JOB]
    for path in ("/api/jobs/", "/api/job_agent/jobs/", "/get_or_create_runtime_env", "/api/serve/applications/")
]  # fmt: skip
REFUSED = (401, 403)


def _refuses_whoever_has_no_token(ports: list[int], address: str, page: int | None = None) -> None:
    """Check all that a stranger may ask of Ray's ports.

    Args:
        ports: what listens.
        address: of the control store.
        page: the port that shows the dashboard's page, which is empty without a token.
    """
    spoken = {port: set() for port in ports}
    for token in (None, "f" * 64):
        header = {"Authorization": f"Bearer {token}"} if token else {}
        asked = [[method, path, headers | header, body] for method, path, headers, body in RAY_REQUESTS]
        tried = as_stranger(try_ray, ports, asked, ray_methods(), address, token)
        for port, method, path, answer in tried["HTTP"]:
            if port == page and (method, path) == ("GET", "/"):
                assert answer == 200
            elif isinstance(answer, int):
                spoken[port].add("HTTP")
                assert answer in (*REFUSED, 404, 405), f"port {port}: {method} {path} gave {answer}"
        for port, method, status in tried["gRPC"]:
            if status == "UNAUTHENTICATED":
                spoken[port].add("gRPC")
            assert status in ("UNAUTHENTICATED", "UNIMPLEMENTED", "UNAVAILABLE"), f"port {port}: {method} gave {status}"
        assert "joined" not in tried["Ray"]
        assert "AuthenticationError" in tried["Ray"]
    assert all(spoken.values()), spoken  # each port was understood, and refused


def has_ended(path: str) -> bool:
    """Whether a file is one of a process that has ended: it has no memory any more, and the kernel asks nobody."""
    if not (found := re.match(r"/proc/(\d+)/", path)):
        return False
    try:
        return Path(found[0], "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_a_local_ray_is_closed_at_every_port_and_file(local_ray):
    import ray

    # A worker, and an object that is too large for anything but shared memory.
    kept = ray.put(b"a secret" * 2**20)
    worker = ray.get(ray.remote(lambda: os.getpid()).remote())
    processes = process_tree(os.getpid())
    assert worker in {process.pid for process in processes}
    ports = listening_ports(processes)
    assert len(ports) >= 6
    _refuses_whoever_has_no_token(list(ports), ray.get_runtime_context().gcs_address)

    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    folder = token.parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert token.stat().st_mode & 0o777 == 0o600
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert Path(ray.get_runtime_context().get_temp_dir()).is_relative_to(folder)
    used = files_in_use(process for process in processes if process.pid != os.getpid())
    assert any(path.startswith(f"{folder}/") and "/sockets/" in path for path in used)
    assert not [path for path in used if path.startswith("@")]  # a socket that no folder protects
    everything = [*below(folder), *used, *private_views(processes)]
    assert [path for path in as_stranger(reach, everything) if not has_ended(path)] == []
    secret = token.read_text()
    assert not [process for process in processes if secret in command(process)]  # which all may read
    assert ray.get(kept)[:8] == b"a secret"


@pytest.mark.ray_start
def test_a_head_is_closed_at_every_port_and_file(tmp_path):
    from head import ray_head

    tmp_path.chmod(0o755)
    with ray_head(tmp_path, {}, cpus=1) as head:
        (start,) = [process for process in psutil.Process().children() if "--block" in command(process)]
        mine = process_tree(start.pid)
        ports = listening_ports(mine)
        assert len(ports) >= 7, (tmp_path / "head.log").read_text()
        page = int(head.url.rpartition(":")[2])
        (gcs,) = [port for port, command in ports.items() if "gcs_server" in command]
        _refuses_whoever_has_no_token(list(ports), f"127.0.0.1:{gcs}", page)
        used = files_in_use(mine)
        assert any("/sockets/" in path for path in used)
        token = head.environment["RAY_AUTH_TOKEN_PATH"]
        assert as_stranger(reach, [*used, token, *private_views(mine)]) == []
        secret = Path(token).read_text()
        assert not [process for process in mine if secret in command(process)]
    assert not Path(token).exists()


OWNERS = {"bucket": "private", "object": "weights.bin"}
STORE_PATHS = (
    "/",
    "/{bucket}",
    "/{bucket}?list-type=2",
    "/{bucket}?acl",
    "/{bucket}/{object}",
    "/{bucket}/{object}?acl",
    "/info",
    "/healthcheck",
    "/auth/v1.0",
    "/v1/AUTH_dpt",
    "/v1/AUTH_dpt?format=json",
    "/v1/AUTH_dpt/{bucket}",
    "/v1/AUTH_dpt/{bucket}/{object}",
    "/disk/0/AUTH_dpt",
    "/disk/0/AUTH_dpt/{bucket}",
    "/disk/0/AUTH_dpt/{bucket}/{object}",
    "/recon/version",
)
"""What S3, Swift's own protocol and Swift's inner servers have."""
STORE_METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "REPLICATE", "UPDATE")
"""All but OPTIONS, which lists the methods, the same of everything."""
STORE_HEADERS = (
    {},
    {"X-Timestamp": "9999999999.00000", "X-Backend-Storage-Policy-Index": "0", "Content-Type": "text/plain"},
    {"Authorization": "AWS dpt:admin:AAAAAAAAAAAAAAAAAAAAAAAAAAA="},
    {"X-Auth-Token": "AUTH_tk" + "0" * 32},
    {"X-Auth-User": "dpt:admin", "X-Auth-Key": "guess"},
    {"X-Storage-Token": "x", "X-Forwarded-For": "127.0.0.1", "X-Backend-Allow-Reserved-Names": "true"},
)


@pytest.fixture
def store(tmp_path):
    """A store in a folder that everybody may enter, with an object of its owner's."""
    from bucket import object_store
    from s3fs import S3FileSystem

    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    with object_store(tmp_path) as variables:
        client = S3FileSystem(
            key=variables["AWS_ACCESS_KEY_ID"],
            secret=variables["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=variables["AWS_ENDPOINT_URL"],
            client_kwargs={"region_name": variables["AWS_REGION"]},
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        client.mkdir(OWNERS["bucket"])
        client.pipe_file("{bucket}/{object}".format(**OWNERS), b"of the owner")
        yield tmp_path, variables, client


def test_the_object_store_is_closed_at_every_port_and_file(store):
    folder, variables, client = store
    (server,) = [process for process in process_tree(os.getpid()) if "serve.py" in command(process)]
    processes = process_tree(server.pid)
    ports = listening_ports(processes)
    assert [f"http://127.0.0.1:{port}" for port in ports] == [variables["AWS_ENDPOINT_URL"]]
    asked = [
        [method, path.format(**OWNERS), headers, "of a stranger" if method in ("PUT", "POST") else None]
        for method in STORE_METHODS
        for path in STORE_PATHS
        for headers in STORE_HEADERS
    ]
    given = [answer for answer in as_stranger(request, list(ports), asked) if answer[-1] not in range(400, 500)]
    assert given == []
    assert client.cat_file("{bucket}/{object}".format(**OWNERS)) == b"of the owner"
    assert [Path(name).name for name in client.ls(OWNERS["bucket"])] == [OWNERS["object"]]

    assert as_stranger(reach, [*below(folder / "objects" / "data"), *below(folder / "objects" / "settings")]) == []
    assert as_stranger(reach, [str(folder / "object_store.log"), *files_in_use(processes)]) == []
    assert open_to_others(folder / "objects") == []
    assert as_stranger(reach, private_views(processes)) == []
    assert variables["AWS_SECRET_ACCESS_KEY"] not in command(server)


def test_a_folder_of_an_older_store_is_closed_at_the_next_start(tmp_path):
    from bucket import object_store

    for name in ("objects/settings", "objects/data"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name).chmod(0o755)
    with object_store(tmp_path):
        assert [path for path in ("settings", "data") if (tmp_path / "objects" / path).stat().st_mode & 0o077] == []
