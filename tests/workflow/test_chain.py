"""The chain as users run it: all of it, single targets, the default configuration, and wrong input."""

import copy
import csv
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

import tiny
from chain import CONFIG, ROOT, WITHOUT_NETWORK, Project, copy_of
from qa.common.files import sha256_of_folder
from qa.evaluation import summarize
from stand_in_hub import StandInHub

SMALL = "results/small/seed-1"
DATASET = "resources/datasets/mills"
REVISION = "0123456789abcdef0123456789abcdef01234567"


def read(path: Path):
    return json.loads(path.read_text())


def test_the_chain_leaves_every_file_that_is_documented(finished):
    key = next(finished.path("results/windows/mills/train").iterdir()).name
    answers = f"{SMALL}/mills/validation/n_best"
    expected = [
        "resources/models/one/source.json",
        "resources/datasets/mills/source.json",
        "results/questions/mills/train.parquet",
        f"results/windows/mills/train/{key}/dataset_info.json",
        f"{SMALL}/model/model.safetensors",
        f"{SMALL}/training.csv",
        f"{SMALL}/manifest.json",
        *(f"{SMALL}/{folder}/{name}" for folder in ("model", "package") for name in ("README.md", "qa_settings.json")),
        f"{SMALL}/package/model.safetensors",
        f"{SMALL}/mills/validation/spans.parquet",
        *(f"{answers}/{name}" for name in ("answers.json", "null_scores.json", "no_answer_probabilities.json")),
        *(f"{answers}/{name}" for name in ("nbest.parquet", "metrics.json")),
        *(f"{answers}/{name}" for name in ("question_scores.parquet", "slices.csv", "errors.parquet")),
        f"{SMALL}/mills/validation/walkthrough/metrics.json",
        "results/summary.csv",
        "results/comparison.csv",
        "results/resource_usage.csv",
        "results/usage/train/small/seed-1.tsv",
        "logs/train/small/seed-1.log",
    ]
    assert not [name for name in expected if not finished.path(name).is_file()]
    assert not [path for path in finished.folder.rglob("*.partial*") if ".snakemake" not in path.parts]
    assert not finished.path("checkpoints/small/seed-1").exists()


def test_the_model_loads_with_plain_from_pretrained(finished):
    folder = finished.path(SMALL, "model")
    assert AutoModelForQuestionAnswering.from_pretrained(folder, local_files_only=True).config.hidden_size == 32
    assert AutoTokenizer.from_pretrained(folder, local_files_only=True).is_fast


def test_the_chain_needs_no_network(finished):
    if finished.prefix != WITHOUT_NETWORK:
        pytest.skip("this system allows no network namespace of one's own")
    assert "steps (100%) done" in finished.path("first-run.txt").read_text()


@pytest.mark.parametrize("decoding", ["n_best", "walkthrough"])
def test_the_metrics_are_those_of_the_command_on_the_dataset_itself(decoding, finished):
    folder = finished.path(SMALL, "mills/validation", decoding)
    data = finished.path("given/validation.json")
    command = [sys.executable, "-m", "qa.metrics", str(data), str(folder / "answers.json")]
    environment = {**os.environ, "PYTHONPATH": str(finished.path("workflow/scripts"))}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    official = json.loads(printed)
    metrics = read(folder / "metrics.json")
    assert list(metrics)[: len(official)] == list(official) and metrics["total"] == 10
    assert {key: metrics[key] for key in official} == official
    assert {"best_exact", "best_f1_thresh", "pr_f1_ap", "answered"} <= metrics.keys()
    means = [key for key in official if not key.endswith("total")] + ["answered"]
    sure = [name + suffix for suffix in ("", "_uncalibrated") for name in ("ece", "brier", "aurc")]
    assert list(metrics["intervals"]) == [*means, *sure] and metrics["interval"]["resampled"] == "questions"
    within = {key: low <= metrics[key] <= high for key, (low, high) in metrics["intervals"].items()}
    assert all(inside for key, inside in within.items() if not key.startswith("ece"))  # whose bias is taken off


@pytest.mark.parametrize("decoding", ["n_best", "walkthrough"])
def test_slices_and_errors_agree_with_the_metrics(decoding, finished):
    folder = finished.path(SMALL, "mills/validation", decoding)
    metrics, table = read(folder / "metrics.json"), pd.read_csv(folder / "slices.csv").set_index(["kind", "slice"])
    for name, prefix in (("answerable", "HasAns"), ("unanswerable", "NoAns")):
        row = table.loc["answerability", name]
        official = [metrics[f"{prefix}_{key}"] for key in ("total", "exact", "f1")]
        assert [row["count"], row["exact"], row["f1"]] == official
    errors = pd.read_parquet(folder / "errors.parquet")
    assert len(errors) == round(metrics["total"] * (1 - metrics["exact"] / 100))
    assert set(errors["id"]) <= read(folder / "answers.json").keys() and errors["probability"].between(0, 1).all()


