"""A local object store with the S3 protocol: all servers of OpenStack Swift in one process.

It is for tests and for trying out: it keeps one copy of each object in a folder and runs none of Swift's repair
services. The file system of the folder must support extended user attributes, as ext4, xfs and tmpfs do.
"""

# ruff: noqa: E402 - eventlet must patch the standard library before other modules import from it
import eventlet

eventlet.monkey_patch()

import argparse
import logging
import os
import secrets
import sys
from pathlib import Path

from eventlet import wsgi

sys.path.insert(0, str(Path(__file__).parent))  # Swift imports memory_cache by name

from swift_files import KINDS, write_common, write_inner, write_outer

USERS_VARIABLE = "OBJECT_STORE_USERS"
DEFAULT_USER = "dpt:admin"


def main() -> None:
    """Serve until killed. The line with the address is printed once requests are answered."""
    options = _options()
    os.umask(0o077)  # the configuration holds the secrets
    folder = options.folder.resolve()
    settings, data = folder / "settings", folder / "data"
    for private in (settings, data):
        private.mkdir(parents=True, exist_ok=True)
        private.chmod(0o700)  # mkdir leaves the mode of an existing folder
    _use_settings(settings)
    users = _users(folder)
    _start_inner(settings, data)
    socket = eventlet.listen((options.bind, options.port))
    port = socket.getsockname()[1]
    server = _spawn(socket, write_outer(settings, options.bind, port, options.region, users))
    print(f"listening on http://{options.bind}:{port} for the data in {folder}", flush=True)
    if USERS_VARIABLE not in os.environ:
        _print_variables(f"http://{options.bind}:{port}", options.region, users)
    server.wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="A local object store that speaks S3.",
        epilog=f"Users come from the variable {USERS_VARIABLE}, as in 'account:admin=secret,account:reader=secret'. "
        "Without it there is one user, whose secret is drawn at the first start.",
    )
    parser.add_argument("folder", type=Path, help="holds the objects and the configuration")
    parser.add_argument("--port", type=int, default=9120, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--bind", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--region", default="us-east-1", help="region of signed requests (default: %(default)s)")
    return parser.parse_args()


def _use_settings(settings: Path) -> None:
    os.environ["SWIFT_DIR"] = str(settings)
    from swift.common import storage_policy, utils

    utils.SWIFT_CONF_FILE = str(write_common(settings))
    storage_policy.reload_storage_policies()


def _users(folder: Path) -> dict[str, str]:
    """Return the secret of each key, from the environment or from a file that the first start writes."""
    listed = os.environ.get(USERS_VARIABLE)
    if listed:
        return dict(entry.strip().split("=", 1) for entry in listed.split(","))
    kept = folder / "secret"
    if not kept.exists():
        kept.write_text(secrets.token_urlsafe(24))
    kept.chmod(0o600)
    return {DEFAULT_USER: kept.read_text()}


def _start_inner(settings: Path, data: Path) -> None:
    from private_listener import ADDRESS, PrivateListener, use_private_connections

    (data / "disk").mkdir(parents=True, exist_ok=True)
    use_private_connections()
    for number, kind in enumerate(KINDS, start=1):
        _spawn(PrivateListener(number), write_inner(settings, kind, ADDRESS, number, data))


def _spawn(socket, configuration: Path):
    from swift.common.wsgi import SwiftHttpProtocol, loadapp

    application = loadapp(str(configuration), global_conf={"log_level": "ERROR"})
    return eventlet.spawn(
        wsgi.server, socket, application, _silent_log(), protocol=SwiftHttpProtocol, max_size=256, log_output=False
    )


def _silent_log() -> logging.Logger:
    log = logging.getLogger("object_store.access")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    return log


def _print_variables(url: str, region: str, users: dict[str, str]) -> None:
    (key, secret), *_ = users.items()
    print("use it with:")
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": region,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
    }.items():
        print(f"  export {name}={value}", flush=True)


if __name__ == "__main__":
    main()
