"""The benchmarks' table and results file, and how contestants are timed."""

import json
import time

import pytest

import measure
import speed_tables
from measure import Stage

SLOWER = Stage("tokenize", "some questions", "s", 6.0, 3.0, 1.5, 1.0, "a bound")
RATE = Stage("train", "some windows", "samples/s", 2.0, None, 9.0, 100.0, "a bound", higher_is_better=True)


def test_ratios_say_how_many_times_faster_this_workflow_is():
    assert (SLOWER.ratio(SLOWER.walkthrough), SLOWER.ratio(SLOWER.run_qa)) == (4.0, 2.0)
    assert RATE.ratio(RATE.walkthrough) == 4.5 and RATE.ratio(RATE.run_qa) is None
    assert SLOWER.ratio(SLOWER.floor) == pytest.approx(2 / 3) and RATE.ratio(RATE.floor) == 0.09


def test_the_results_file_names_the_machine_and_each_stages_ratios(tmp_path, monkeypatch):
    monkeypatch.setattr(speed_tables, "RESULTS", tmp_path / "results")
    found = json.loads(speed_tables.write("cpu", [SLOWER, RATE], measure.machine(), extra=1).read_text())
    assert found["machine"]["cores"] >= 1 and found["machine"]["versions"]["torch"] and found["extra"] == 1
    assert found["stages"]["tokenize"]["ratio_walkthrough"] == 4.0
    assert found["stages"]["train"]["ratio_run_qa"] is None and found["stages"]["train"]["unit"] == "samples/s"


def test_the_table_has_a_line_a_stage_with_dashes_where_a_recipe_has_none():
    lines = speed_tables.table([SLOWER, RATE]).splitlines()
    assert lines[2] == "| tokenize | s | 6 | 3 | 1.5 | 4.0 x | 2.0 x | 1 |"
    assert lines[3] == "| train | samples/s | 2 | - | 9 | 4.5 x | - | 100 |"
    assert speed_tables.figure(12345.6) == "12,346" and speed_tables.times(250.4) == "250 x"


def test_contestants_take_turns_and_their_medians_count(monkeypatch):
    order, clock = [], iter([0, 1, 10, 14, 20, 23, 30, 32, 40, 42, 50, 59])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    taken = measure.seconds({name: lambda name=name: order.append(name) for name in "ab"}, rounds=3)
    assert order == list("ababab") and taken == {"a": 2, "b": 4}
