"""Two trainings, room for one job, a frozen Snakemake, a job that SLURM forgets meanwhile, and a controller away."""

import copy
import os
import pwd
import signal
from dataclasses import dataclass

import pytest

from chain import CONFIG
from cluster import PATIENCE, wait_for
from on_slurm import SAVED, ClusterProject, go_on

ACCOUNTING = True
SEEDS = {seed: f"small/seed-{seed}/{SAVED}" for seed in "12"}


@dataclass
class Waited:
    """The project after all of that, and the job that was cancelled and forgotten while Snakemake was frozen."""

    project: ClusterProject
    cancelled: dict[str, str]


@pytest.fixture(scope="module")
def waited(project, cluster) -> Waited:
    for name in ("def-mine_gpu", "def-mine_cpu"):
        cluster.add_account(name)
    user = pwd.getpwuid(os.geteuid()).pw_name
    cluster.ask("sacctmgr", "-i", "modify", "user", user, "set", "MaxSubmitJobs=1")
    cluster.configure("MinJobAge", 2)
    config = copy.deepcopy(CONFIG)
    config["runs"] = {"small": {**config["runs"]["small"], "seeds": [1, 2], "validate_on": None}}
    project.configure(config)

    def until(condition, what: str) -> None:
        wait_for(lambda: condition() or snakemake.poll() is not None, what)

    with project.running("models", halt_at=SEEDS.values(), SBATCH_ACCOUNT="def-mine") as snakemake:
        until(lambda: project.jobs("train") and "SubmitJobLimit" in project.printed(), "a training waits for room")
        (job,) = project.jobs("train")
        first = job["Comment"][-1]
        (second,) = set(SEEDS) - {first}
        training = project.halted(SEEDS[first], snakemake)
        snakemake.send_signal(signal.SIGSTOP)
        cluster.ask("scancel", job["JobId"])
        go_on(training)
        show = ("scontrol", "show", "job", job["JobId"])
        wait_for(lambda: cluster.ask(*show, check=False).returncode, "the job is forgotten")
        cluster.stop_controller()
        snakemake.send_signal(signal.SIGCONT)
        until(lambda: "squeue does not answer" in project.printed(), "the submission meets no controller")
        cluster.start_controller()
        go_on(project.halted(SEEDS[second], snakemake))
        assert snakemake.wait(PATIENCE) == 0, project.printed()
    return Waited(project, job)


def test_a_refused_submission_waits_and_costs_no_try(waited):
    printed = waited.project.printed()
    assert printed.count("Error in rule train") == 1  # the job that was cancelled
    assert "sbatch failed" not in printed


def test_the_end_of_a_job_that_squeue_has_forgotten_is_seen(waited):
    jobs = waited.project.jobs("train", waited.cancelled["Comment"].removeprefix("rule_train"))
    assert [job["JobState"] for job in jobs] == ["CANCELLED", "COMPLETED"]


def test_jobs_have_names_that_a_person_can_read(waited):
    assert {job["JobName"] for job in waited.project.jobs("train")} == {"train_small_seed-1", "train_small_seed-2"}
