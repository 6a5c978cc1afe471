"""Trainings that clusters disturb end as undisturbed ones do: by the same bytes, each step once.

All are the same training under different names, so that one of them, which nobody disturbs, is what all must equal.
"""

import csv
import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import tiny
from chain import CONFIG
from cluster import Cluster, wait_for
from on_slurm import ClusterProject, copied, model_of

OUTAGE = 60.0  # seconds without slurmctld
STEPS = 300


def hang(cluster: Cluster, job: str, process: int) -> None:
    """Stop a process where it stands, as a lost file system does, and let the job's walltime be over."""
    os.kill(process, signal.SIGSTOP)
    cluster.ask("scontrol", "update", f"jobid={job}", "endtime=now")


def preempt(cluster: Cluster, job: str, process: int) -> None:
    """A job of more priority takes all of the node; the training stands still until then, lest it end first."""
    os.kill(process, signal.SIGSTOP)
    options = ("--partition=prio", "--nodelist=gpu2", "--nodes=1", "--gpus-per-node=a100:4", "--output=/dev/null")
    cluster.ask("sbatch", *options, "--wrap", "sleep 5")
    wait_for(lambda: cluster.job(job)["JobState"] != "RUNNING", 60, "the training preempted")
    os.kill(process, signal.SIGCONT)  # SIGTERM has been waiting for it, as long as KillWait is not over


# What happens to each training once it has saved a checkpoint; the one of `walltime` ends by itself.
DISTURBED: dict[str, Callable[[Cluster, str, int], Any] | None] = {
    "walltime": None,
    "hung": hang,
    "signalled": lambda cluster, job, process: cluster.ask("scancel", "--signal=USR1", job),
    "cancelled": lambda cluster, job, process: cluster.ask("scancel", job),
    "requeued": lambda cluster, job, process: cluster.ask("scontrol", "requeue", job),
    "preempted": preempt,
    "crashed": lambda cluster, job, process: cluster.crash_node("gpu3"),
}
NODES = {"preempted": "gpu2", "crashed": "gpu3", "undisturbed": "gpu4", "walltime": "gpu4"}
# How the first attempt ended by its own account, and the states of all jobs by SLURM's with the times it started them.
ENDS = {
    "walltime": ("stopped: its walltime is about to end", [("FAILED", "0"), ("COMPLETED", "0")]),
    "hung": ("killed", [("TIMEOUT", "0"), ("COMPLETED", "0")]),
    "signalled": ("stopped: SIGUSR1 was received", [("FAILED", "0"), ("COMPLETED", "0")]),
    "cancelled": ("stopped: SIGTERM was received", [("CANCELLED", "0"), ("COMPLETED", "0")]),
    "requeued": ("stopped: SIGTERM was received", [("COMPLETED", "1")]),
    "preempted": ("stopped: SIGTERM was received", [("COMPLETED", "1")]),
    "crashed": ("killed", [("COMPLETED", "1")]),
}


def configuration(*names: str) -> dict[str, Any]:
    training = {"max_steps": STEPS, "batch_size": 32, "length_groups": 4}
    run = {**CONFIG["runs"]["small"], "validate_on": None, "training": training, "padding": "max_length"}
    return {**CONFIG, "runs": {name: {**run, "checkpoints": {"every_steps": 10}} for name in names}}


def attempts(project: ClusterProject, name: str) -> list[dict[str, Any]]:
    """The attempts at a training that is not finished."""
    found = list(project.path("checkpoints", name, "seed-1").glob("*/attempts.json"))
    return json.loads(found[0].read_text()) if found else []


def has_saved(project: ClusterProject, name: str) -> bool:
    return any(project.path("checkpoints", name, "seed-1").glob("*/checkpoint-*/complete.json"))


def manifest(project: ClusterProject, name: str) -> dict[str, Any]:
    return json.loads(project.path("results", name, "seed-1/manifest.json").read_text())


def rows(project: ClusterProject, name: str) -> list[dict[str, str]]:
    """The history of a training without its speed."""
    with open(project.path("results", name, "seed-1/training.csv"), newline="") as stream:
        return [{k: v for k, v in row.items() if k != "samples_per_second"} for row in csv.DictReader(stream)]


def start_all(project: ClusterProject, names: list[str]) -> dict[str, str]:
    """Wait until all trainings are queued in a partition that is closed, send each to its node, and open it."""
    cluster = project.cluster
    wait_for(lambda: len(project.jobs("train")) == len(names), 180, "all trainings queued")
    jobs = {name: project.jobs("train", f"_{name}_")[0]["JobId"] for name in names}
    for name, job in jobs.items():
        cluster.ask("scontrol", "update", f"jobid={job}", f"reqnodelist={NODES.get(name, 'gpu1')}")
    cluster.ask("scontrol", "update", "partitionname=gpu", "state=up")
    return jobs


