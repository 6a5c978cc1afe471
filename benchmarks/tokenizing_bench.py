"""Tokenize and label: from questions on disk to rows of tokens and labels on disk, by each recipe."""

import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import datasets

import data
from measure import Stage, seconds
from qa.data import prepare_questions
from qa.windows import tokenize_and_label
from qa.windows.tokenizer import encode_only, load_tokenizer

MAX_LENGTH, OVERLAP = 384, 128  # tokens, of all recipes
SETTINGS = {
    "max_length": MAX_LENGTH,
    "overlap": OVERLAP,
    "max_question_length": 64,
    "long_contexts": "windows",
    "labels": "exact",
}
BATCHES = (
    32,
    1000,
)  # questions that the recipes map at once: as the walkthrough says, and as `datasets` does by itself


def stages(
    tokenizer_path: str | Path, contexts: int = data.CONTEXTS, questions: int = data.QUESTIONS, rounds: int = 3
) -> list[Stage]:
    """Time the recipes: the walkthrough in one process, as published, run_qa in as many as are fastest here.

    Of the walkthrough in several processes, which its text does not use, `work` tells the time.
    """
    datasets.disable_progress_bars()
    dataset = data.squad_like(contexts, questions)
    with tempfile.TemporaryDirectory() as folder:
        work = Work(Path(folder), dataset, tokenizer_path)
        several = len(os.sched_getaffinity(0))
        chosen = {
            "walkthrough": work.fastest(walkthrough_features, (None,)),
            "walkthrough in processes": work.fastest(walkthrough_features, (several,)),
            "run_qa": work.fastest(run_qa_features, (None, several)),
        }
        contestants: dict[str, Callable[[], Any]] = {
            name: partial(work.mapped, RECIPES[name.split()[0]], **options) for name, options in chosen.items()
        }
        contestants |= {"ours": work.ours, "floor": work.floor}
        taken = seconds(contestants, rounds)
    settings = "; ".join(f"{name}: map with {options}, {taken[name]:.3g} s" for name, options in chosen.items())
    return [
        Stage(
            name="tokenize and label",
            work=f"{questions:,} questions of {contexts:,} contexts, from disk to disk ({settings})",
            unit="s",
            walkthrough=taken["walkthrough"],
            run_qa=taken["run_qa"],
            ours=taken["ours"],
            floor=taken["floor"],
            how="encoding each distinct context and each question once, in one call of the tokenizers library; "
            "nothing read, labelled or written",
        )
    ]


class Work:
    """The same questions in the files that each recipe begins with, and the recipes on them."""

    def __init__(self, folder: Path, dataset: dict[str, Any], tokenizer_path: str | Path):
        self.folder, self.runs = folder, 0
        self.rows = data.rows(dataset)
        self.tokenizer = load_tokenizer(tokenizer_path)
        (folder / "questions.json").write_text(json.dumps(dataset), encoding="utf-8")
        prepare_questions.convert([folder / "questions.json"], folder / "records.parquet")
        datasets.Dataset.from_list(self.rows).save_to_disk(folder / "dataset")

    def ours(self) -> Path:
        """Ours, from the records to the folder of windows."""
        target = self._fresh()
        tokenize_and_label.tokenize(self.folder / "records.parquet", self.tokenizer, SETTINGS, target)
        return target

    def mapped(self, function: Callable[..., Any], batch_size: int, num_proc: int | None) -> datasets.Dataset:
        """A recipe's function mapped over the data set."""
        source = datasets.load_from_disk(self.folder / "dataset")
        mapped = source.map(
            function,
            batched=True,
            batch_size=batch_size,
            num_proc=num_proc,
            fn_kwargs={"tokenizer": self.tokenizer},
            remove_columns=source.column_names if function is run_qa_features else None,
            load_from_cache_file=False,
            cache_file_name=f"{self._fresh()}.arrow",
        )
        _allow_threads()
        return mapped

    def fastest(self, function: Callable[..., Any], processes: tuple[int | None, ...]) -> dict[str, Any]:
        """The options with which a recipe is fastest on this machine."""
        options = [{"batch_size": size, "num_proc": n} for size, n in itertools.product(BATCHES, processes)]
        taken = seconds({str(n): partial(self.mapped, function, **each) for n, each in enumerate(options)}, rounds=1)
        return options[int(min(taken, key=lambda name: taken[name]))]

    def _fresh(self) -> Path:
        """Where no earlier run has written: nothing is to be found there, nor to be removed."""
        self.runs += 1
        return self.folder / f"run-{self.runs}"

    def floor(self) -> None:
        """Every distinct context and every question through the tokenizers library, once."""
        contexts = list(dict.fromkeys(row["context"] for row in self.rows))
        encode_only(self.tokenizer, contexts + [row["question"].strip() for row in self.rows])