def test_the_summary_has_mean_and_deviation_over_seeds(tmp_path):
    scored, files = [], []
    for seed, (exact, f1) in {1: (50.0, 60.0), 2: (54.0, 61.0), 3: (58.0, 65.0)}.items():
        path = tmp_path / f"{seed}.json"
        own = {"intervals": {"exact": [40.0, 60.0]}, "interval": {"level": 0.95}}  # of one seed, so not in the table
        means = {"exact": exact, "f1": f1, "total": 7, "HasAns_f1": 1.0, "NoAns_f1": 2.0}
        path.write_text(json.dumps(means | own))
        scored.append(("r", f"seed-{seed}", "d/validation", "n_best"))
        files.append(str(path))
    (tmp_path / "held-out.json").write_text(json.dumps({"exact": 30.0, "f1": 33.0, "questions": 9}))
    calibrations = {("s", "seed-1", "n_best"): str(tmp_path / "held-out.json")}
    scored.append(("s", "seed-1", "d/validation", "n_best"))
    summarize.summarize(scored, [*files, files[0]], tmp_path / "s.csv", calibrations=calibrations)
    several, single = csv.DictReader((tmp_path / "s.csv").read_text().splitlines())
    assert [several[key] for key in (*summarize.KEYS, "seeds")] == ["r", "d", "validation", "n_best", "3"]
    assert (float(several["exact_mean"]), float(several["exact_std"])) == (54.0, 4.0)
    assert float(several["f1_std"]) == pytest.approx(7**0.5)
    assert single["exact_mean"] == "50.0" and single["exact_std"] == ""
    assert (single["calibration_exact_mean"], single["calibration_f1_mean"]) == ("30.0", "33.0")
    assert several["calibration_f1_mean"] == "" and "null_threshold_mean" not in several
    assert not any("interval" in name for name in several)
    assert "54.00 ± 4.00" in summarize.as_text(tmp_path / "s.csv")


def test_the_closing_message_shows_the_scores_and_where_things_are(finished):
    text = finished.path("first-run.txt").read_text()
    assert "Scores in percent (results/summary.csv" in text and "answerable F1" in text
    assert "results/{run}/{variant}/model" in text
    assert "Differences in F1 in percentage points (results/comparison.csv" in text and "other/n_best" in text


def test_runs_are_compared_with_the_first_by_their_first_decoding_on_the_scores_of_their_metrics(finished):
    rows = list(csv.DictReader(finished.path("results/comparison.csv").read_text().splitlines()))
    assert [(row["run"], row["decoding"]) for row in rows] == [("small", "n_best")]
    for row in rows:
        assert (row["reference_run"], row["reference_decoding"], row["questions"]) == ("other", "n_best", "10")
        own, reference = (
            read(finished.path(folder, "mills/validation", decoding, "metrics.json"))
            for folder, decoding in ((SMALL, row["decoding"]), ("results/other/seed-1", "n_best"))
        )
        for metric in ("exact", "f1"):
            expected = (own[metric], reference[metric], own[metric] - reference[metric])
            found = [float(row[metric + part]) for part in ("", "_reference", "_difference")]
            assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("target", "rules"),
    [
        ("models", {"train", "models"}),
        ("predictions", {"train", "predict", "postprocess", "predictions"}),
        (
            "scores",
            {
                "train",
                "predict",
                "postprocess",
                "score",
                "analyze_errors",
                "summarize",
                "compare",
                "package",
                "resource_usage",
            }
            | {"scores"},
        ),
        (f"{SMALL}/mills/validation/n_best/metrics.json", {"train", "predict", "postprocess", "score"}),
    ],
)
def test_single_targets_make_what_they_need_and_no_more(target, rules, finished, changed):
    changed["defaults"]["training"]["learning_rate"] = 1e-3
    assert finished.would_run(changed, target) == rules


