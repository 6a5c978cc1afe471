"""Sweeps, published models and answers from files through the workflow: what a dry run says, and what trains."""

import copy
import csv
import json
import subprocess
import sys
from contextlib import chdir

import pytest

from chain import CONFIG, copy_of
from qa.common.errors import InputError
from qa.config import settings
from qa.paper import table as paper
from qa.report.results import Results

READY = {"model": "one", "train_on": None, "evaluate_on": ["mills/validation"], "decodings": ["n_best"]}
ANSWERED = {"predict", "postprocess", "score", "analyze_errors", "summarize", "compare", "resource_usage", "report"}


@pytest.fixture
def swept(changed):
    """The tiny configuration whose run `small` lists two learning rates."""
    changed["runs"]["small"]["training"] = {"learning_rate": [1e-3, "2e-3"]}
    return changed


@pytest.fixture
def with_ready(changed):
    """The tiny configuration with a run whose model is fine-tuned already."""
    changed["runs"]["ready"] = copy.deepcopy(READY)
    return changed


def test_a_dry_run_of_a_sweep_names_its_trainings_and_counts_them(finished, swept):
    code, printed = finished.dry_run("-n", config=finished.configure(swept, "swept.yaml"))
    assert code == 0, printed
    trained = {line for line in printed.splitlines() if "Fine-tuning" in line}
    assert len(trained) == 2
    for value in ("0.001", "2e-3"):
        assert any(f"Fine-tuning small.learning_rate-{value}, seed-1" in line for line in trained)
    assert printed.count("3 trainings: 3 runs x 1 seed (sweep: small x 2)\n") == 1


def test_the_number_of_trainings_is_told_once_and_not_by_jobs(finished):
    text = finished.path("first-run.txt").read_text()
    assert text.count("2 trainings: 2 runs x 1 seed\n") == 1 and text.count("trainings:") == 1


def test_what_snakemake_prints_for_other_programs_has_nothing_else_in_it(finished, swept):
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local", "--d3dag", "--configfile"]
    command.append(finished.configure(swept, "swept.yaml"))
    done = subprocess.run(command, cwd=finished.folder, capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout)["nodes"], done.stderr
    assert "3 trainings: 3 runs" in done.stderr


def test_a_mistake_in_a_sweep_names_the_run_as_it_is_written(finished, swept):
    swept["runs"]["small"]["training"]["batch_size"] = [4, 0]
    code, printed = finished.dry_run("-n", config=finished.configure(swept, "wrong.yaml"))
    assert code != 0 and "Traceback" not in printed
    assert "config: runs.small.training.batch_size: 0 is not allowed; it must be at least 1" in printed


def test_a_published_model_is_scored_without_training(twin, with_ready):
    config = twin.configure(with_ready, "ready.yaml")
    assert twin.would_run(with_ready) == ANSWERED
    done = twin.snakemake("results/summary.csv", config=config)
    assert done.returncode == 0, done.stdout
    assert "Fine-tuning" not in done.stdout
    folder = twin.path("results/ready/published")
    assert sorted(path.name for path in folder.iterdir()) == ["mills"]
    assert json.loads((folder / "mills/validation/n_best/metrics.json").read_text())["total"] == 10
    rows = list(csv.DictReader(twin.path("results/summary.csv").read_text().splitlines()))
    ready = [row for row in rows if row["run"] == "ready"]
    assert len(rows) == 4 and len(ready) == 1 and ready[0]["exact_mean"] and not ready[0]["exact_std"]
    assert twin.would_run(with_ready, "results/summary.csv") == set()
    with_ready["defaults"]["training"]["learning_rate"] = 1e-3
    _, retrained = twin.dry_run("-n", config=twin.configure(with_ready, "changed.yaml"))
    assert "Fine-tuning small, seed-1" in retrained and "with ready" not in retrained
    with_ready["defaults"] = copy.deepcopy(CONFIG["defaults"])
    with_ready["models"]["one"]["overrides"] = {"hidden_dropout_prob": 0.2}
    assert "with ready" in twin.dry_run("-n", config=twin.configure(with_ready, "changed.yaml"))[1]


def test_answers_of_another_system_are_scored_and_taken_anew_when_their_file_changes(tmp_path):
    project = copy_of(tmp_path)
    config = {
        "datasets": CONFIG["datasets"],
        "runs": {"theirs": {"answers": {"mills/validation": "given/answers.json"}}},
    }
    config["runs"]["others"] = {"answers": {"mills/validation": "given/others.jsonl"}}
    project.configure(config)
    given = json.loads(project.path("given/answers.json").read_text())
    first = next(iter(given))
    lines = [json.dumps({"id": key, "answer": "", "probability": 0.5}) for key in given]
    others = project.path("given/others.jsonl")

    def finished_with(*kept):
        others.write_text("\n".join(kept))
        return project.snakemake("results/comparison.csv", "results/summary.csv")

    assert "others.jsonl: not JSON (" in finished_with(lines[0], "{").stdout  # before anything is queued
    refused = finished_with(*lines[1:])
    assert refused.returncode != 0 and f"given/others.jsonl: nothing for 1 of 10 questions ({first})" in refused.stdout
    done = finished_with(*lines)
    assert done.returncode == 0, done.stdout
    answers = project.path("results/theirs/external/mills/validation/as_given/answers.json")
    assert json.loads(answers.read_text()) == given
    (row,) = csv.DictReader(project.path("results/comparison.csv").read_text().splitlines())
    assert (row["run"], row["reference_run"], row["questions"]) == ("theirs", "others", "10")
    assert project.would_run(None, "results/comparison.csv") == set()
    with chdir(project.folder):
        paper.check(Results(settings.check(["tiny.yaml"])))
        others.write_text("\n".join(lines).replace("0.5", "0.75"))
        with pytest.raises(InputError, match="given/others.jsonl: changed since run `others` was made of it"):
            paper.check(Results(settings.check(["tiny.yaml"])))
    assert project.would_run(None, "results/comparison.csv") == {"postprocess", "score", "compare"}


def test_the_target_models_has_only_what_is_trained(finished, with_ready):
    assert finished.would_run(with_ready, "models") == set()


def test_a_seed_of_a_run_that_trains_nothing_is_refused(finished, with_ready):
    config = finished.configure(with_ready, "ready.yaml")
    code, printed = finished.dry_run("-n", "results/ready/seed-1/model", config=config)
    assert code != 0 and "run `ready` trains nothing (train_on: null)" in printed
