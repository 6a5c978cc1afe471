"""The table of what jobs used of what they had asked for, and the requests that it suggests."""

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qa.common import checksums
from qa.common.files import write_json
from qa.jobs import job_records, resource_usage, slurm_accounting
from qa.jobs.job_records import JobRecord
from qa.jobs.slurm_accounting import Start

BEGAN = datetime(2026, 11, 22, 22, 0, tzinfo=UTC)
ASKED = {"cpus": 4, "memory_mib": 8000.0, "seconds": 3600, "gpus": 1}


@pytest.fixture(autouse=True)
def known(tmp_path, monkeypatch):
    """What SLURM knows, free to change; the working directory is empty."""
    starts: dict[str, list[Start]] = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm_accounting, "starts_of", lambda jobs: starts)
    return starts


def at(seconds):
    return BEGAN + timedelta(seconds=seconds)


def record(begin, seconds, state="completed", job=None, rule="train", item="small/seed-1", names=None, **more):
    names = dict(zip(("run", "variant"), item.split("/"), strict=False)) if names is None else names
    slurm = {"job": job, "submitted": at(begin - 120).isoformat(), "started": at(begin - 20).isoformat()} if job else {}
    ended = None if state == "running" else at(begin + seconds).isoformat()
    fixed = {"started": at(begin).isoformat(), "state": state, "ended": ended, "node": "gpu1", "process": "1:2"}
    made = JobRecord(rule, names, f"logs/{rule}/{item}.log", **{**fixed, "slurm": slurm, "asked": ASKED, **more})
    write_json(job_records.path_of(made), asdict(made))
    return made


def rows(expected=None):
    resource_usage.write(expected=expected)
    return list(csv.DictReader(Path("results/resource_usage.csv").read_text().splitlines()))


def test_a_row_has_wait_time_and_memory_against_what_was_asked():
    record(0, 900, job="12", cpu_seconds=1800.0, peak_memory_mib=2000.0, peak_gpu_memory_mib=5000.0)
    (row,) = rows()
    assert list(row) == list(resource_usage.COLUMNS)
    expected = {
        "rule": "train",
        "run": "small",
        "variant": "seed-1",
        "dataset": "",
        "attempt": "1",
        "attempts": "1",
        "state": "completed",
        "job_id": "12",
        "node": "gpu1",
        "wait_seconds": "100",
        "elapsed_seconds": "900",
        "asked_seconds": "3600",
        "time_used": "0.25",
        "total_elapsed_seconds": "900",
        "peak_memory_mib": "2000",
        "asked_memory_mib": "8000",
        "memory_used": "0.25",
        "peak_gpu_memory_mib": "5000",
        "cpus": "4",
        "cpus_used": "2.0",
        "gpus": "1",
    }
    assert {key: row[key] for key in expected} == expected


def test_all_attempts_at_a_training_stand_together_with_their_total(known):
    known["1"] = [Start("TIMEOUT", at(0), at(-20), at(3600), 4096.0)]
    record(0, 0, "running", job="1")
    record(4000, 3000, "interrupted", job="2")
    record(8000, 1000, job="3", peak_memory_mib=2000.0)
    found = rows()
    assert [row["state"] for row in found] == ["TIMEOUT", "interrupted", "completed"]
    assert [row["attempt"] for row in found] == ["1", "2", "3"] and {row["attempts"] for row in found} == {"3"}
    assert [row["elapsed_seconds"] for row in found] == ["3600", "3000", "1000"]
    assert {row["total_elapsed_seconds"] for row in found} == {"7600"}
    assert found[0]["peak_memory_mib"] == "4096"


def test_attempts_are_counted_from_the_last_success():
    record(0, 100)
    record(1000, 100, "failed")
    assert [(row["attempt"], row["state"]) for row in rows()] == [("1", "failed")]
    record(2000, 100)
    assert [(row["attempt"], row["state"]) for row in rows()] == [("1", "failed"), ("2", "completed")]
    record(3000, 100)
    assert [(row["attempt"], row["state"]) for row in rows()] == [("1", "completed")]


def test_attempts_with_other_settings_are_not_counted():
    record(0, 100, "interrupted", fingerprint_inputs="a")
    record(1000, 100, "interrupted", fingerprint_inputs="b")
    record(2000, 100, fingerprint_inputs="b")
    assert [(row["attempt"], row["state"]) for row in rows()] == [("1", "interrupted"), ("2", "completed")]


def test_only_jobs_of_the_configuration_are_listed():
    record(0, 1)
    record(0, 1, item="small/seed-2")
    record(0, 1, rule="download", item="models/one", names={"kind": "models", "name": "one"})
    record(0, 1, rule="download", item="models/two", names={"kind": "models", "name": "two"})
    wanted = [
        {"run": "small", "variant": "seed-1", "dataset": "d", "split": "validation", "decoding": "n_best"},
        {"kind": "models", "name": "one"},
    ]
    assert {(row["rule"], row["variant"], row["item"]) for row in rows(wanted)} == {
        ("train", "seed-1", ""),
        ("download", "", "models/one"),
    }
    assert len(rows()) == 4


