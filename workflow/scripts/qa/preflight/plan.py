"""What a run will do, as far as preflight has to know."""

from dataclasses import dataclass, field
from typing import Any

from qa.preflight.slurm_requests import JobRequest


@dataclass(frozen=True)
class PlannedTraining:
    """A training that will run: folders of its model and checkpoints, number of checkpoints, trackers,
    whether it has LoRA adapters."""

    model: str
    checkpoints: str
    keep: int
    keep_after_success: bool = False
    report_to: tuple[str, ...] = ()
    lora: bool = False


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    `downloads`: kind (`model` or `dataset`) and source of each folder to download; `present`: downloaded folders that
    jobs will read; `tokenized`: the data set folder of each tokenization; `at_once`: how many jobs run in parallel;
    `requests`: the requests to SLURM, None if jobs run on this machine; `commands`: further SLURM commands that the
    executor needs; `packages`: whether jobs use this Python environment; `overrides`: by model folder, the new values
    for keys of the model's configuration; `questions`: the user's own files of each split to take anew, and its
    `misaligned`; `rows`: model folder and `windows.max_length` of each tokenization; `answers`: the user's files of
    answers to take.
    """

    downloads: dict[str, tuple[str, dict[str, Any]]]
    present: tuple[str, ...] = ()
    trainings: tuple[PlannedTraining, ...] = ()
    tokenized: tuple[str, ...] = ()
    at_once: int = 1
    requests: tuple[JobRequest, ...] | None = None
    commands: tuple[str, ...] = ()
    packages: bool = True
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    questions: tuple[tuple[tuple[str, ...], str], ...] = ()
    rows: tuple[tuple[str, int], ...] = ()
    answers: tuple[str, ...] = ()
