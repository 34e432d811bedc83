"""Notices of preemption: who gives them, and what counts as a failure."""

import os
import signal
import subprocess
import sys

import pytest
from ray.exceptions import RayActorError
from ray.train import PreemptionError, PreemptionInfo, WorkerGroupError

from dpt_ray.cli.guard import TRY_AGAIN, run_guarded
from dpt_ray.distributed.checkpoints import images_of
from dpt_ray.distributed.notice import Notice
from dpt_ray.distributed.process_tree import submitted_jobs
from dpt_ray.distributed.worker_failures import FailureCount, is_preemption
from dpt_ray.errors import RESUME


def test_only_the_first_reason_of_a_notice_counts():
    notice = Notice()
    assert (notice.is_given, notice.reason) == (False, None)
    notice.give("a node goes")
    notice.give("the job got SIGTERM")
    assert (notice.is_given, notice.reason) == (True, "a node goes")


WORKER = """
import signal, sys
from dpt_ray.distributed.notice import Notice, heed_sigterm
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
heed_sigterm()
notice = Notice()
print(notice.is_given, flush=True)
sys.stdin.readline()
print(notice.is_given, notice.reason, flush=True)
sys.stdin.readline()
"""


def test_a_worker_takes_the_first_sigterm_as_a_notice_and_ends_at_the_second():
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert worker.stdout.readline() == "False\n"
    worker.send_signal(signal.SIGTERM)
    worker.stdin.write("\n")
    assert worker.stdout.readline() == "True its process got SIGTERM\n"
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 7
    worker.stdin.close()
    worker.stdout.close()


def test_a_job_that_gets_sigterm_says_to_run_it_again(capsys):
    def job() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it was not interrupted")

    assert run_guarded(job) == TRY_AGAIN
    assert capsys.readouterr().err == f"preempted: {RESUME}\n"


def test_failures_are_counted_since_there_was_a_newer_checkpoint():
    count = FailureCount(limit=2)
    assert [count.is_tolerated(images) for images in (0, 0, 640, 640, 1280, 1280, 1280)] == [True] * 6 + [False]
    assert count.failures == 3
    assert not FailureCount(limit=0).is_tolerated(640)


def lost(preempted: bool) -> WorkerGroupError:
    death = RayActorError(preempted=preempted)
    return WorkerGroupError("text", {0: RuntimeError("Connection closed by peer"), 1: death})


def test_the_loss_of_an_announced_node_is_a_preemption():
    assert is_preemption(lost(True))
    assert not is_preemption(lost(False))
    assert is_preemption(PreemptionError(PreemptionInfo(None, {"n": [0]})))
    assert not is_preemption(WorkerGroupError("text", {0: ValueError("x")}))


@pytest.mark.parametrize(
    ("names", "images"),
    [([], 0), (["images_000000000001280-0123456789abcdef", "images_000000000000640-ab"], 1280), (["images_x"], 0)],
)
def test_the_newest_checkpoint_says_how_far_a_training_is(names, images):
    assert images_of(names) == images


def test_the_scripts_of_submitted_jobs_are_found_without_their_children():
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    name = f"DPT_TEST_{os.getpid()}"
    script = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, name: "{}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert script.stdout.readline() == "1\n"
    assert submitted_jobs(name) == [script.pid]
    assert submitted_jobs("DPT_NO_SUCH_VARIABLE") == []
    script.communicate("\n")
