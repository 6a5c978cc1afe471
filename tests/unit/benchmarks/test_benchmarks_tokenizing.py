"""What the benchmark of tokenization compares computes the right thing."""

import subprocess

import datasets
import pytest

import data
import tiny
import tokenizing_bench
from qa.windows.tokenize_and_label import tokenize

CONTEXTS, QUESTIONS = 8, 60


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizing_bench")
    dataset = data.squad_like(CONTEXTS, QUESTIONS)
    texts = [row["context"] for row in data.rows(dataset)]
    tiny.word_piece(texts, size=400).save_pretrained(folder / "tokenizer")
    return tokenizing_bench.Work(folder, dataset, folder / "tokenizer")


@pytest.fixture(scope="module")
def answers(work):
    found = [row["answers"]["text"][0] if row["answers"]["text"] else None for row in work.rows]
    assert len(set(found)) > QUESTIONS / 3 and None in found
    return found


def test_the_walkthroughs_rows_are_ours_of_its_settings_padded(work, tmp_path):
    mapped = work.mapped(tokenizing_bench.walkthrough_features, 32, None)
    settings = {**tokenizing_bench.SETTINGS, "max_question_length": None}
    settings |= {"long_contexts": "truncate", "labels": "walkthrough"}
    tokenize(work.folder / "records.parquet", work.tokenizer, settings, tmp_path / "windows")
    ours = datasets.load_from_disk(tmp_path / "windows")
    assert len(mapped) == len(ours) == QUESTIONS
    assert any(len(row["input_ids"]) == tokenizing_bench.MAX_LENGTH for row in ours)
    for theirs, row in zip(mapped, ours, strict=True):
        length = len(row["input_ids"])
        assert theirs["id"] == row["id"]
        assert theirs["input_ids"] == row["input_ids"] + [0] * (tokenizing_bench.MAX_LENGTH - length)
        assert sum(theirs["attention_mask"]) == length
        for label in ("start_positions", "end_positions"):
            assert theirs[label] == row[label]


def test_run_qas_rows_are_our_windows_with_our_labels(work):
    mapped, ours = work.mapped(tokenizing_bench.run_qa_features, 1000, None), datasets.load_from_disk(work.ours())
    assert len(mapped) == len(ours) > QUESTIONS
    for name in ("input_ids", "token_type_ids", "start_positions", "end_positions"):
        assert mapped[name][:] == ours[name][:], name


def test_labels_of_run_qa_decode_to_the_answers(work, answers):
    encoded = tokenizing_bench.run_qa_features(
        {name: [row[name] for row in work.rows] for name in work.rows[0]}, work.tokenizer
    )
    again = work.tokenizer(
        [row["question"].strip() for row in work.rows],
        [row["context"] for row in work.rows],
        truncation="only_second",
        max_length=tokenizing_bench.MAX_LENGTH,
        stride=tokenizing_bench.OVERLAP,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    found = set()
    for row, question in enumerate(again["overflow_to_sample_mapping"]):
        first, last = encoded["start_positions"][row], encoded["end_positions"][row]
        if first:
            offsets = again["offset_mapping"][row]
            assert work.rows[question]["context"][offsets[first][0] : offsets[last][1]] == answers[question]
            found.add(question)
        else:
            assert last == 0
    assert found == {number for number, answer in enumerate(answers) if answer is not None}


@pytest.mark.parametrize("recipe", tokenizing_bench.RECIPES)
def test_processes_and_batch_sizes_change_no_recipes_rows(work, recipe):
    function = tokenizing_bench.RECIPES[recipe]
    one = work.mapped(function, 1000, None).to_dict()
    assert work.mapped(function, 7, 2).to_dict() == one
    environment = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
    assert "TOKENIZERS_PARALLELISM=false" not in environment.split()  # else all that comes next has one thread


def test_the_floor_encodes_each_distinct_context_and_each_question_once(work, monkeypatch):
    seen = []
    monkeypatch.setattr(tokenizing_bench, "encode_only", lambda tokenizer, texts: seen.extend(texts))
    work.floor()
    contexts = {row["context"] for row in work.rows}
    assert len(seen) == len(contexts) + QUESTIONS and contexts <= set(seen)


def test_a_stage_has_the_time_of_each_recipe(work):
    (stage,) = tokenizing_bench.stages(work.folder / "tokenizer", CONTEXTS, QUESTIONS, rounds=1)
    assert all(time > 0 for time in (stage.walkthrough, stage.run_qa, stage.ours, stage.floor))
    assert stage.ratio(stage.walkthrough) == stage.walkthrough / stage.ours and not stage.higher_is_better
