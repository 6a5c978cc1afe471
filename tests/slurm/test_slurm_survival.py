"""Trainings that clusters disturb end as undisturbed ones do: by the same bytes, each step once.

All are the same training under different names, so that one of them, which nobody disturbs, is what all must equal.
"""

import csv
import json
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import tiny
from chain import CONFIG
from cluster import PATIENCE, Cluster, wait_for, waits
from on_slurm import BEGUN, SAVED, ClusterProject, copied, go_on, model_of

OUTAGE = 30.0  # seconds without slurmctld
WALLTIME = 120  # seconds left to a training that has begun
STEPS = 100


def preempt(cluster: Cluster, job: str) -> None:
    """Queue a job of more priority that takes all of the training's node."""
    options = ("--partition=prio", "--nodelist=gpu2", "--nodes=1", "--gpus-per-node=a100:4", "--output=/dev/null")
    cluster.ask("sbatch", *options, "--wrap", "true")


def signal_without_requeue(cluster: Cluster, job: str) -> None:
    """Ask a training to stop where its job may not be requeued."""
    cluster.ask("scontrol", "update", f"jobid={job}", "requeue=0")
    cluster.ask("scancel", "--signal=USR1", job)


# What happens to each training, which halts once it has saved a checkpoint, so that none ends before.
DISTURBED: dict[str, Callable[[Cluster, str], Any]] = {
    "hung": lambda cluster, job: cluster.ask("scontrol", "update", f"jobid={job}", "endtime=now"),
    "signalled": lambda cluster, job: cluster.ask("scancel", "--signal=USR1", job),
    "forbidden": lambda cluster, job: signal_without_requeue(cluster, job),
    "cancelled": lambda cluster, job: cluster.ask("scancel", job),
    "preempted": preempt,
    "crashed": lambda cluster, job: cluster.crash_node("gpu3"),
}
STOP_BY_SIGNAL = ("signalled", "forbidden", "cancelled", "preempted")
NODES = {"preempted": "gpu2", "crashed": "gpu3", "undisturbed": "gpu4", "walltime": "gpu4"}
# How the first attempt ended by its own account, and the states of all jobs by SLURM's with the times it started them.
ENDS = {
    "walltime": ("stopped: its walltime is about to end", [("COMPLETED", "1")]),
    "hung": ("killed", [("TIMEOUT", "0"), ("COMPLETED", "0")]),
    "signalled": ("stopped: SIGUSR1 was received", [("COMPLETED", "1")]),
    "forbidden": ("stopped: SIGUSR1 was received", [("FAILED", "0"), ("COMPLETED", "0")]),
    "cancelled": ("stopped: SIGTERM was received", [("CANCELLED", "0"), ("COMPLETED", "0")]),
    "preempted": ("stopped: SIGTERM was received", [("COMPLETED", "1")]),
    "crashed": ("killed", [("COMPLETED", "1")]),
}


def configuration(*names: str) -> dict[str, Any]:
    training = {"max_steps": STEPS, "batch_size": 32}
    run = {**CONFIG["runs"]["small"], "validate_on": None, "training": training, "padding": "max_length"}
    return {**CONFIG, "runs": {name: {**run, "checkpoints": {"every_steps": 10}} for name in names}}


def begun(name: str) -> str:
    return f"{name}/seed-1/{BEGUN}"


def saved(name: str) -> str:
    return f"{name}/seed-1/{SAVED}"


def manifest(project: ClusterProject, name: str) -> dict[str, Any]:
    return json.loads(project.path("results", name, "seed-1/manifest.json").read_text())


def rows(project: ClusterProject, name: str) -> list[dict[str, str]]:
    """The history of a training without its speed."""
    with open(project.path("results", name, "seed-1/training.csv"), newline="") as stream:
        return [{k: v for k, v in row.items() if k != "samples_per_second"} for row in csv.DictReader(stream)]


def start_all(project: ClusterProject, names: list[str]) -> dict[str, str]:
    """Wait until all trainings are queued in a partition that is closed, send each to its node, and open it."""
    cluster = project.cluster
    wait_for(lambda: len(project.jobs("train")) == len(names), "all trainings queued")
    jobs = {name: project.jobs("train", f"_{name}_")[0]["JobId"] for name in names}
    for name, job in jobs.items():
        cluster.ask("scontrol", "update", f"jobid={job}", f"reqnodelist={NODES.get(name, 'gpu1')}")
    cluster.ask("scontrol", "update", "partitionname=gpu", "state=up")
    return jobs


