"""Run the full job as in production on one machine: `ray job submit` to a head with a token, data and results in S3.

    python infra/local/run.py FOLDER [--config FILE] [--set a.b=c] [--keep] [--metrics]

It starts the object store and a Ray head (both on the loopback address), writes the digits to a bucket, submits
`jobs/dpt_full.py`, and copies the report from the bucket. FOLDER holds the objects of the bucket, so the same command
finds its results again.
"""

# ruff: noqa: E402 - the path must be set before the imports, since this folder and the repository are not installed
import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from bucket import REPOSITORY, object_store, put_digits
from head import RAY, Head, ray_head

from dpt_ray.config.load import load_config
from dpt_ray.distributed.local_ray import runtime_environment
from dpt_ray.errors import UserError

BUCKET = "dpt"
DATA = [f"data.train=s3://{BUCKET}/data/train", f"data.test=s3://{BUCKET}/data/test", f"root=s3://{BUCKET}/results"]
VARIABLES_FILE, REPORT_FILE = "environment", "report.html"


def main() -> int:
    """Run everything; return the exit status."""
    options = _options()
    if " " in sys.prefix:
        what = "Ray's command line does not run from a folder whose path has a space; move the environment"
        print(f"error: {sys.prefix}: {what}", file=sys.stderr)
        return 2
    os.umask(0o077)  # other users of this machine cannot read what is written
    settings = [*DATA, *options.set]
    try:
        name = load_config(options.config, settings).name
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that the contexts end the processes
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    with (
        object_store(folder) as variables,
        ray_head(folder, variables, options.cpus, metrics=options.metrics) as head,
    ):
        put_digits(BUCKET, variables)
        _write_variables(folder / VARIABLES_FILE, head, variables)
        try:
            status = _submit(head, options.config, settings)
            if status == 0:
                _fetch_report(name, folder / REPORT_FILE, variables)
            if options.keep:
                print(f"kept running; use it with: source {folder / VARIABLES_FILE}", flush=True)
                ended.wait()
        finally:
            (folder / VARIABLES_FILE).unlink()
    return status


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The full job as in production, on one machine.")
    parser.add_argument("folder", type=Path, help="keeps the bucket, the logs and the report")
    parser.add_argument("--config", default="configs/digits.yaml", help="settings (default: %(default)s)")
    parser.add_argument("--set", metavar="a.b=c", action="append", default=[], help="override one setting")
    parser.add_argument("--cpus", type=int, default=os.cpu_count(), help="CPUs of the head (default: all)")
    parser.add_argument("--keep", action="store_true", help="leave store and head running until killed")
    parser.add_argument("--metrics", action="store_true", help="serve metrics, to every user of this machine")
    return parser.parse_args()


def _submit(head: Head, config: str, settings: list[str]) -> int:
    """Submit the job, show its log, and return its exit status."""
    words = [word for setting in settings for word in ("--set", setting)]
    command = [str(RAY), "job", "submit", "--address", head.url, "--working-dir", str(REPOSITORY)]
    command += ["--runtime-env-json", json.dumps(runtime_environment()), "--"]
    command += ["python", "jobs/dpt_full.py", "--config", config, *words]
    return subprocess.run(command, cwd=REPOSITORY, env=head.environment, check=False).returncode


def _fetch_report(name: str, target: Path, variables: dict[str, str]) -> None:
    """Copy the run's report from the bucket."""
    from dpt_ray.data.storage import stores

    os.environ.update(variables)
    source = f"s3://{BUCKET}/results/runs/{name}/{REPORT_FILE}"
    target.write_bytes(stores.read_bytes(source))
    print(f"{source} is there; a copy is {target}", flush=True)


def _write_variables(path: Path, head: Head, variables: dict[str, str]) -> None:
    """Write a shell script that sets the variables for clients of store and head, readable only by this user."""
    names = {
        **variables,
        "RAY_API_SERVER_ADDRESS": head.url,
        **{name: head.environment[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")},
        **({"METRICS_URL": head.metrics_url} if head.metrics_url else {}),
    }
    path.unlink(missing_ok=True)  # left by a run that was killed
    path.touch(mode=0o600)
    path.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in names.items()))


if __name__ == "__main__":
    sys.exit(main())
