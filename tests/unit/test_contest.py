"""The benchmark's turns take as long as they promise, for quick starters and slow ones."""

import pytest

from dpt_ray.benchmark import contest


@pytest.mark.parametrize(("start", "a_pass"), [(0.0, 0.5), (4.0, 1.0), (0.1, 40.0)])
def test_turns_last_long_enough_and_not_much_longer(monkeypatch, start, a_pass):
    clock, turns = [0.0], []
    monkeypatch.setattr(contest.time, "perf_counter", lambda: clock[0])

    def contestant(passes: int) -> int:
        clock[0] += start + passes * a_pass
        turns.append(passes)
        return 100 * passes

    results = contest.run_contest({"one": contestant}, rounds=3, seconds=20.0)
    timed = turns[-1]
    assert turns[-6:] == [1, timed] * 3  # every turn right after a pass that is not timed
    assert 15 <= start + timed * a_pass <= max(40, start + a_pass)
    assert results["one"].rates == pytest.approx([100 * timed / (start + timed * a_pass)] * 3)