def disturb(project: ClusterProject, jobs: dict[str, str]) -> None:
    """Do to each training what its name says, as soon as it has saved a checkpoint, and to none later for another."""
    cluster, left, end = project.cluster, dict(DISTURBED), time.monotonic() + 300
    with ThreadPoolExecutor(len(left)) as at_once:
        done = []
        while left and time.monotonic() < end:
            for name, action in list(left.items()):
                began = attempts(project, name)
                if action is None and not began and cluster.job(jobs[name])["JobState"] == "RUNNING":
                    cluster.ask("scontrol", "update", f"jobid={jobs[name]}", "endtime=now+10")
                elif action is None and began:
                    del left[name]
                elif action and began and has_saved(project, name):
                    done.append(at_once.submit(action, cluster, jobs[name], began[-1]["pid"]))
                    del left[name]
            time.sleep(0.2)
    assert not left
    for future in done:
        future.result()


@pytest.fixture(scope="module")
def survived(project, cluster) -> ClusterProject:
    """All trainings after a run with disturbances, and slurmctld away for a minute among them."""
    names = [*DISTURBED, "undisturbed"]
    tiny.write_squad(project.path("given/train.json"), questions=60)
    project.configure(configuration(*names))
    project.site(train={"slurm_partition": "gpu", "threads": 1})
    cluster.ask("scontrol", "update", "partitionname=gpu", "state=down")
    with project.running("models") as snakemake:
        disturb(project, start_all(project, names))
        cluster.stop_controller()
        time.sleep(OUTAGE)
        cluster.start_controller()
        cluster.revive_node("gpu3")
        assert snakemake.wait(400) == 0, project.printed()
    return project


@pytest.mark.parametrize("name", DISTURBED)
def test_a_disturbed_training_ends_with_the_same_bytes(name, survived):
    assert model_of(survived, name, "seed-1") == model_of(survived, "undisturbed", "seed-1")


@pytest.mark.parametrize("name", DISTURBED)
def test_its_history_has_every_step_once(name, survived):
    assert rows(survived, name) == rows(survived, "undisturbed")


@pytest.mark.parametrize("name", DISTURBED)
def test_its_first_attempt_ended_as_it_should_and_the_next_went_on_from_there(name, survived):
    first, second, *_ = manifest(survived, name)["attempts"]
    assert first["outcome"] == ENDS[name][0]
    assert 0 < second["resumed_at_step"] <= STEPS
    if first["outcome"] != "killed":
        assert second["resumed_at_step"] == first["step"]


@pytest.mark.parametrize("name", DISTURBED)
def test_slurm_saw_the_jobs_end_so(name, survived):
    seen = [(job["JobState"], job["Restarts"]) for job in survived.jobs("train", f"_{name}_")]
    assert seen == ENDS[name][1]


def test_what_nobody_disturbed_took_one_attempt(survived):
    assert [a["resumed_at_step"] for a in manifest(survived, "undisturbed")["attempts"]] == [0]
    assert len(survived.jobs("train", "_undisturbed_")) == 1


def test_an_outage_of_the_controller_loses_no_job(survived):
    numbers = [job["JobId"] for job in survived.jobs("train")]
    assert len(numbers) == sum(len(ends) for _, ends in ENDS.values()) + 1
    assert {job["JobState"] for job in survived.jobs("train")} >= {"COMPLETED", "CANCELLED", "TIMEOUT"}


@pytest.fixture(scope="module")
def orphaned(survived, cluster, tmp_path_factory) -> ClusterProject:
    """Two trainings whose Snakemake was killed: one ended before the next call, one was still at work."""
    project = copied(survived, tmp_path_factory.mktemp("orphaned") / "project")
    project.configure(configuration("ended", "running", "undisturbed"))
    project.site(train={"slurm_partition": "gpu", "threads": 1})
    names = ("ended", "running")
    with project.running("models") as snakemake:
        wait_for(lambda: all(has_saved(project, name) for name in names), 180, "both trainings at work")
        snakemake.kill()
        snakemake.wait()
    process = attempts(project, "running")[-1]["pid"]
    os.kill(process, signal.SIGSTOP)
    cluster.ended(project.jobs("train", "_ended_")[0]["JobId"], 180)
    assert project.snakemake("--unlock").returncode == 0
    with project.running("models") as snakemake:
        wait_for(lambda: "waiting for" in project.printed(), 60, "the next call waits")
        os.kill(process, signal.SIGCONT)
        assert snakemake.wait(300) == 0, project.printed()
    return project


@pytest.mark.parametrize("name", ["ended", "running"])
def test_jobs_of_a_killed_snakemake_run_on_and_the_next_call_trains_nothing_again(name, orphaned):
    (attempt,) = manifest(orphaned, name)["attempts"]
    first = orphaned.jobs("train", f"_{name}_")[0]
    assert (attempt["slurm_job_id"], first["JobState"]) == (first["JobId"], "COMPLETED")
    assert model_of(orphaned, name, "seed-1") == model_of(orphaned, "undisturbed", "seed-1")


def test_what_had_ended_before_the_next_call_costs_no_job(orphaned):
    assert len(orphaned.jobs("train", "_ended_")) == 1


def test_the_next_call_says_what_it_waits_for_and_what_it_takes(orphaned):
    ended, running = (orphaned.jobs("train", f"_{name}_")[0]["JobId"] for name in ("ended", "running"))
    lines = orphaned.printed().splitlines()
    waits = next(line for line in lines if "waiting for" in line)
    assert running in waits and ended not in waits
    assert any("taken" in line and ended in line for line in lines)


def test_nothing_is_left_to_do_after_it(orphaned):
    assert "Nothing to be done" in orphaned.snakemake("models", "-n").stdout
