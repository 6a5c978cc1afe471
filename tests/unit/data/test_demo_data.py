"""The committed demo dataset: what its generator makes, sound, and not to be solved from the questions alone."""

import importlib.util
import json
import sys
from collections import defaultdict
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[3] / "resources" / "demo"
SPLITS = ("train", "validation")


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("make_demo", DEMO / "make_demo.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def load(split):
    return json.loads((DEMO / f"{split}.json").read_text(encoding="utf-8"))


def paragraphs(split):
    return [paragraph for article in load(split)["data"] for paragraph in article["paragraphs"]]


def questions(split):
    return [(paragraph["context"], qa) for paragraph in paragraphs(split) for qa in paragraph["qas"]]


def answers(split):
    return [(context, answer) for context, qa in questions(split) for answer in qa["answers"]]


def test_the_committed_files_are_byte_for_byte_what_the_generator_makes_now(generator):
    for name, text in generator.make_files().items():
        assert (DEMO / name).read_bytes() == text.encode("utf-8"), f"{name}: run python resources/demo/make_demo.py"


@pytest.mark.parametrize("split", SPLITS)
def test_every_answer_stands_where_it_says(split):
    for context, answer in answers(split):
        start = answer["answer_start"]
        assert answer["text"].strip() == answer["text"] != ""
        assert context[start : start + len(answer["text"])] == answer["text"]


@pytest.mark.parametrize("split", SPLITS)
def test_a_question_has_answers_exactly_when_it_is_answerable(split):
    for _, qa in questions(split):
        assert qa["is_impossible"] is (not qa["answers"]), qa["id"]


@pytest.mark.parametrize("split", SPLITS)
def test_the_gold_answers_of_a_question_differ_and_overlap(split):
    for _, qa in questions(split):
        spans = [(a["answer_start"], a["answer_start"] + len(a["text"])) for a in qa["answers"]]
        assert len(set(spans)) == len(spans), qa["id"]
        assert all(start < spans[0][1] and end > spans[0][0] for start, end in spans), qa["id"]


def test_ids_are_unique_over_both_splits():
    ids = [qa["id"] for split in SPLITS for _, qa in questions(split)]
    assert len(set(ids)) == len(ids)


def test_no_context_and_no_question_within_a_context_is_repeated():
    every = [paragraph for split in SPLITS for paragraph in paragraphs(split)]
    assert len({paragraph["context"] for paragraph in every}) == len(every)
    for paragraph in every:
        asked = [qa["question"] for qa in paragraph["qas"]]
        assert len(set(asked)) == len(asked)


@pytest.mark.parametrize(
    ("split", "passages", "fewest", "most"), [("train", 80, 900, 1000), ("validation", 16, 180, 200)]
)
def test_a_split_has_its_size_and_a_third_of_its_questions_is_unanswerable(split, passages, fewest, most):
    asked = questions(split)
    assert len(paragraphs(split)) == passages
    assert fewest <= len(asked) <= most
    assert 0.32 <= sum(qa["is_impossible"] for _, qa in asked) / len(asked) <= 0.36


@pytest.mark.parametrize("split", SPLITS)
def test_passages_are_60_to_120_words_long(split):
    assert all(60 <= len(paragraph["context"].split()) <= 120 for paragraph in paragraphs(split))


def test_no_entity_person_or_place_of_validation_occurs_in_train_contexts(generator):
    train = " ".join(paragraph["context"] for paragraph in paragraphs("train")).casefold()
    titles = {article["title"] for article in load("validation")["data"]}
    names = generator.tomllib.loads((DEMO / "world" / "names.toml").read_text(encoding="utf-8"))["validation"]
    for name in titles.union(*names.values()):
        assert name.casefold() not in train


def test_answers_cover_both_ends_of_a_context_single_words_several_words_and_letters_beyond_ascii():
    for split in SPLITS:
        found = answers(split)
        assert any(answer["answer_start"] == 0 for _, answer in found)
        assert any(answer["answer_start"] + len(answer["text"]) == len(context) for context, answer in found)
        assert any(" " not in answer["text"] for _, answer in found)
        assert any(len(answer["text"].split()) >= 5 for _, answer in found)
        assert any(not answer["text"].isascii() for _, answer in found)
    assert {len(qa["answers"]) for _, qa in questions("validation")} == {0, 1, 2, 3}


def unanswerable_share(pairs):
    """The share of unanswerable questions by key, and how often each key occurs, from (key, is_impossible)."""
    outcomes = defaultdict(list)
    for key, impossible in pairs:
        outcomes[key].append(impossible)
    return {key: (sum(values) / len(values), len(values)) for key, values in outcomes.items()}


def test_how_a_question_opens_does_not_tell_whether_it_is_answerable():
    opened = [(" ".join(qa["question"].split()[:2]), qa["is_impossible"]) for _, qa in questions("train")]
    for opening, (share, count) in unanswerable_share(opened).items():
        assert count < 12 or 0.1 <= share <= 0.6, opening


def test_every_attribute_is_answerable_in_some_train_passages_and_unanswerable_in_others(generator):
    attribute_of = {}
    for path in (DEMO / "world").glob("*.toml"):
        if path.stem == "names":
            continue
        kind = generator.load_kind(path)
        for attribute, (_, *templates) in kind.attributes.items():
            for name in kind.entities["train"]:
                attribute_of |= {template.format(name=name): (kind.name, attribute) for template in templates}
    shares = unanswerable_share((attribute_of[qa["question"]], qa["is_impossible"]) for _, qa in questions("train"))
    assert set(shares) == set(attribute_of.values())
    for attribute, (share, _) in shares.items():
        assert 0 < share <= 0.75, attribute
