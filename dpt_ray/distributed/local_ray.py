"""A Ray of one's own on this machine, closed to the machine's other users.

Whoever reaches a port of Ray without its token can run code as the user who started it. So a local Ray asks for a token
that is made for this process, listens on the loopback address alone, serves no metrics (which Ray gives without the
token), and keeps its files and sockets in a folder that only the user can enter.
"""

import atexit
import os
import secrets
import shlex
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpt_ray.distributed.private_folder import make_private_folder, remove_private_folder

TOKEN_FILE = "token"
RAY_FOLDER = "r"
"""Ray opens its temporary folder to everybody (mode 0777), so it lies inside one that stays closed."""

WITHOUT_METRICS = {"AUTOSCALER_METRIC_PORT": "-1", "DASHBOARD_METRIC_PORT": "-1"}
"""Ray's monitor and dashboard have no switch for their metrics; on a port that does not exist they log an error and go
on. The third server of metrics, each node's agent, has the switch `enable_metrics_collection`."""

_folders: dict[int, Path] = {}
"""The private folder of this process, by its number: a forked process must not use, or remove, its parent's."""


def set_environment() -> None:
    """Set what a Ray on this machine alone reads from the environment, best before Ray is imported."""
    # Ray's switch for machines that join no cluster: its node and its servers take the loopback address.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    constants: Any = sys.modules.get("ray._private.ray_constants")
    if constants is not None:  # Ray was imported already and has read the environment
        constants.ENABLE_RAY_CLUSTER = False


def start_local_ray(**settings: Any) -> None:
    """Start a Ray with a token of its own and connect to it.

    Args:
        settings: further arguments of `ray.init`.

    Raises:
        UserError: there is no folder that Ray could be started in.
    """
    folder = _private_folder()
    _use_token(folder / TOKEN_FILE)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(_compiled_code_folder(folder)))
    import ray
    from ray._raylet import (  # type: ignore[attr-defined]  # Cython: Ray's stubs lack them
        AuthenticationMode,
        AuthenticationTokenLoader,
        get_authentication_mode,
    )

    AuthenticationTokenLoader.instance().reset_cache()  # an earlier Ray of this process may have had another token
    with _environment(WITHOUT_METRICS):
        ray.init(
            address="local",
            include_dashboard=False,
            _temp_dir=str(folder / RAY_FOLDER),
            _system_config={"enable_metrics_collection": False},
            runtime_env=runtime_environment(),
            **settings,
        )
    if get_authentication_mode() != AuthenticationMode.TOKEN:
        ray.shutdown()
        raise RuntimeError("Ray started without asking for its token")


def runtime_environment() -> dict[str, str]:
    """Return what Ray must know of this Python.

    Ray starts workers that have environment variables of their own, as those of Ray Train, by a line for a shell, and
    does not quote the path of Python in it.
    """
    quoted = shlex.quote(sys.executable)
    return {} if quoted == sys.executable else {"py_executable": quoted}


def _private_folder() -> Path:
    """Return this process's folder; it is made at the first call and removed when the process ends."""
    process = os.getpid()
    if process not in _folders:
        _folders[process] = make_private_folder()
        atexit.register(_end, process)
    return _folders[process]


def _end(process: int) -> None:
    if process != os.getpid():  # a forked process that ends
        return
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()  # it must not write into what is removed
    remove_private_folder(_folders.pop(process))


def _use_token(path: Path) -> None:
    """Let this process, and those that it starts, use the token of a file, which is made unless it is there."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)
    os.environ.pop("RAY_AUTH_TOKEN", None)  # it would go before the file
    # Without a mode, Ray turns the token on for a Ray that it starts, also if it has read the environment already.
    os.environ.pop("RAY_AUTH_MODE", None)


def _compiled_code_folder(private: Path) -> Path:
    """Return where compiled networks are kept: among the user's caches, or in `private` if that is no safe place.

    By default torch loads them from a folder in /tmp of a known name, in which another user may put code beforehand.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpt_ray"
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = cache.lstat()
        safe = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    except (OSError, RuntimeError):
        safe = False
    return (cache if safe else private) / "compiled"


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables for processes that are started meanwhile."""
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
