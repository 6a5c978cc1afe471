"""Two runs in one directory, what a killed one left, clocks that jump, and time stamps that are coarse or late."""

import copy
import os
import re
import shutil
import time

import pytest

from chain import Project
from killing import PRELOADED, Moment, Run, again, killed, leftovers, results_of
from shortages import CHAIN

PART = "results/teacher/seed-1/mills/validation/calibrated/metrics.json"
MADE = ("results", "resources")
DAY = 86_400


@pytest.fixture
def project(every_stage: Project, tmp_path) -> Project:
    """A copy of the finished run, time stamps and Snakemake's memory included, free to change."""
    shutil.copytree(every_stage.folder, tmp_path / "twin", symlinks=True)
    return Project(tmp_path / "twin", every_stage.prefix)


def stamped(project: Project, new, folders=MADE) -> None:
    """Give every file and folder the time stamp that `new` makes of its own."""
    for folder in folders:
        for path in sorted(project.path(folder).rglob("*"), reverse=True):
            seconds = new(path.stat().st_mtime)
            os.utime(path, (seconds, seconds))


def without(project: Project, *paths: str) -> None:
    for path in map(project.path, paths):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


# --- locks


def test_a_second_run_in_the_directory_is_refused_and_disturbs_nothing(project, every_stage):
    without(project, "results/teacher", "results/summary.csv")
    run = Run(project, PART)
    assert run.until(lambda: run.stages("train"))
    before = leftovers(project)
    second = project.snakemake(PART)
    assert second.returncode == 1
    assert "Directory cannot be locked" in second.stdout and "--unlock" in second.stdout
    assert leftovers(project) == before or run.stages() == []
    assert run.process.wait() == 0, run.output.read_text()
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    assert results_of(project) == results_of(every_stage)


def test_two_runs_started_at_once_end_with_one_result(project, every_stage):
    without(project, "results/teacher")
    runs = [Run(project, PART) for _ in range(2)]
    codes = sorted(run.process.wait() for run in runs)
    assert codes in ([0, 0], [0, 1])  # the other came late, or was refused
    done = again(project)
    assert done.returncode == 0, done.stdout
    assert results_of(project) == results_of(every_stage)


def test_a_killed_runs_lock_is_refused_until_it_is_taken_away(project, every_stage):
    without(project, "results/teacher")
    assert killed(project, Moment("train", 1.0), PART)
    refused = project.snakemake(PART)
    assert refused.returncode == 1 and "--unlock" in refused.stdout
    assert not project.path(PART).exists() and not project.path("results/teacher/seed-1/model").exists()
    done = again(project)
    assert done.returncode == 0, done.stdout
    assert results_of(project) == results_of(every_stage)


# --- clocks


@pytest.mark.parametrize("grain", [1, 2])
def test_coarse_time_stamps_rerun_nothing_and_hide_no_change(grain, project):
    stamped(project, lambda seconds: seconds // grain * grain)
    assert project.would_run() == set()
    path = project.path("given", "validation.json")
    path.write_text(path.read_text().replace("ground oats", "ground wheat"))
    assert {"download", "prepare_questions", "predict", "score"} <= project.would_run()


@pytest.mark.parametrize("days", [-1, -3650])
def test_results_of_a_slow_clock_rerun_nothing_but_what_was_changed_since(days, project):
    stamped(project, lambda seconds: seconds + days * DAY, (*MADE, "given"))
    assert project.would_run() == set()
    config = copy.deepcopy(CHAIN)
    config["decodings"]["calibrated"]["null_threshold"] = 1.0
    assert {"postprocess", "score"} <= project.would_run(config) and "train" not in project.would_run(config)


def test_a_file_of_the_users_own_that_is_replaced_by_an_older_one_is_taken_anew(project):
    path = project.path("given", "validation.json")
    path.write_text(path.read_text().replace("ground oats", "ground rye"))
    os.utime(path, (time.time() - 400 * DAY,) * 2)
    assert {"download", "prepare_questions", "predict", "score"} <= project.would_run()


def test_a_touched_file_of_the_same_bytes_with_an_older_time_reruns_nothing(project):
    os.utime(project.path("given", "validation.json"), (time.time() - 400 * DAY,) * 2)
    assert project.would_run() == set()


def test_results_from_the_future_are_refused_until_they_are_of_today(project, every_stage):
    stamped(project, lambda seconds: seconds + 2 * DAY)
    refused = project.snakemake()
    assert refused.returncode == 1
    assert re.search(r"changed later than now, by up to 1 d \d+ h.*find resources results", refused.stdout, re.DOTALL)
    assert results_of(project) == results_of(every_stage)
    command = refused.stdout.split("wrong before: ")[1].split(" (and touch")[0]
    assert os.system(f"cd '{project.folder}' && {command}") == 0
    assert project.would_run() == set()
    path = project.path("given", "validation.json")
    path.write_text(path.read_text().replace("ground oats", "ground wheat"))
    os.utime(path, (time.time() + 2,) * 2)
    assert {"download", "prepare_questions", "predict", "score"} <= project.would_run()


def test_a_clock_set_back_between_two_runs_loses_no_change_of_settings(project):
    """The results' time stamps are all a quarter of an hour old, then what is made anew is two minutes older still."""
    stamp = time.time() - 900
    stamped(project, lambda seconds: stamp)
    config = copy.deepcopy(CHAIN)
    config["decodings"]["calibrated"]["null_threshold"] = 1.0
    name = project.configure(config, "changed.yaml")
    done = project.snakemake(PART, config=name)
    assert done.returncode == 0, done.stdout
    for path in project.path(PART).parent.iterdir():
        os.utime(path, (stamp - 120, stamp - 120))
    left = project.would_run(config)
    done = project.snakemake(config=name)
    assert done.returncode == 0, done.stdout
    assert {"score", "summarize"} <= left and "train" not in left
    assert project.would_run(config) == set()


def test_a_file_that_appears_seconds_late_is_waited_for(project, every_stage):
    without(project, "results/teacher/seed-1/mills/validation/calibrated", "results/summary.csv")
    late = {"PYTHONPATH": str(PRELOADED), "QA_LATE": "postprocess 2.5"}
    done = project.snakemake("--latency-wait", "30", **late)
    assert done.returncode == 0, done.stdout
    assert results_of(project) == results_of(every_stage)


def test_a_file_that_appears_too_late_fails_the_job_and_is_made_again(project, every_stage):
    without(project, "results/teacher/seed-1/mills/validation/calibrated", "results/summary.csv")
    late = {"PYTHONPATH": str(PRELOADED), "QA_LATE": "postprocess 8"}
    done = project.snakemake("--latency-wait", "1", **late)
    assert done.returncode == 1 and "Missing files after 1 seconds" in done.stdout
    time.sleep(9)
    assert (project.path(PART).parent / "answers.json").exists()
    assert "postprocess" in project.would_run()
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    assert results_of(project) == results_of(every_stage)
