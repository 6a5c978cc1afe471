"""What the chain tells of its jobs: the table of time and memory, and of a failure who, where and why."""

import csv
import os
import subprocess
import sys

STAGES = {
    "download": 3,
    "prepare_questions": 3,
    "tokenize_and_label": 4,
    "train": 2,
    "predict": 2,
    "postprocess": 3,
    "score": 3,
    "analyze_errors": 3,
    "package": 2,
}
# in transformers' place, so that no code of the stage changes: kills the job of one run, and fails that of the other
BROKEN = """
import logging, os, signal
if any("/other/" in getattr(handler, "baseFilename", "") for handler in logging.getLogger().handlers):
    os.kill(os.getpid(), signal.SIGKILL)
raise RuntimeError("no luck")
"""


def table(project):
    return list(csv.DictReader(project.path("results/resource_usage.csv").read_text().splitlines()))


def test_every_job_of_the_chain_has_a_row_with_its_time_and_memory(finished):
    rows = table(finished)
    counts = {rule: sum(row["rule"] == rule for row in rows) for rule in {row["rule"] for row in rows}}
    assert counts == {**STAGES, "summarize": 1, "compare": 1}
    assert all(row["state"] == "completed" and row["attempt"] == row["attempts"] == "1" for row in rows)
    assert all(float(row["peak_memory_mib"]) > 1 and row["elapsed_seconds"] and row["node"] for row in rows)
    assert {(row["run"], row["variant"]) for row in rows if row["rule"] == "train"} == {
        ("small", "seed-1"),
        ("other", "seed-1"),
    }


def test_a_failure_is_told_with_run_seed_and_cause_and_its_attempt_stays_in_the_table(twin):
    twin.path("broken").mkdir()
    twin.path("broken", "transformers.py").write_text(BROKEN)
    done = twin.snakemake("models", "-k", "--forcerun", "train", PYTHONPATH=str(twin.path("broken")))
    assert done.returncode != 0
    told = done.stdout.partition("2 jobs failed:")[2]
    assert "train small, seed-1: failed" in told and "| RuntimeError: no luck" in told
    assert "train other, seed-1: killed" in told and "log: logs/train/other/seed-1.log" in told

    done = twin.snakemake("models")
    assert done.returncode == 0 and "jobs failed:" not in done.stdout, done.stdout
    environment = {**os.environ, "PYTHONPATH": str(twin.path("workflow/scripts"))}
    subprocess.run([sys.executable, "-m", "qa", "usage"], cwd=twin.folder, env=environment, check=True)
    attempts = [(row["run"], row["state"], row["attempts"]) for row in table(twin) if row["rule"] == "train"]
    assert sorted(attempts) == [
        ("other", "completed", "2"),
        ("other", "killed", "2"),
        ("small", "completed", "2"),
        ("small", "failed", "2"),
    ]