def _allow_threads() -> None:
    """Undo what `datasets` leaves behind once it has used processes: tokenizers without threads, here too."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    if before is None:
        os.unsetenv("TOKENIZERS_PARALLELISM")
    else:
        os.putenv("TOKENIZERS_PARALLELISM", before)


def walkthrough_features(questions: dict[str, list[Any]], tokenizer: Any) -> Any:
    """The walkthrough's rows: a context cut to what fits, padded to the full length, its answer found by scanning."""
    encoded = tokenizer(
        [text.strip() for text in questions["question"]],
        questions["context"],
        truncation="only_second",
        max_length=MAX_LENGTH,
        padding="max_length",
        return_offsets_mapping=True,
    )
    labels = [
        _walkthrough_label(encoded["offset_mapping"][row], encoded.sequence_ids(row), answers)
        for row, answers in enumerate(questions["answers"])
    ]
    encoded["start_positions"] = [first for first, _ in labels]
    encoded["end_positions"] = [last for _, last in labels]
    return encoded


def _walkthrough_label(offsets: list[Any], parts: list[int | None], answers: dict[str, list[Any]]) -> tuple[int, int]:
    if not answers["text"]:
        return 0, 0
    begin, end = _characters(answers)
    left, right = _context_places(parts)
    if end < offsets[left][0] or begin > offsets[right][1]:
        return 0, 0
    first, last = left, right
    while first <= right and offsets[first][0] <= begin:
        first += 1
    while last >= left and offsets[last][1] >= end:
        last -= 1
    return first - 1, last + 1


def run_qa_features(questions: dict[str, list[Any]], tokenizer: Any) -> Any:
    """run_qa's training rows: overlapping windows by the tokenizer's overflow; [CLS] where a window lacks the answer.

    Not padded, which is its faster choice: its data collator can pad.
    """
    encoded = tokenizer(
        [text.lstrip() for text in questions["question"]],
        questions["context"],
        truncation="only_second",
        max_length=MAX_LENGTH,
        stride=OVERLAP,
        padding=False,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    question_of, offsets = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
    labels = list(_run_qa_labels(encoded, question_of, offsets, questions["answers"], tokenizer.cls_token_id))
    encoded["start_positions"] = [first for first, _ in labels]
    encoded["end_positions"] = [last for _, last in labels]
    return encoded


def _run_qa_labels(
    encoded: Any, question_of: list[int], offsets: list[Any], answers: list[Any], cls: int
) -> Iterator[tuple[int, int]]:
    for row, places in enumerate(offsets):
        null = encoded["input_ids"][row].index(cls)
        answer = answers[question_of[row]]
        if not answer["text"]:
            yield null, null
            continue
        begin, end = _characters(answer)
        first, last = left, right = _context_places(encoded.sequence_ids(row))
        if places[left][0] > begin or places[right][1] < end:
            yield null, null
            continue
        while first <= right and places[first][0] <= begin:
            first += 1
        while places[last][1] >= end:
            last -= 1
        yield first - 1, last + 1


def _characters(answers: dict[str, list[Any]]) -> tuple[int, int]:
    begin = answers["answer_start"][0]
    return begin, begin + len(answers["text"][0])


def _context_places(parts: list[int | None]) -> tuple[int, int]:
    """First and last place of the context in a row."""
    left, right = 0, len(parts) - 1
    while parts[left] != 1:
        left += 1
    while parts[right] != 1:
        right -= 1
    return left, right


RECIPES = {"walkthrough": walkthrough_features, "run_qa": run_qa_features}
