"""The throttle of Ray Data's loop: it reacts at once, and does not spin."""

from dpt_ray.distributed import scheduler_throttle


class _Clock:
    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(scheduler_throttle.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(scheduler_throttle.time, "sleep", self._sleep)

    def _sleep(self, seconds):
        self.now += seconds


def test_a_loop_that_never_waits_goes_round_at_the_stated_rate(monkeypatch):
    clock = _Clock(monkeypatch)
    throttle = scheduler_throttle.SchedulerThrottle()
    for _ in range(1000):
        clock.now += 0.001  # what a round takes
        throttle.on_execution_step(None)
    assert abs((clock.now - 1000.0) / (1000 * scheduler_throttle.ROUND_SECONDS) - 1) < 0.01


def test_rounds_that_waited_are_not_delayed(monkeypatch):
    clock = _Clock(monkeypatch)
    throttle = scheduler_throttle.SchedulerThrottle()
    for number in range(1000):
        # Events come in bursts.
        clock.now += 0.001 if number % 4 else 4 * scheduler_throttle.ROUND_SECONDS
        before = clock.now
        throttle.on_execution_step(None)
        assert clock.now == before
