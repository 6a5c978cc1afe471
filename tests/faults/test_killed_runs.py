"""The workflow killed at random moments of every stage, and started again until it is done."""

import random
import statistics

import pytest

from chain import Project
from killing import SEED, Moment, again, from_nothing, killed, leftovers, results_of

STAGES = [
    "download",
    "prepare_questions",
    "hold_out_calibration",
    "tokenize_and_label",
    "train",
    "soft_targets",
    "train",
    "predict",
]
STAGES += [
    "calibrate",
    "postprocess",
    "score",
    "analyze_errors",
    "package",
    "compare",
    "summarize",
    "resource_usage",
    "report",
]


def usual_seconds(project: Project, stage: str) -> float:
    """How long a stage's jobs have taken where nobody killed them."""
    usage = project.path("results/usage")
    files = [*usage.glob(f"{stage}.tsv"), *usage.glob(f"{stage}/**/*.tsv")]
    rows = [path.read_text().split("\n")[1] for path in files]
    return statistics.mean(float(row.split()[0]) for row in rows)


def moments(project: Project, seed: str) -> list[Moment]:
    """A moment of each stage, at a random time or file operation, and a few of Snakemake itself."""
    draw, found = random.Random(seed), []
    for number, stage in enumerate(STAGES):
        if number % 3 == 2:
            found.append(Moment(stage, operation=draw.randint(1, 200 if stage == "train" else 8)))
        else:
            seconds = draw.uniform(0, usual_seconds(project, stage))
            found.append(Moment(stage, seconds, what=draw.choice(["tree", "tree", "stage", "snakemake"])))
        if number % 5 == 4:
            found.append(Moment("snakemake", operation=draw.randint(1, 60)))
    return found


@pytest.mark.parametrize("seed", [SEED])
def test_a_run_killed_twenty_times_across_every_stage_ends_as_if_it_had_not_been(seed, every_stage, tmp_path):
    project, hits = from_nothing(every_stage, tmp_path / "killed"), 0
    for moment in moments(every_stage, seed):
        print(moment, flush=True)
        rule = "summarize" if moment.stage == "snakemake" else moment.stage
        sooner = Moment(moment.stage, operation=8) if rule != moment.stage else Moment(rule, 0.1)
        hits += killed(project, moment) or killed(project, sooner, "-R", rule)  # it was done before
        unlocked = project.snakemake("--unlock")
        assert unlocked.returncode == 0, unlocked.stdout
    done = again(project)
    assert done.returncode == 0, done.stdout
    assert hits >= 20
    assert results_of(project) == results_of(every_stage)
    assert not leftovers(project)
    assert project.would_run() == set()
