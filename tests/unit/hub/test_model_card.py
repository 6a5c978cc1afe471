"""Model cards and packages: metadata that the hub reads, hostile names as text, a folder that is whole in itself."""

import copy
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from tokenizers import processors

import tiny
from qa.common.errors import InputError
from qa.common.files import read_json, sha256_of_folder, write_json
from qa.config.settings import resolve
from qa.hub import model_card, package
from qa.plan import card_facts
from qa.reader import Reader

CONFIG = {
    "models": {"base": {"repo": "org/base", "revision": "a" * 40}, "own": {"path": "/home/ada/secret/model"}},
    "datasets": {
        "squad2": {"repo": "org/squad2", "revision": "b" * 40, "splits": {"train": "train-*", "validation": "val-*"}},
        "mine": {"splits": {"train": "/home/ada/secret/train.json"}},
    },
    "decodings": {"n_best": {"method": "n_best"}, "walkthrough": {"method": "walkthrough"}},
    "runs": {
        "r": {
            "model": "base",
            "train_on": ["squad2/train", "mine/train"],
            "evaluate_on": ["squad2/validation"],
            "decodings": ["n_best", "walkthrough"],
            "seeds": [3, 4],
        },
    },
}
MADE = {
    "settings": {"learning_rate": 2e-5, "distillation": {"weight": 0.5}},
    "seed": 3,
    "steps": 7,
    "code": "0123456789ab",
    "git_commit": "c" * 40,
    "git_dirty": True,
    "machine": {"node": "login7.secret", "slurm_job_id": "99", "gpu": "NVIDIA A100", "cpu_threads": 4},
    "gpus": 2,
    "versions": {"torch": "2.13.0", "numpy": None},
    "attempts": [{"node": "login7.secret"}],
}
FOUND = {"null_threshold": 1.2345678, "temperature": 1.5, "questions": 600, "unanswerable": 33.3}
FOUND |= {"intervals": {"null_threshold": [-0.128, 2.5]}, "interval": {"level": 0.95, "resampled": "articles"}}
HOSTILE = "x\"'|`*_<script>alert(1)</script>\n---\nlicense: mit\n[a](javascript:b) \x1b[2J #"


def metrics(exact, **more):
    found = {"exact": exact, "f1": exact + 1, "total": 90, "HasAns_f1": 70.0, "NoAns_f1": 80.0}
    found |= {"intervals": {"exact": [exact - 2, exact + 2]}, "interval": {"level": 0.95, "resampled": "articles"}}
    return found | more


SCORES = [
    {"split": "squad2/validation", "decoding": "n_best", **metrics(75.123456)},
    {"split": "squad2/validation", "decoding": "walkthrough", **metrics(60.0)},
]


def described(config=CONFIG, sources=None, scores=SCORES, made=MADE, calibrations=None):
    shared = card_facts.shared(resolve(config), "r", "seed-3")
    sources = sources or {"model": {"license": "mit", "language": "en"}, "datasets": {}}
    return model_card.card(shared, made, sources, {"n_best": FOUND} if calibrations is None else calibrations, scores)


def changed(path, value):
    config = copy.deepcopy(CONFIG)
    *parents, last = path.split(".")
    node = config
    for key in parents:
        node = node.setdefault(key, {})
    node[last] = value
    return config


def test_the_metadata_are_what_the_hub_reads():
    data = ModelCard(described()).data
    assert (data.license, data.language, data.library_name) == ("mit", "en", "transformers")
    assert (data.pipeline_tag, data.base_model, data.datasets) == ("question-answering", "org/base", ["org/squad2"])
    assert data.metrics == ["exact_match", "f1"] and data.model_name == "r-seed-3"
    found = {(r.metric_name, r.metric_type): r.metric_value for r in data.eval_results}
    assert found == {
        ("Exact match (n_best)", "exact_match"): 75.1235,
        ("F1 (n_best)", "f1"): 76.1235,
        ("Exact match (walkthrough)", "exact_match"): 60.0,
        ("F1 (walkthrough)", "f1"): 61.0,
    }
    for result in data.eval_results:
        assert (result.task_type, result.dataset_type) == ("question-answering", "org/squad2")
        assert (result.dataset_split, result.dataset_revision) == ("validation", "b" * 40)


