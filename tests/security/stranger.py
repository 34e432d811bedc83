"""What another user of the machine can do: processes of uid 65534 that try ports, files and Ray itself.

Run as a program, it gives up root's rights for good and then does the action that it was asked for, with the clients
that a stranger could bring along: Ray of the same version, HTTP and gRPC.
"""

import http.client
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

STRANGER = 65534
"""`nobody`: in no group of ours, owner of nothing."""
SECONDS = 240

needs_root = pytest.mark.skipif(
    os.getuid() != 0, reason="NEIGHBOURS NOT TRIED: only root can start processes of another user"
)


def as_stranger(action, *arguments):
    """Return what a function of this module gives when another user calls it; all of it must fit into JSON."""
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH")}
    environment |= {
        "HOME": "/nonexistent",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the loopback address
        "RAY_NUM_REDIS_GET_RETRIES": "2",  # seconds in which Ray's client asks again after it was refused
    }
    result = subprocess.run(
        [sys.executable, __file__, action.__name__],
        input=json.dumps(arguments),
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def process_tree(process: int) -> list[psutil.Process]:
    """Return a process and all that it started."""
    parent = psutil.Process(process)
    return [parent, *parent.children(recursive=True)]


def command(process: psutil.Process) -> str:
    """Return a process's command line; empty if it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def listening_ports(processes: Iterable[psutil.Process]) -> dict[int, str]:
    """Return port -> command of everything that listens on TCP, at whatever address."""
    found = {}
    for process in processes:
        try:
            connections = process.net_connections("inet")
        except psutil.NoSuchProcess:
            continue
        found |= {each.laddr.port: command(process) for each in connections if each.status == psutil.CONN_LISTEN}
    return found


def files_in_use(processes: Iterable[psutil.Process]) -> set[str]:
    """Return files, shared memory and Unix sockets that processes have open and that still have a name."""
    found: set[str] = set()
    for process in processes:
        try:
            found |= {os.readlink(link) for link in Path(f"/proc/{process.pid}/fd").iterdir()}
            found |= {mapped.path for mapped in process.memory_maps() if mapped.path.startswith("/dev/shm")}
            found |= {each.laddr for each in process.net_connections("unix") if each.laddr}
        except (OSError, psutil.NoSuchProcess):
            continue
    found = {path for path in found if not path.startswith("/dev/") or path.startswith("/dev/shm")}
    return {path for path in found if path.startswith("@") or (path.startswith("/") and os.path.exists(path))}


def private_views(processes: Iterable[psutil.Process]) -> list[str]:
    """Return what Linux shows of a process to its owner alone: variables, open files (removed ones too), memory."""
    return [f"/proc/{process.pid}/{view}" for process in processes for view in ("environ", "fd", "mem", "cwd")]


def below(folder: Path) -> list[str]:
    """Return a folder and everything in it."""
    return [str(folder), *(os.path.join(place, name) for place, more, some in os.walk(folder) for name in more + some)]


def open_to_others(folder: Path) -> list[str]:
    """Return files and folders whose mode lets others do anything, if they reach them."""
    found = []
    for path in map(Path, below(folder)):
        status = path.lstat()
        if not stat.S_ISLNK(status.st_mode) and status.st_mode & 0o077:
            found.append(f"{path}: {stat.filemode(status.st_mode)}")
    return found


def ray_methods() -> list[str]:
    """Return all methods of Ray's own protocol that answer one message with one, and two that exist in C++ alone.

    Left out is the one by which nodes exchange what they know: in Ray 2.60 a call of it without the header that names a
    node ends the process before the token is asked for (docs/security.md).
    """
    from dpt_ray.distributed.ray_internals import protocol_services

    methods = {"/ray.rpc.ObjectManagerService/Push", "/ray.rpc.ObjectManagerService/Pull"}
    for service in protocol_services():
        methods |= {f"/{service.full_name}/{method.name}" for method in service.methods}
    return sorted(method for method in methods if not method.endswith("/StartSync"))


# What the stranger does.


def reach(paths: list[str]) -> list[str]:
    """Return those paths that can be read, written or, if they are sockets, connected to."""
    return [path for path in paths if os.access(path, os.R_OK) or os.access(path, os.W_OK)]


def request(url_ports: list[int], requests: list[list]) -> list[list]:
    """Send every request (method, path, headers, body) to every port; give port, method, path and what was answered.

    The answer is the status, or text where the port does not speak HTTP/1.
    """
    answers = []
    for port in url_ports:
        for method, path, headers, body in requests:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                connection.request(method, path, body=body, headers=headers)
                answer = connection.getresponse().status
            except (http.client.HTTPException, OSError) as error:
                answer = type(error).__name__
            finally:
                connection.close()
            answers.append([port, method, path, answer])
    return answers


def call(ports: list[int], methods: list[str], token: str | None) -> list[list]:
    """Call every method of gRPC at every port; give port, method and the name of the status."""
    import grpc

    answers = []
    for port in ports:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            for method in methods:
                try:
                    headers = [("authorization", f"Bearer {token}")] if token else []
                    channel.unary_unary(method)(b"", timeout=30, metadata=headers)
                    status = "OK"
                except grpc.RpcError as error:
                    status = error.code().name
                answers.append([port, method, status])
                if status == "UNAVAILABLE":  # it speaks HTTP/1
                    break
    return answers


def join(address: str, token: str | None) -> str:
    """Try to become part of a cluster with Ray's own client; give what came of it."""
    if token:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level="CRITICAL")
        return f"joined {ray.nodes()}"
    except Exception as error:
        return f"{type(error).__name__}: {error}; {error.__cause__}"


def try_ray(ports: list[int], requests: list[list], methods: list[str], address: str, token: str | None) -> dict:
    """Try all of it: give the answers to `request`, `call` and `join`."""
    return {"HTTP": request(ports, requests), "gRPC": call(ports, methods, token), "Ray": join(address, token)}


def _find_modules_from(folder: str) -> None:
    """Enter the folder of Python's own modules and import from there; folders above it may be closed to a stranger."""
    os.chdir(folder)
    sys.path[:] = [entry.replace(folder, "/proc/self/cwd") for entry in sys.path]
    sys.path_importer_cache.clear()
    for module in list(sys.modules.values()):
        if getattr(module, "__path__", None):
            module.__path__ = [entry.replace(folder, "/proc/self/cwd") for entry in module.__path__]


if __name__ == "__main__":
    chosen = globals()[sys.argv[1]]
    _find_modules_from(os.path.dirname(os.__file__))
    os.setgroups([])
    os.setgid(STRANGER)
    os.setuid(STRANGER)
    result = chosen(*json.load(sys.stdin))
    sys.stdout.write("\n" + json.dumps(result) + "\n")
    sys.stdout.flush()
    os._exit(0)  # a client of Ray that was refused may wait at the end
