"""Two seeds of a run at once on a node with two GPUs, another run fails; and the mail that was asked for."""

import copy
import itertools
import re
from contextlib import suppress
from datetime import datetime

import pytest
import yaml

from chain import CONFIG, ROOT
from cluster import PATIENCE, wait_for
from on_slurm import BEGUN, ClusterProject, go_on

TRAININGS = [("small", 1), ("small", 2), ("other", 2)]
FAILED = ("other", 2)
AT_ONCE = (f"small/seed-1/{BEGUN}", f"small/seed-2/{BEGUN}")  # each waits there for the other


def site_with_mail() -> dict:
    """The set-up that profiles/slurm/README.md gives for mail."""
    text = (ROOT / "profiles/slurm/README.md").read_text()
    return yaml.safe_load(re.search(r"^### Mail.*?<<'EOF'\n(.*?)^EOF", text, re.M | re.S)[1])["set-resources"]


@pytest.fixture(scope="module")
def ran(project, cluster) -> ClusterProject:
    """The chain after a call in which training `other` with seed 2 cannot save."""
    config = copy.deepcopy(CONFIG)
    for run in config["runs"].values():
        run |= {"decodings": ["n_best"], "model": "one", "validate_on": None}
    config["runs"]["small"]["seeds"] = [1, 2]
    config["runs"]["other"] |= {"train_on": "mills/train", "seeds": [2]}
    project.configure(config)
    site = site_with_mail()
    site["train"]["gpu_model"] = "h100"
    project.site(**site)
    cluster.ask("scontrol", "update", "partitionname=any", "state=down")  # no job starts before the obstacle is there
    with project.running("scores", "--retries", "0", halt_at=AT_ONCE) as snakemake:
        wait_for(lambda: project.jobs() or snakemake.poll() is not None, "the first job is queued")
        obstacle = project.path("checkpoints/other/seed-2")
        obstacle.parent.mkdir(parents=True, exist_ok=True)
        obstacle.write_text("no folder can be made here")
        cluster.ask("scontrol", "update", "partitionname=any", "state=up")
        halted = [project.halted(training, snakemake) for training in AT_ONCE]
        project.path("status.txt").write_text(project.status())
        for process in halted:
            go_on(process)
        assert snakemake.wait(PATIENCE) == 1, project.printed()
    return project


def train_job(project: ClusterProject, run: str, seed: int) -> dict[str, str]:
    (job,) = project.jobs("train", f"_{run}_seed-{seed}")
    return job


def test_two_trainings_at_a_time_run_on_two_gpus(ran, cluster):
    jobs = [train_job(ran, *training) for training in TRAININGS]
    gpus = {job["JobId"]: {t["gpus"] for t in cluster.tasks() if t["job"] == job["JobId"]} for job in jobs}
    assert all(len(used) == 1 for used in gpus.values()) and set.union(*gpus.values()) == {"0", "1"}
    spans = {job["JobId"]: [datetime.fromisoformat(job[key]) for key in ("StartTime", "EndTime")] for job in jobs}
    at_once = [
        (a, b)
        for a, b in itertools.combinations(spans, 2)
        if max(spans[a][0], spans[b][0]) < min(spans[a][1], spans[b][1])
    ]
    assert at_once and all(gpus[a] != gpus[b] for a, b in at_once)


def test_the_status_beside_the_run_names_slurms_job_run_and_seed(ran):
    text = ran.path("status.txt").read_text()
    run, seed, number = re.search(r"^train +(\w+) +seed-(\d) +running +SLURM (\d+)", text, re.M).groups()
    assert train_job(ran, run, int(seed))["JobId"] == number
    assert f"    log: logs/train/{run}/seed-{seed}.log" in text


def test_the_status_after_it_names_the_failed_job_with_its_last_lines(ran):
    text = ran.status()
    job = train_job(ran, *FAILED)
    assert re.search(rf"^train +other +seed-2 +failed +SLURM {job['JobId']}", text, re.M) and ", 1 failed, " in text
    assert f"      | {ran.path('logs/train/other/seed-2.log').read_text().splitlines()[-1][:60]}" in text


@pytest.mark.parametrize("training", TRAININGS)
def test_one_that_fails_leaves_the_results_of_the_others(training, ran):
    run, seed = training
    folder = ran.path("results", run, f"seed-{seed}")
    made = [folder / "model/model.safetensors", folder / "mills/validation/n_best/metrics.json"]
    assert [path.exists() for path in made] == [training != FAILED] * 2
    assert train_job(ran, *training)["JobState"] == ("FAILED" if training == FAILED else "COMPLETED")


def test_the_terminal_says_which_job_failed_how_and_what_its_log_says(ran):
    job = train_job(ran, *FAILED)
    text = ran.printed()
    told = text[text.index("1 job failed:") :].splitlines()
    heading = next(line for line in told if line.startswith("train other, seed-2: "))
    assert "FAILED" in heading and f"SLURM job {job['JobId']} on {job['NodeList']}" in heading
    assert any("logs/train/other/seed-2.log" in line for line in told)
    last = ran.path("logs/train/other/seed-2.log").read_text().splitlines()[-1]
    assert any(line.strip().removeprefix("| ") == last for line in told)


def test_the_mail_that_was_asked_for_is_sent_and_no_other(ran, cluster):
    asked = set(re.search(r"--mail-type=(\S+)", site_with_mail()["train"]["slurm_extra"])[1].split(","))
    events = {"BEGIN": "Began", "END": "Ended", "FAIL": "Failed"}
    expected = sorted(
        (train_job(ran, *training)["JobId"], events[kind])
        for training in TRAININGS
        for kind in asked - {"END" if training == FAILED else "FAIL"}
    )

    def told() -> list[tuple[str, str]]:
        mails = [re.fullmatch(r"you@example.org: Slurm Job_id=(\d+) .*? (\w+),.*", mail) for mail in cluster.mails()]
        return sorted((mail[1], mail[2]) for mail in mails)

    with suppress(TimeoutError):
        wait_for(lambda: told() == expected, "all mail")
    assert told() == expected


def test_once_the_cause_is_put_right_the_same_command_makes_the_rest_only(ran):
    before = {job["JobId"] for job in ran.jobs()}
    ran.path("checkpoints/other/seed-2").unlink()
    done = ran.snakemake("scores")
    assert done.returncode == 0, done.stdout
    assert [job["Comment"] for job in ran.jobs() if job["JobId"] not in before] == [
        "rule_train_wildcards_other_seed-2",
        "rule_predict_wildcards_other_seed-2_mills_validation",
    ]
    assert ran.path("results/summary.csv").exists()