def test_a_card_says_where_f1_counts_characters():
    text = described(scores=[{**SCORES[0], "f1_by": "characters"}, SCORES[1]])
    names = {result.metric_name for result in ModelCard(text).data.eval_results}
    assert {"F1 by characters (n_best)", "Exact match (n_best)", "F1 (walkthrough)"} <= names
    assert (
        "| n_best, F1 by characters |" in text.replace("\\", "")
        and "F1 counts characters, and all punctuation is ignored, where the row" in text
    )
    assert "characters" not in described().partition("## Scores")[2].partition("## Training")[0]


def test_a_card_names_the_runs_that_the_model_was_trained_in_before():
    config = copy.deepcopy(CONFIG)
    first = {"model": "base", "train_on": "first/train", "decodings": ["n_best"], "evaluate_on": ["squad2/validation"]}
    config["runs"] |= {"first": first, "second": {**first, "model": {"run": "first"}, "train_on": "mine/train"}}
    config["runs"]["r"]["model"] = {"run": "second", "seed": 42}
    config["datasets"]["first"] = {"repo": "org/first", "revision": "d" * 40, "splits": {"train": "train-*"}}
    text = described(config)
    order = ["[org/base]", "first/train (run first, seed-42), then", "mine/train (run second, seed-42), then"]
    places = [text.index(part) for part in [*order, "squad2/train, mine/train (run r, seed-3)"]]
    assert places == sorted(places) and "- trained on first/train" in text
    assert ModelCard(text).data.datasets == ["org/first", "org/squad2"]
    assert "resources/datasets/first" in card_facts.needs_of_package(resolve(config), "r", "seed-3")["datasets"]


def test_a_card_calls_held_out_questions_calibrating_only_where_a_threshold_is_calibrated():
    share = "squad2/train (the share held out of it, 5% by whole articles or contexts)"
    assert f"- calibrated on {share}" in described()
    fixed = described(changed("decodings.n_best.null_threshold", 0.0))
    assert f"- kept from training: {share}" in fixed and "- calibrated on" not in fixed


def test_a_card_without_scores_has_no_model_index_and_is_the_same_each_time():
    text = described(scores=[], calibrations={})
    assert "model-index" not in text and "Not scored yet" in text and text == described(scores=[], calibrations={})
    assert "not calibrated yet" in text


def test_every_part_that_a_reader_looks_for_is_there():
    text = described()
    heads = re.findall(r"^## (.+)$", text, re.M)
    assert heads == ["How to use it", "Scores", "Training", "Data", "Limits", "How it was made", "Licence"]
    for part in (
        "from_pretrained(name)",
        "qa ask --model DIR",
        "75.12 (73.12 to 77.12)",
        "95 % intervals, which resample articles",
        "| distillation.weight | 0.5 |",
        "a" * 40,
        "b" * 40,
        f"commit {'c' * 40}, with changes that are not committed",
        "2 x NVIDIA A100",
        "600 held-out questions, 33 % of them unanswerable",
        "the share held out of it, 5% by whole articles or contexts",
        "answers of more than 30 tokens",
        "> 1.2346  # the null threshold",
    ):
        assert part in text, part


def test_a_card_says_which_decodings_bound_an_answer_and_a_small_share_held_out():
    assert "- With n\\_best, it never finds answers of more than 30 tokens" in described()  # walkthrough has no bound
    assert "- It never finds answers of more than 30" in described(changed("runs.r.decodings", ["n_best"]), scores=[])
    assert "held out of it, 0.7% by whole" in described(changed("runs.r.hold_out", 0.007))


def cls_at_the_end(texts):
    """A tokenizer like XLNet's: the token that stands for no answer comes last."""
    tokenizer = tiny.word_piece(texts)
    special = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP] [CLS]", pair="$A [SEP] $B:1 [SEP]:1 [CLS]:1", special_tokens=special
    )
    return tokenizer


@pytest.mark.parametrize("family", [tiny.byte_level_bpe, cls_at_the_end])
def test_the_code_for_transformers_alone_finds_the_workflows_null_score_and_best_span(family, tmp_path, capsys):
    code = re.findall(r"```python\n(.+?)```", described(calibrations={}), re.S)[1]
    texts = ["When was it built?", "The mill was built in 1412 by Ada Venn."]
    folder = tiny.save_model(tmp_path / "m", [*texts, *tiny.TEXT], family=family)
    found = {}
    exec(code.replace("name = '.'", f"name = {str(folder)!r}"), found)
    (best,) = [answer.candidates[0] for answer in Reader(folder).answers([tuple(texts)], top=1)]
    expected = Reader(folder).answer(*texts)
    null_score = float(found["null_score"] - found["scores"][found["first"], found["last"]])
    assert null_score == pytest.approx(expected.null_score, abs=1e-4)
    assert capsys.readouterr().out.strip() == (best.text if expected else "no answer")


