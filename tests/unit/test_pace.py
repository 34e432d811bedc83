"""Ray Data's loop: reacts at once, and does not spin."""

from dpt_ray.distributed import scheduler_throttle as pace


class _Clock:
    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(pace.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(pace.time, "sleep", self._sleep)

    def _sleep(self, seconds):
        self.now += seconds


def test_a_loop_that_never_waits_goes_round_at_the_stated_rate(monkeypatch):
    clock = _Clock(monkeypatch)
    paced = pace.Paced()
    for _ in range(1000):
        clock.now += 0.001  # what a round takes
        paced.on_execution_step(None)
    assert abs((clock.now - 1000.0) / (1000 * pace.ROUND_SECONDS) - 1) < 0.01


def test_rounds_that_waited_are_not_delayed(monkeypatch):
    clock = _Clock(monkeypatch)
    paced = pace.Paced()
    for number in range(1000):
        # Events come in bursts.
        clock.now += 0.001 if number % 4 else 4 * pace.ROUND_SECONDS
        before = clock.now
        paced.on_execution_step(None)
        assert clock.now == before