def test_each_rules_benchmark_is_where_its_log_says():
    rules = "".join(path.read_text() for path in Path(__file__).parents[3].glob("workflow/rules/*.smk"))
    found = re.findall(r'log:\n +"logs/(.*)\.log",\n +benchmark:\n +"results/usage/(.*)\.tsv"', rules)
    assert len(found) == rules.count("benchmark:") and all(log == usage for log, usage in found)


def benchmark(log, text, moment):
    path = Path("results/usage", *Path(log).parts[1:]).with_suffix(".tsv")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (moment.timestamp(),) * 2)


@pytest.mark.parametrize(
    ("max_rss", "written", "peak"),
    [("6000.5", 101, "6000.5"), ("500.0", 101, "2000"), ("NA", 101, "2000"), ("6000.5", -500, "2000")],
)
def test_the_benchmark_file_counts_where_it_is_of_this_attempt_and_higher(max_rss, written, peak):
    made = record(0, 100, peak_memory_mib=2000.0)
    benchmark(made.log, f"s\th:m:s\tmax_rss\tmax_vms\n100.0\t0:01:40\t{max_rss}\t9000\n", at(written))
    assert rows()[0]["peak_memory_mib"] == peak


def test_a_training_in_several_processes_has_its_gpu_memory_from_the_manifest():
    record(0, 100)
    write_json("results/small/seed-1/manifest.json", {"peak_gpu_memory_gib": 7.5})
    assert rows()[0]["peak_gpu_memory_mib"] == "7680"


@pytest.mark.parametrize(
    ("attempts", "memory", "minutes"),
    [
        ([(100, "completed", 900.0)], "2048", "60"),  # 1125 MiB; an hour at least
        ([(100, "completed", 800.0)], "1024", "60"),  # 1000 MiB
        ([(7200, "interrupted", 9000.0), (3600, "completed", 8000.0)], "11264", "270"),  # 11250 MiB; 3 h in all
        ([(10, "failed", 100.0)], "", ""),
    ],
)
def test_the_next_request_is_what_was_needed_and_a_margin(attempts, memory, minutes):
    for number, (seconds, state, peak) in enumerate(attempts):
        record(number * 10_000, seconds, state, peak_memory_mib=peak)
    assert (rows()[-1]["next_mem_mb"], rows()[-1]["next_runtime_minutes"]) == (memory, minutes)


def test_memory_that_ran_out_is_doubled(known):
    known["1"] = [Start("OUT_OF_MEMORY", at(0), at(0), at(50))]
    record(0, 0, "running", job="1", peak_memory_mib=None)
    assert rows()[0]["next_mem_mb"] == "16384"  # twice 8000, up to whole GiB


def test_one_request_serves_all_jobs_of_a_rule():
    record(0, 100, peak_memory_mib=1000.0)
    record(0, 7200, item="large/seed-1", peak_memory_mib=20_000.0)
    assert {(row["next_mem_mb"], row["next_runtime_minutes"]) for row in rows()} == {("25600", "180")}


def test_the_closing_message_has_a_line_for_each_rule_that_asked(known):
    record(0, 900, job="12", peak_memory_mib=2048.0)
    record(5000, 1800, job="13", item="small/seed-2", peak_memory_mib=4096.0)
    record(0, 5, rule="prepare_questions", item="d/train", names={"dataset": "d", "split": "train"}, asked={"cpus": 1})
    rows()
    told = [line for line in resource_usage.closing_message().splitlines() if line]
    assert len(told) == 3
    assert told[2].split("  ")[0] == "train"
    expected = ("1 min 40 s", "30 min", "1 h", "4 GiB", "7.81 GiB", "mem_mb: 5120, runtime: 60m")
    assert all(part in told[2] for part in expected)


def test_where_nothing_was_asked_there_is_no_message():
    assert resource_usage.closing_message() == ""
    record(0, 5, asked={"cpus": 1})
    rows()
    assert resource_usage.closing_message() == ""


def command(folder):
    environment = {**os.environ, "PYTHONPATH": str(Path(resource_usage.__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-m", "qa", "usage"], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_command_makes_the_table_at_any_time(tmp_path):
    record(0, 5, "failed")
    done = command(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout
    assert [row["state"] for row in csv.DictReader(Path("results/resource_usage.csv").read_text().splitlines())] == [
        "failed"
    ]


def test_the_command_seals_the_table_that_it_writes(tmp_path):
    record(0, 5, "failed")
    Path("results").mkdir(exist_ok=True)
    Path("results/resource_usage.csv").write_text("an older table")
    checksums.seal(["results/resource_usage.csv"])
    assert command(tmp_path).returncode == 0
    checksums.check(["results/resource_usage.csv"])


def test_the_command_says_where_there_are_no_records(tmp_path):
    done = command(tmp_path)
    assert done.returncode == 1 and "logs/jobs: no records of jobs" in done.stderr and "Traceback" not in done.stderr


def test_the_table_of_no_jobs_has_its_header():
    assert (
        rows() == [] and json.dumps(Path("results/resource_usage.csv").read_text().split(",")[:2]) == '["rule", "run"]'
    )