def test_neither_paths_nor_machines_nor_jobs_of_the_trainer_are_told():
    for text in (described(), described(changed("runs.r.model", "own"))):
        assert "secret" not in text and "/home" not in text and "99" not in text
    assert "train.json" in str(card_facts.shared(resolve(CONFIG), "r", "seed-3")["datasets"]["mine"])


@pytest.mark.parametrize(
    ("own", "named", "licence", "whence"),
    [
        (None, "mit", "mit", "that of the pretrained model's card"),
        ("apache-2.0", "mit", "apache-2.0", "as the configuration"),
        (None, None, "unknown", "neither the configuration"),
        (None, ["mit", "gpl"], "unknown", "neither the configuration"),
        (None, HOSTILE, "unknown", "neither the configuration"),
    ],
)
def test_a_licence_is_the_configurations_else_the_base_models_and_never_invented(own, named, licence, whence):
    config = changed("models.base.license", own)
    text = described(config, {"model": {"license": named} if named else {}, "datasets": {}})
    assert ModelCard(text).data.license == licence and whence in text


@pytest.mark.parametrize(
    ("named", "language", "told"),
    [
        ("fr", "fr", "names fr"),
        (["en", "de"], ["en", "de"], "names en, de"),
        ([HOSTILE, 3], None, "that of the training questions"),
        (None, None, "that of the training questions"),
    ],
)
def test_languages_are_those_that_the_base_models_card_names(named, language, told):
    text = described(sources={"model": {"language": named}, "datasets": {}})
    assert ModelCard(text).data.language == language and told in text


def test_hostile_names_are_text_and_leave_the_metadata_whole():
    sources = {
        "model": {"files": {f"{HOSTILE}.safetensors": {"sha256": "d" * 64}}},
        "datasets": {
            "squad2": {
                "license": HOSTILE,
                "splits": {"train": [f"train/00000-{HOSTILE}"]},
                "files": {f"train/00000-{HOSTILE}": {"sha256": "e" * 64}},
            }
        },
    }
    made = {**MADE, "code": HOSTILE, "versions": {HOSTILE: HOSTILE}, "settings": {HOSTILE: HOSTILE}}
    made["machine"] = {"gpu": HOSTILE}
    text = described(sources=sources, made=made)
    head, body = text.split("---\n", 2)[1:]
    assert yaml.safe_load(head)["license"] == "unknown" and ModelCard(text).data.model_name == "r-seed-3"
    assert "<script>" not in body and "\n---\n" not in body and "\x1b" not in body
    assert not re.search(r"(?<!\\)\[a\\?\]\(", body)
    for line in body.splitlines():
        if line.startswith("| "):
            cells = len(re.findall(r"(?<!\\)\|", line)) - 1
            assert cells in (2, 3, 7), line


def test_a_quick_try_and_a_threshold_of_few_questions_are_marked():
    usual = described()
    few = described(changed("datasets.mine.limit", 200), calibrations={"n_best": {**FOUND, "few_questions": True}})
    for words in ("A quick try", "mine 200", "the threshold may be worse than 0"):
        assert words in few and words not in usual


def test_a_calibrated_threshold_has_its_interval_where_there_is_one():
    interval = "(1.23; 95 % interval -0.13 to 2.50, which resamples articles)"
    assert interval in described()
    none = described(calibrations={"n_best": {**FOUND, "intervals": {}, "interval": {}}})
    assert "(1.23)" in none and interval not in none


