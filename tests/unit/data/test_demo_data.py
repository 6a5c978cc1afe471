"""The committed datasets: what their generator makes, sound, and not to be solved from the questions alone."""

import importlib.util
import json
import sys
from collections import defaultdict
from pathlib import Path

import pytest

RESOURCES = Path(__file__).resolve().parents[3] / "resources"
SPLITS = ("train", "validation")


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("make_demo", RESOURCES / "demo" / "make_demo.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(params=["demo", "harbour"])
def folder(request):
    return RESOURCES / request.param


def load(folder, split):
    return json.loads((folder / f"{split}.json").read_text(encoding="utf-8"))


def paragraphs(folder, split):
    return [paragraph for article in load(folder, split)["data"] for paragraph in article["paragraphs"]]


def questions(folder, split):
    return [(paragraph["context"], qa) for paragraph in paragraphs(folder, split) for qa in paragraph["qas"]]


def answers(folder, split):
    return [(context, answer) for context, qa in questions(folder, split) for answer in qa["answers"]]


def test_the_committed_files_are_byte_for_byte_what_the_generator_makes_now(generator, folder):
    for name, text in generator.make_files(folder).items():
        command = f"python resources/demo/make_demo.py resources/{folder.name}"
        assert (folder / name).read_bytes() == text.encode("utf-8"), f"{name}: run {command}"


@pytest.mark.parametrize("split", SPLITS)
def test_every_answer_stands_where_it_says(folder, split):
    for context, answer in answers(folder, split):
        start = answer["answer_start"]
        assert answer["text"].strip() == answer["text"] != ""
        assert context[start : start + len(answer["text"])] == answer["text"]


@pytest.mark.parametrize("split", SPLITS)
def test_a_question_has_answers_exactly_when_it_is_answerable(folder, split):
    for _, qa in questions(folder, split):
        assert qa["is_impossible"] is (not qa["answers"]), qa["id"]


@pytest.mark.parametrize("split", SPLITS)
def test_the_gold_answers_of_a_question_differ_and_overlap(folder, split):
    for _, qa in questions(folder, split):
        spans = [(a["answer_start"], a["answer_start"] + len(a["text"])) for a in qa["answers"]]
        assert len(set(spans)) == len(spans), qa["id"]
        assert all(start < spans[0][1] and end > spans[0][0] for start, end in spans), qa["id"]


def test_ids_are_unique_over_both_splits(folder):
    ids = [qa["id"] for split in SPLITS for _, qa in questions(folder, split)]
    assert len(set(ids)) == len(ids)


def test_no_context_and_no_question_within_a_context_is_repeated(folder):
    every = [paragraph for split in SPLITS for paragraph in paragraphs(folder, split)]
    assert len({paragraph["context"] for paragraph in every}) == len(every)
    for paragraph in every:
        asked = [qa["question"] for qa in paragraph["qas"]]
        assert len(set(asked)) == len(asked)


SIZES = {  # passages, fewest and most questions
    ("demo", "train"): (80, 900, 1000),
    ("demo", "validation"): (16, 180, 200),
    ("harbour", "train"): (84, 920, 1020),
    ("harbour", "validation"): (24, 240, 300),
}


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_has_its_size_and_a_third_of_its_questions_is_unanswerable(folder, split):
    passages, fewest, most = SIZES[folder.name, split]
    asked = questions(folder, split)
    assert len(paragraphs(folder, split)) == passages
    assert fewest <= len(asked) <= most
    assert 0.32 <= sum(qa["is_impossible"] for _, qa in asked) / len(asked) <= 0.36


@pytest.mark.parametrize("split", SPLITS)
def test_passages_are_60_to_120_words_long(folder, split):
    assert all(60 <= len(paragraph["context"].split()) <= 120 for paragraph in paragraphs(folder, split))


def test_no_entity_person_or_place_of_validation_occurs_in_train_contexts(generator, folder):
    train = " ".join(paragraph["context"] for paragraph in paragraphs(folder, "train")).casefold()
    titles = {article["title"] for article in load(folder, "validation")["data"]}
    names = generator.tomllib.loads((folder / "world" / "names.toml").read_text(encoding="utf-8"))["validation"]
    for name in titles.union(*names.values()):
        assert name.casefold() not in train


def test_answers_cover_both_ends_of_a_context_single_words_several_words_and_letters_beyond_ascii(folder):
    for split in SPLITS:
        found = answers(folder, split)
        assert any(answer["answer_start"] == 0 for _, answer in found)
        assert any(answer["answer_start"] + len(answer["text"]) == len(context) for context, answer in found)
        assert any(" " not in answer["text"] for _, answer in found)
        assert any(len(answer["text"].split()) >= 5 for _, answer in found)
        assert any(not answer["text"].isascii() for _, answer in found)
    assert {len(qa["answers"]) for _, qa in questions(folder, "validation")} == {0, 1, 2, 3}


def unanswerable_share(pairs):
    """The share of unanswerable questions by key, and how often each key occurs, from (key, is_impossible)."""
    outcomes = defaultdict(list)
    for key, impossible in pairs:
        outcomes[key].append(impossible)
    return {key: (sum(values) / len(values), len(values)) for key, values in outcomes.items()}


def test_how_a_question_opens_does_not_tell_whether_it_is_answerable(folder):
    opened = [(" ".join(qa["question"].split()[:2]), qa["is_impossible"]) for _, qa in questions(folder, "train")]
    for opening, (share, count) in unanswerable_share(opened).items():
        assert count < 12 or 0.1 <= share <= 0.6, opening


def test_every_attribute_is_answerable_in_some_train_passages_and_unanswerable_in_others(generator, folder):
    attribute_of = {}
    for path in (folder / "world").glob("*.toml"):
        if path.stem == "names":
            continue
        kind = generator.load_kind(path)
        for attribute, (_, *templates) in kind.attributes.items():
            for name in kind.entities["train"]:
                attribute_of |= {template.format(name=name): (kind.name, attribute) for template in templates}
    asked = [(attribute_of[qa["question"]], qa["is_impossible"]) for _, qa in questions(folder, "train")]
    shares = unanswerable_share(asked)
    assert set(shares) == set(attribute_of.values())
    for attribute, (share, _) in shares.items():
        assert 0 < share <= 0.75, attribute
