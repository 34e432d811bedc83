"""A local Ray of this process, closed to other users of the machine.

Anybody who reaches a port of Ray without a token can run code as the user who started it. So a local Ray requires a
token that this process generates, listens on the loopback address alone, and keeps its files and sockets in a folder
that only the user can enter. It serves no metrics, since Ray serves those without the token.
"""

import atexit
import os
import secrets
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpt_ray.distributed.code_folder import FOLDER_VARIABLE, private_code_folder
from dpt_ray.distributed.folder_guard import start_guard
from dpt_ray.distributed.private_folder import make_private_folder, remove_private_folder
from dpt_ray.errors import TryAgainError

TOKEN_FILE = "token"
RAY_FOLDER = "r"
"""Ray makes its temporary folder accessible to everybody (mode 0777), so it lies inside a private one."""

WITHOUT_METRICS = {"AUTOSCALER_METRIC_PORT": "-1", "DASHBOARD_METRIC_PORT": "-1"}
"""Ray's monitor and dashboard have no setting that turns their metrics off. With an invalid port they log an error and
continue. The agent of each node, which is the third server of metrics, has the setting `enable_metrics_collection`."""

START_SECONDS = 120.0
"""Longest time in which Ray's processes must start."""

_folders: dict[int, Path] = {}
"""Process id -> private folder. A forked process must neither use nor remove the folder of its parent."""


def set_environment() -> None:
    """Set the environment variables that a local Ray reads, if possible before Ray is imported."""
    # Ray's setting for machines that join no cluster: its node and its servers take the loopback address.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


def start_local_ray(**settings: Any) -> None:
    """Start a Ray with its own token and connect to it.

    Args:
        settings: further arguments of `ray.init`.

    Raises:
        UserError: no folder is usable for Ray's temporary files.
        TryAgainError: Ray's processes did not start in time.
    """
    folder = _private_folder()
    _use_token(folder / TOKEN_FILE)
    os.environ.setdefault(FOLDER_VARIABLE, str(private_code_folder(folder)))
    import ray

    from dpt_ray.distributed import ray_internals

    ray_internals.leave_clusters()
    ray_internals.forget_token()
    with (
        _environment(WITHOUT_METRICS | _temporary_folder(folder)),
        ray_internals.agents_on_free_ports(),
        ray_internals.patient_start(START_SECONDS),
    ):
        # Ray documents `_temp_dir` and `_system_config` for `ray.init`, without a promise to keep them.
        _init(
            address="local",
            include_dashboard=False,
            _temp_dir=str(folder / RAY_FOLDER),
            _system_config={"enable_metrics_collection": False},
            runtime_env=runtime_environment(),
            **settings,
        )
    if not ray_internals.requires_token():
        ray.shutdown()
        raise RuntimeError("Ray started without requiring its token")


def _init(**settings: Any) -> None:
    """Call `ray.init`.

    Raises:
        TryAgainError: they did not start in time.
    """
    import ray

    try:
        ray.init(**settings)
    except Exception as error:  # Ray raises no type of its own
        if "timed out during startup" not in str(error):
            raise
        fix = "if it does not start again, run fewer jobs on this machine at a time"
        raise TryAgainError("Ray did not start in time", fix=fix) from error


def runtime_environment() -> dict[str, str]:
    """Return the runtime environment that names this Python.

    Ray starts workers with their own environment variables, such as those of Ray Train, by a shell command, and does
    not quote the path of Python in it.
    """
    quoted = shlex.quote(sys.executable)
    return {} if quoted == sys.executable else {"py_executable": quoted}


def _private_folder() -> Path:
    """Return this process's private folder. The first call makes it, and the end of the process removes it."""
    process = os.getpid()
    if process not in _folders:
        _folders[process] = make_private_folder()
        start_guard(_folders[process])
        atexit.register(_end, process)
    return _folders[process]


def _end(process: int) -> None:
    if process != os.getpid():  # a forked process has inherited this function
        return
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()  # Ray must not write into the folder while it is removed
    remove_private_folder(_folders.pop(process))


def end_local_ray() -> None:
    """Kill the processes of this process's local Ray, and remove its folder. The process must end now."""
    if "ray" in sys.modules and os.getpid() in _folders:
        from dpt_ray.distributed import ray_internals

        ray_internals.kill_local_processes()
        remove_private_folder(_folders.pop(os.getpid()))


def _use_token(path: Path) -> None:
    """Let this process and its children use the token in a file, which is written if it is absent."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)
    os.environ.pop("RAY_AUTH_TOKEN", None)  # it would take precedence over the file
    # Without a mode, Ray requires a token of the Ray that it starts, even if it has read the environment already.
    os.environ.pop("RAY_AUTH_MODE", None)


def _temporary_folder(private: Path) -> dict[str, str]:
    """Return the variable by which the processes of a local Ray keep temporary files in the private folder.

    So what a killed process leaves behind is removed with that folder. A folder that the user has chosen is left alone
    unless the private folder lies in it.
    """
    if private.parent != Path(tempfile.gettempdir()):
        return {}
    folder = private / "tmp"
    folder.mkdir(mode=0o700, exist_ok=True)
    return {"TMPDIR": str(folder)}


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables for the processes that start within the context."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