def test_the_default_target_makes_every_final_result_again(twin):
    """Those that docs/results.md names, but what is between the stages or asked for."""
    tree = (ROOT / "docs/results.md").read_text().split("## The tree")[1].split("Outside `results/`")[0]
    names = [part for line in re.findall(r"^    +(\S.*?)   ", tree, re.M) for part in line.split(", ")]
    folder = "results/{run}/{variant}/{dataset}/{split}"
    other = ("questions/", "targets/", "windows/", "usage/", "publish", "…/publish")
    patterns = [name.replace("…", folder) if "…" in name else f"results/{name}" for name in names]
    patterns = [re.sub(r"{[\w-]+}", "*", pattern) for pattern in patterns if "spans.parquet" not in pattern]
    finals = [
        path for p in patterns if not p.removeprefix("results/").startswith(other) for path in twin.folder.glob(p)
    ]
    assert {path.name for path in finals} >= {"report.html", "figures", "package", "nbest.parquet", "training.csv"}
    for path in finals:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    code, printed = twin.dry_run("-n")
    missing = re.findall(r"[\w./-]+", " ".join(re.findall(r"Missing output files: (.*)", printed)))
    assert code == 0 and {path.relative_to(twin.folder).as_posix() for path in finals} <= set(missing), printed


def test_a_forced_rerun_trains_anew_and_ends_with_the_same_bytes(twin):
    before = sha256_of_folder(twin.path(SMALL, "model"))
    started = read(twin.path(SMALL, "manifest.json"))["started"]
    done = twin.snakemake(f"{SMALL}/model", "-R", "train")
    assert done.returncode == 0, done.stdout
    manifest = read(twin.path(SMALL, "manifest.json"))
    assert manifest["started"] > started
    assert [attempt["resumed_at_step"] for attempt in manifest["attempts"]] == [0]
    assert sha256_of_folder(twin.path(SMALL, "model")) == before


def test_the_default_configuration_is_the_real_experiment(finished):
    code, printed = finished.dry_run("-n", config=None)
    assert code == 0, printed
    assert "Fine-tuning baseline, seed-42" in printed and "Fine-tuning roberta-base, seed-3" in printed


def test_a_config_file_replaces_the_default_one(finished):
    _, printed = finished.dry_run("-n", "--forceall")
    assert "roberta" not in printed and "Fine-tuning small" in printed


def test_the_graph_can_be_drawn(finished):
    code, printed = finished.dry_run("--dag", "dot")
    assert code == 0 and "digraph snakemake_dag" in printed
    assert all(rule in printed for rule in ("download", "tokenize_and_label", "train", "postprocess"))


