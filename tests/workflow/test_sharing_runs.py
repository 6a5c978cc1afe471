"""What others use of a finished run: its model asked, its package and card, and its way to a hub."""

import contextlib
import copy
import io
import json
import re
import shutil

import pyarrow.parquet as parquet
import pytest
from huggingface_hub import ModelCard

from chain import CONFIG
from qa.ask import Question, Reader
from qa.common.files import sha256_of_file, sha256_of_folder
from stand_in_hub import StandInHub

SMALL, SEEDED = "results/small/seed-1", "results/seeded/seed-1"
TOKEN, REPO = "hf_secretOfTheStandIn", "someone/mills"


def read(project, *parts):
    return json.loads(project.path(*parts).read_text())


def asked(project, folder, decoding, split="mills/validation"):
    """Texts and null scores by id of a model that is asked the questions of a split."""
    rows = parquet.read_table(project.path(f"results/questions/{split}.parquet")).to_pylist()
    reader = Reader(project.path(folder), decoding)
    found = reader.answer_all(Question(row["question"], row["context"], row["id"]) for row in rows)
    return {each.id: each.text for each in found}, {each.id: each.null_score for each in found}, found


@pytest.mark.parametrize("folder", ["package", "model"])
@pytest.mark.parametrize("decoding", ["n_best", "walkthrough"])
def test_a_model_that_is_asked_answers_as_the_workflow_did(decoding, folder, finished):
    texts, scores, _ = asked(finished, f"{SMALL}/{folder}", decoding)
    made = f"{SMALL}/mills/validation/{decoding}"
    assert texts == read(finished, made, "answers.json")
    assert scores == pytest.approx(read(finished, made, "null_scores.json"), abs=1e-5)


@pytest.mark.parametrize("folder", ["package", "model"])
def test_a_calibrated_decoding_is_asked_with_its_threshold_and_temperature(folder, improved):
    texts, scores, found = asked(improved, f"{SEEDED}/{folder}", "calibrated")
    made = f"{SEEDED}/mills/validation/calibrated"
    assert texts == read(improved, made, "answers.json")
    assert scores == pytest.approx(read(improved, made, "null_scores.json"), abs=1e-5)
    listed = parquet.read_table(improved.path(made, "nbest.parquet")).to_pylist()
    for each, row in zip(found, listed, strict=True):
        assert each.null_probability == pytest.approx(row["null_probability"], abs=1e-5)
    calibration = read(improved, SEEDED, "calibration/calibrated.json")
    settings = Reader(improved.path(SEEDED, folder)).settings["decodings"]["calibrated"]
    assert settings["null_threshold"] == calibration["null_threshold"]
    assert settings["temperature"] == calibration["temperature"]


def test_every_training_has_a_package_and_neither_ensembles_nor_published_models_do(improved):
    folders = {path.relative_to(improved.folder).as_posix() for path in improved.path("results").glob("*/*/package")}
    trained = {path.relative_to(improved.folder).as_posix() for path in improved.path("results").glob("*/*/model")}
    assert folders == {folder.replace("/model", "/package") for folder in trained} and len(folders) == 5


def test_the_cards_index_has_the_scores_of_the_metrics(finished):
    data = ModelCard.load(finished.path(SMALL, "package/README.md")).data
    found = {(result.metric_name, result.dataset_split): result.metric_value for result in data.eval_results}
    for decoding in ("n_best", "walkthrough"):
        metrics = read(finished, SMALL, "mills/validation", decoding, "metrics.json")
        assert found[f"Exact match ({decoding})", "validation"] == round(metrics["exact"], 4)
        assert found[f"F1 ({decoding})", "validation"] == round(metrics["f1"], 4)
    assert ModelCard.load(finished.path(SMALL, "model/README.md")).data.eval_results is None


def test_the_card_tells_the_hash_of_the_data_and_neither_paths_nor_nodes(finished):
    text = finished.path(SMALL, "package/README.md").read_text()
    assert sha256_of_file(finished.path("given/train.json")) in text
    node = read(finished, SMALL, "manifest.json")["machine"]["node"]
    assert str(finished.folder) not in text and not re.search(rf"\b{re.escape(node)}\b", text)


def test_the_code_in_the_card_runs_and_answers_from_the_text(finished):
    text = finished.path(SMALL, "package/README.md").read_text()
    (code,) = re.findall(r"```python\n(import torch.*?)```", text, re.S)
    code = code.replace("name = '.'", f"name = {str(finished.path(SMALL, 'package'))!r}")
    names, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    assert printed.getvalue().strip() in {"no answer"} or printed.getvalue().strip() in names["context"]
    expected = Reader(finished.path(SMALL, "package"), "n_best").answer(names["question"], names["context"])
    assert printed.getvalue().strip() == (expected.text or "no answer")


def test_a_package_stays_and_answers_when_the_rest_of_the_run_is_gone(twin):
    before = sha256_of_folder(twin.path(SMALL, "package"))
    shutil.move(twin.path(SMALL, "package"), twin.path("kept"))
    shutil.rmtree(twin.path("results"))
    assert sha256_of_folder(twin.path("kept")) == before
    assert Reader(twin.path("kept")).answer("When was the mill built?", "It was built in 1412.")


def test_without_a_repository_publishing_is_refused_and_no_other_target_publishes(finished):
    for target in ("publish", "publish_plan"):
        code, printed = finished.dry_run("-n", target)
        assert code != 0 and "nothing to publish: name a repository" in printed
    config = copy.deepcopy(CONFIG)
    config["runs"]["small"]["publish"] = {"repo": REPO, "private": False}
    assert "package" in finished.would_run(config)
    assert not finished.would_run(config) & {"train", "publish_plan", "publish"}
    assert finished.would_run(config, "publish") >= {"publish_plan", "publish"}


def test_a_run_is_published_after_a_plan_that_uses_no_network(twin):
    config = copy.deepcopy(CONFIG)
    config["runs"]["small"]["publish"] = {"repo": REPO}
    name = twin.configure(config)
    done = twin.snakemake("publish_plan", config=name)
    assert done.returncode == 0, done.stdout
    plan = read(twin, "results/publish_plan.json")[f"{SMALL}/package"]
    assert f"{REPO} (private)" in done.stdout and "model.safetensors" in done.stdout
    assert not twin.path("results/published.json").exists()
    twin.prefix = []  # loopback is a network too
    with StandInHub() as hub:
        refused = twin.snakemake("publish", config=name, HF_ENDPOINT=hub.url, HF_TOKEN=TOKEN)
        assert refused.returncode != 0 and "does not accept the token (status 401)" in refused.stdout
        assert not twin.path("results/published.json").exists()
        hub.writers[TOKEN] = {"someone"}
        done = twin.snakemake("publish", config=name, HF_ENDPOINT=hub.url, HF_TOKEN=TOKEN)
        assert done.returncode == 0, done.stdout
        published = read(twin, "results/published.json")[f"{SMALL}/package"]
        there = hub._repos["model", REPO, published["revision"]].files
        again = twin.would_run(config, "publish")
    assert there.keys() == plan["files"].keys() == published["files"].keys()
    assert sha256_of_file(twin.path(SMALL, "package/model.safetensors")) == plan["files"]["model.safetensors"]["sha256"]
    assert there["README.md"] == twin.path(SMALL, "package/README.md").read_bytes() and not again
    texts = [
        path.read_bytes()
        for part in ("logs", "results", ".snakemake")
        for path in twin.path(part).rglob("*.*")
        if path.is_file() and path.suffix in (".log", ".json", ".py")
    ]
    assert texts and not any(TOKEN.encode() in text for text in texts) and TOKEN not in done.stdout