def test_what_truncates_long_texts_says_so():
    text = described(changed("runs.r.windows.long_contexts", "truncate"))
    assert "Of a long text it reads the first window only (384 tokens" in text
    assert "Of a long text" not in described()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The files that a package is made of, in their places below the working directory."""
    monkeypatch.chdir(tmp_path)
    needed = card_facts.needs_of_package(resolve(CONFIG), "r", "seed-3")
    model = tiny.save_model(tmp_path / needed["model"])
    (model / ".snakemake_timestamp").touch()
    write_json(needed["manifest"], MADE)
    for path in needed["metrics"]:
        write_json(path, metrics(50.0))
    for path in needed["calibrations"]:
        write_json(path, FOUND)
    write_json(f"{needed['pretrained']}/source.json", {"license": "mit"})
    return needed


def packed(needed, config=CONFIG):
    target = needed["model"].replace("/model", "/package")
    package.package(needed["model"], card_facts.shared(resolve(config), "r", "seed-3"), needed, target)
    return target


def test_a_package_has_the_models_files_without_taking_room_and_stays_when_those_go(project):
    package.describe(project["model"], card_facts.shared(resolve(CONFIG), "r", "seed-3"), MADE, project["pretrained"])
    before = sha256_of_folder(project["model"])
    target = packed(project)
    after = sha256_of_folder(target)
    own = {package.SETTINGS, package.CARD}
    assert before.keys() == after.keys() and own < after.keys()
    assert {name for name in before if before[name] != after[name]} == own
    weights = Path(target, "model.safetensors")
    assert weights.samefile(Path(project["model"], "model.safetensors"))
    assert not Path(target, ".snakemake_timestamp").exists()
    shutil.rmtree(project["model"])
    assert sha256_of_folder(target) == after


def test_a_package_is_copied_where_there_are_no_hard_links(project, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *given: (_ for _ in ()).throw(OSError("not here")))
    target = packed(project)
    assert sha256_of_folder(target)["model.safetensors"] == sha256_of_folder(project["model"])["model.safetensors"]


def test_settings_have_the_calibrated_numbers_of_each_decoding_in_the_runs_order(project):
    found = read_json(f"{packed(project)}/{package.SETTINGS}")
    assert list(found["decodings"]) == ["n_best", "walkthrough"]
    calibrated = {key: found["decodings"]["n_best"][key] for key in ("null_threshold", "temperature")}
    assert calibrated == {"null_threshold": 1.2345678, "temperature": 1.5}
    assert found["decodings"]["walkthrough"] == {"method": "walkthrough"}
    assert found["windows"]["max_length"] == 384 and found["prediction"]["candidates"] == 20


def test_what_is_written_with_the_model_has_the_threshold_by_name_only(project):
    shared = card_facts.shared(resolve(CONFIG), "r", "seed-3")
    package.describe(project["model"], shared, MADE, project["pretrained"])
    found = read_json(f"{project['model']}/{package.SETTINGS}")
    assert found["decodings"]["n_best"]["null_threshold"] == "calibrated"


def test_the_repository_that_a_run_is_published_to_names_its_card():
    config = changed("runs.r.publish", {"repo": "ada/mills-qa"})
    text = described(config)
    assert ModelCard(text).data.model_name == "mills-qa" and "# mills-qa" in text and "'ada/mills-qa'" in text
    resolved = resolve(config)
    folder = "results/r/{}/package".format
    assert card_facts.publications(resolved) == {folder("seed-3"): {"repo": "ada/mills-qa", "private": True}}
    with pytest.raises(InputError, match=r"nothing to publish: name a repository for a run \(runs.\*.publish.repo\)"):
        card_facts.publications(resolve(CONFIG))
    config["runs"]["r"]["publish"] |= {"seed": 4, "private": False}
    assert card_facts.publications(resolve(config)) == {folder("seed-4"): {"repo": "ada/mills-qa", "private": False}}


@pytest.mark.parametrize(
    ("publish", "said"),
    [
        ({"repo": "mills"}, "publish.repo: 'mills' is not allowed"),
        ({"repo": "a/b/c"}, "publish.repo: 'a/b/c' is not allowed"),
        ({"repo": "ada/mills", "seed": 9}, "9 is none of its seeds, 3, 4"),
        ({"repo": ["ada/one", "ada/two"]}, "publish.repo"),
        ({"private": [True, False]}, "publish.private"),
        ({"to": "ada/mills"}, "unknown key `to`"),
    ],
)
def test_a_publication_that_cannot_be_is_refused(publish, said):
    with pytest.raises(InputError, match=re.escape(said)):
        resolve(changed("runs.r.publish", publish))


def test_two_runs_never_go_to_one_repository_as_those_of_a_sweep_would():
    config = changed("runs.r.publish", {"repo": "ada/mills"})
    config["runs"]["r"]["training"] = {"learning_rate": [1e-5, 2e-5]}
    with pytest.raises(InputError, match="goes to ada/mills already"):
        resolve(config)


def test_a_run_that_trains_nothing_has_nothing_to_share():
    config = changed("runs.r.train_on", None)
    config["decodings"]["n_best"]["null_threshold"] = 0.0
    resolved = resolve(config)
    for call in (card_facts.shared, card_facts.needs_of_package):
        with pytest.raises(InputError, match="trains no model of its own"):
            call(resolved, "r", "published")
    config["runs"]["r"]["publish"] = {"repo": "ada/mills"}
    with pytest.raises(InputError, match=r"runs.r.publish: this run trains nothing"):
        resolve(config)