def test_the_picture_in_the_readme_is_part_of_the_rule_graph(improved):
    _, printed = improved.dry_run("--rulegraph", "mermaid-js")
    names = dict(re.findall(r"(id\d+)\[(\w+)\]", printed))
    real = {(names[a], names[b]) for a, b in re.findall(r"(id\d+) --> (id\d+)", printed) if names[b] != "all"}
    picture = re.search(r"```mermaid\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    chains = [line.split(" --> ") for line in map(str.strip, picture.splitlines()) if " --> " in line]
    drawn = {edge for chain in chains for edge in itertools.pairwise(chain)}
    assert len(drawn) > 9 and drawn <= real  # the main line


def test_lint_finds_nothing(finished):
    code, printed = finished.dry_run("--lint")
    assert code == 0 and "Congratulations" in printed, printed


def test_the_report_has_every_result_under_a_category_with_a_caption(finished):
    done = finished.snakemake("--report", "report.html")
    assert done.returncode == 0, done.stdout
    page = finished.path("report.html").read_text()
    for name in (
        "report.html",
        "summary.csv",
        "comparison.csv",
        "resource_usage.csv",
        "training.csv",
        "manifest.json",
        "answers.json",
        "null_scores.json",
        "metrics.json",
        "slices.csv",
        "errors.parquet",
    ):
        assert name in page
    categories = ("All runs", "Training", "Answers", "Null scores", "Scores", "Slices", "Errors")
    for text in (*categories, "Official SQuAD 2.0 metrics of small"):
        assert text in page


def test_a_mistake_in_the_configuration_ends_before_any_job(finished, changed):
    changed["runs"]["small"]["training"] = {"lerning_rate": 1}
    code, printed = finished.dry_run(config=finished.configure(changed, "wrong.yaml"))
    assert code != 0
    assert "runs.small.training: unknown key `lerning_rate`; did you mean `learning_rate`?" in printed
    assert "Traceback" not in printed and "Job stats" not in printed


def test_a_missing_file_of_the_users_own_is_named_before_any_job(finished, changed):
    changed["datasets"]["mills"]["splits"]["train"] = "given/nowhere.json"
    code, printed = finished.dry_run(config=finished.configure(changed, "wrong.yaml"))
    assert code != 0 and "splits.train: no such file: given/nowhere.json" in printed


def test_a_bad_question_ends_in_one_sentence_and_leaves_nothing_under_a_final_name(tmp_path):
    project = copy_of(tmp_path)
    path = project.path("given/train.json")
    path.write_text(path.read_text().replace('"answer_start": ', '"answer_start": 1', 1))
    done = project.snakemake("results/questions/mills/train.parquet", QA_PREFLIGHT="off")
    assert done.returncode != 0
    assert "given/train.json: data[0].paragraphs[0].qas[0], id 'train-0': " in done.stdout
    assert "1 answers do not stand at their place" in done.stdout and "id 'train-0'" in done.stdout
    assert "Traceback" not in project.path("logs/prepare_questions/mills/train.log").read_text()
    assert not project.path("results/questions/mills/train.parquet").exists()


def test_bad_questions_under_a_datasets_name_cost_nothing_once_the_good_ones_are_back(twin):
    path = twin.path("given/train.json")
    good = path.read_text()
    path.write_text(good.replace('"answer_start": ', '"answer_start": 1', 1))
    done = twin.snakemake()
    assert done.returncode != 0 and "Preflight found 1 problem; nothing was queued" in done.stdout
    assert "given/train.json: data[0].paragraphs[0].qas[0], id 'train-0': " in done.stdout
    path.write_text(good)
    assert twin.would_run() == set()


def test_model_and_questions_come_from_a_hub_and_train(tmp_path, changed):
    project = copy_of(tmp_path)
    model = {path.name: path.read_bytes() for path in project.path("given/one").iterdir()}
    rows = []
    for paragraph in tiny.squad(14)["data"][0]["paragraphs"]:
        for question in paragraph["qas"]:
            answers = {key: [a[key] for a in question["answers"]] for key in ("text", "answer_start")}
            row = {"id": question["id"], "title": "", "context": paragraph["context"], "question": question["question"]}
            rows.append({**row, "answers": answers})
    pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
    changed["models"]["one"] = {"repo": "some/encoder", "revision": REVISION}
    splits = {"train": "data/train-*.parquet", "validation": "data/train-*.parquet", "extra": "data/train-*.parquet"}
    changed["datasets"]["mills"] = {"repo": "some/questions", "revision": REVISION, "splits": splits}
    del changed["runs"]["other"], changed["runs"]["small"]["validate_on"]
    with StandInHub() as hub:
        hub.add_repo("model", "some/encoder", REVISION, {**model, "pytorch_model.bin": b"no"})
        questions = {"data/train-0.parquet": (tmp_path / "rows.parquet").read_bytes()}
        hub.add_repo("dataset", "some/questions", REVISION, questions)
        config = project.configure(changed)
        done = project.snakemake("resources/models/one", DATASET, config=config, HF_ENDPOINT=hub.url)
        assert done.returncode == 0, done.stdout
        asked = len(hub.requests)
        assert asked and not hub.asked("*pytorch_model.bin")
        done = project.snakemake(f"{SMALL}/manifest.json", config=config, HF_ENDPOINT=hub.url)
        assert done.returncode == 0, done.stdout
        assert len(hub.requests) == asked, "only download may use the network"
    source = read(project.path("resources/models/one/source.json"))
    assert (source["repo"], source["revision"]) == ("some/encoder", REVISION)
    for part, name, rules in (("models", "one", set()), ("datasets", "mills", {"prepare_questions"})):
        other = copy.deepcopy(changed)
        other[part][name]["revision"] = REVISION[::-1]
        assert project.would_run(other, f"{SMALL}/manifest.json") == {"download", "tokenize_and_label", "train"} | rules


def test_a_missing_repository_ends_in_one_sentence(tmp_path, changed):
    project = copy_of(tmp_path)
    changed["models"]["one"] = {"repo": "some/nothing", "revision": REVISION}
    with StandInHub() as hub:
        done = project.snakemake("resources/models/one", config=project.configure(changed), HF_ENDPOINT=hub.url)
    assert done.returncode != 0 and "some/nothing" in done.stdout
    assert not project.path("resources/models/one").exists()


def test_the_chain_runs_from_another_working_directory(finished, tmp_path):
    for name in ("config", "given"):
        shutil.copytree(finished.path(name), tmp_path / name)
    elsewhere = Project(tmp_path, profile=str(finished.path("profiles/local")))
    elsewhere.configure(CONFIG)
    code, printed = elsewhere.dry_run("-n", "--snakefile", str(finished.path("Snakefile")))
    assert code == 0 and "Fine-tuning small" in printed, printed
