"""Two trainings, room for one job, a frozen Snakemake, a job that SLURM forgets meanwhile, and a controller away."""

import copy
import os
import pwd
import signal

import pytest

from chain import CONFIG
from cluster import PATIENCE, wait_for
from on_slurm import SAVED, ClusterProject, go_on

ACCOUNTING = True
FIRST = f"small/seed-1/{SAVED}"


@pytest.fixture(scope="module")
def waited(project, cluster) -> ClusterProject:
    """Both trainings after all of that. The job of the first is cancelled and forgotten while Snakemake is frozen."""
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

    with project.running("models", "--retries", "1", halt_at=[FIRST], SBATCH_ACCOUNT="def-mine") as snakemake:
        until(lambda: "AssocMaxSubmitJobLimit" in project.printed(), "the second training waits for room")
        training = project.halted(FIRST, snakemake)
        snakemake.send_signal(signal.SIGSTOP)
        (job,) = (job["JobId"] for job in project.jobs("train"))
        cluster.ask("scancel", job)
        go_on(training)
        wait_for(lambda: cluster.ask("scontrol", "show", "job", job, check=False).returncode, f"job {job} forgotten")
        cluster.stop_controller()
        snakemake.send_signal(signal.SIGCONT)
        until(lambda: "Unable to contact" in project.printed(), "the submission meets no controller")
        cluster.start_controller()
        assert snakemake.wait(PATIENCE) == 0, project.printed()
    return project


def test_a_refused_submission_waits_and_costs_no_try(waited):
    assert waited.printed().count("Error in rule train:") == 1  # the job that was cancelled
    assert "sbatch failed" not in waited.printed()


def test_the_end_of_a_job_that_squeue_has_forgotten_is_seen(waited, cluster):
    jobs = [job for job in waited.jobs("train", "_small_seed-1")]
    assert [job["JobState"] for job in jobs] == ["CANCELLED", "COMPLETED"]
