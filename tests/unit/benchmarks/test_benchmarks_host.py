"""The benchmark of a step's processor time goes through the Trainer's loop, ours and the plain one."""

import host_bench
import pytest


@pytest.mark.parametrize("ours", [True, False])
def test_both_contestants_take_the_same_number_of_steps(ours, monkeypatch):
    calls = []
    tick = host_bench.Clock.tick
    monkeypatch.setattr(host_bench.Clock, "tick", lambda clock: calls.append(clock) or tick(clock))
    monkeypatch.setattr(host_bench, "STEPS", 5)
    monkeypatch.setattr(host_bench, "FIRST", 2)
    assert host_bench.measured(ours) > 0 and len(calls) == 5