def disturb(project: ClusterProject, snakemake: subprocess.Popen, name: str, job: str) -> None:
    """Do to a training what its name says, once it has saved a checkpoint."""
    process = project.halted(saved(name), snakemake)
    DISTURBED[name](project.cluster, job)
    if name in STOP_BY_SIGNAL:
        wait_for(lambda: waits(process, signal.SIGTERM, signal.SIGUSR1), f"signal to {name}")
        go_on(process)


def end_walltime(project: ClusterProject, snakemake: subprocess.Popen, job: str) -> None:
    """Let a training see the end of its walltime come.

    It halts between step 1 and 2 for a third of that walltime, counts this as the time to save, and asks for twice as
    much: more than is left.
    """
    process = project.halted(begun("walltime"), snakemake)
    project.cluster.ask("scontrol", "update", f"jobid={job}", f"endtime=now+{WALLTIME}")
    go_on(process)
    process = project.halted(saved("walltime"), snakemake)
    time.sleep(WALLTIME / 3)
    go_on(process)
    wait_for(lambda: project.cluster.job(job)["JobState"] != "RUNNING" or snakemake.poll() is not None, "requeued")
    project.cluster.ask("scontrol", "update", f"jobid={job}", "timelimit=180")  # as it was


def goes_on(project: ClusterProject, name: str) -> bool:
    """Whether the attempt after the disturbed one has begun."""
    done = project.path("results", name, "seed-1/manifest.json").exists()
    return done or len(project.attempts(name, "seed-1")) > 1


@pytest.fixture(scope="module")
def survived(project, cluster) -> ClusterProject:
    """All trainings after a run with disturbances, and slurmctld away for a minute among them."""
    names = [*ENDS, "undisturbed"]
    tiny.write_squad(project.path("given/train.json"), questions=60)
    project.configure(configuration(*names))
    project.site(train={"slurm_partition": "gpu", "threads": 1})
    cluster.ask("scontrol", "update", "partitionname=gpu", "state=down")
    halt_at = [begun("walltime"), *map(saved, names)]
    with ThreadPoolExecutor(len(ENDS)) as at_once, project.running("models", halt_at=halt_at) as snakemake:
        jobs = start_all(project, names)
        done = [at_once.submit(disturb, project, snakemake, name, jobs[name]) for name in DISTURBED]
        done.append(at_once.submit(end_walltime, project, snakemake, jobs["walltime"]))
        for future in done:
            future.result()
        # a job that is submitted or starts in the outage fails; that of `crashed` waits for its node
        others = [name for name in ENDS if name != "crashed"]
        wait_for(lambda: all(goes_on(project, name) for name in others) or snakemake.poll() is not None, "all go on")
        undisturbed = project.halted(saved("undisturbed"), snakemake)  # until now: its job ends in the outage or later
        cluster.stop_controller()
        go_on(undisturbed)
        time.sleep(OUTAGE)
        cluster.start_controller()
        cluster.revive_node("gpu3")
        assert snakemake.wait(PATIENCE) == 0, project.printed()
    return project


@pytest.mark.parametrize("name", ENDS)
def test_a_disturbed_training_ends_with_the_same_bytes(name, survived):
    assert model_of(survived, name, "seed-1") == model_of(survived, "undisturbed", "seed-1")


@pytest.mark.parametrize("name", ENDS)
def test_its_history_has_every_step_once(name, survived):
    assert rows(survived, name) == rows(survived, "undisturbed")


@pytest.mark.parametrize("name", ENDS)
def test_its_first_attempt_ended_as_it_should_and_the_next_went_on_from_there(name, survived):
    first, second, *_ = manifest(survived, name)["attempts"]
    assert first["outcome"] == ENDS[name][0]
    assert 0 < second["resumed_at_step"] <= STEPS
    if first["outcome"] != "killed":
        assert second["resumed_at_step"] == first["step"]


@pytest.mark.parametrize("name", ENDS)
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
    with project.running("models", halt_at=[saved(name) for name in names]) as snakemake:
        ended, running = (project.halted(saved(name), snakemake) for name in names)
        snakemake.kill()
        snakemake.wait()
    go_on(ended)
    cluster.ended(project.jobs("train", "_ended_")[0]["JobId"])
    assert project.snakemake("--unlock").returncode == 0
    with project.running("models") as snakemake:
        wait_for(lambda: "waiting for" in project.printed() or snakemake.poll() is not None, "the next call waits")
        go_on(running)
        assert snakemake.wait(PATIENCE) == 0, project.printed()
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
    assert any("its result is used" in line and ended in line for line in lines)


def test_nothing_is_left_to_do_after_it(orphaned):
    assert "Nothing to be done" in orphaned.snakemake("models", "-n").stdout
