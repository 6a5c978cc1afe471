"""Shared by all rules: the checked configuration, the files between the stages, and what each stage reads.

A params function that asks for `threads` is not compared by Snakemake when it decides what to rerun. `untracked` uses
that for what changes no result.
"""

import sys
import time
from pathlib import Path

SCRIPTS = Path(workflow.current_basedir) / ".." / "scripts"
sys.path.insert(0, str(SCRIPTS.resolve()))

from qa import scores as tables, settings
from qa.digest import code_digest
from qa.errors import InputError

MODEL = "resources/models/{model}"
DATASET = "resources/datasets/{dataset}"
RECORDS = "results/records/{dataset}/{split}.parquet"
WINDOWS = "results/windows/{dataset}/{split}/{key}"
MEMBER = "results/{run}/{member}"
EVALUATION = MEMBER + "/{dataset}/{split}"
ANSWERS = EVALUATION + "/{decoding}"
SUMMARY = "results/summary.csv"


wildcard_constraints:
    kind="models|datasets",
    name="[^/]+",
    run="[^/]+",
    member=r"seed-\d+",
    dataset="[^/]+",
    split="[^/]+",
    key="[^/]+",
    decoding="[^/]+",


def checked(function, *arguments):
    """Call a function of the library; what the user can put right ends Snakemake in one message."""
    try:
        return function(*arguments)
    except InputError as error:
        raise WorkflowError(str(error)) from None


CONFIG = checked(settings.resolve, config)
RUNS = CONFIG["runs"]
TOKENIZATIONS = {settings.windows_key(run): settings.tokenization(run) for run in RUNS.values()}


def run_of(wildcards):
    if wildcards.run not in RUNS:
        raise WorkflowError(f"no run `{wildcards.run}` in the configuration; there are {', '.join(RUNS)}")
    return RUNS[wildcards.run]


def tokenization_of(wildcards):
    if wildcards.key not in TOKENIZATIONS:
        raise WorkflowError(f"no run of the configuration has windows {wildcards.key}; there are {', '.join(TOKENIZATIONS)}")
    return TOKENIZATIONS[wildcards.key]


def code(stage):
    """Digest of a stage's adapter and of the library modules behind it."""
    return code_digest(SCRIPTS / f"{stage}.py")


def untracked(function):
    """A params function whose value changes no result, so that its change reruns nothing."""
    return lambda wildcards, threads: function(wildcards)


def split_files(pattern, split, **names):
    """A file of a split that is written `dataset/split` in the configuration."""
    dataset, part = split.split("/")
    return pattern.format(dataset=dataset, split=part, **names)


def windows_of(wildcards, split):
    return split_files(WINDOWS, split, key=settings.windows_key(run_of(wildcards)))


def every_model():
    return [f"results/{name}/{member}/model" for name, run in RUNS.items() for member in settings.members(run)]


def every(file):
    """A file of each run, member, split and decoding that the configuration asks for."""
    return [
        split_files(ANSWERS, split, run=run, member=member, decoding=decoding) + f"/{file}"
        for run, member, split, decoding in settings.scored(CONFIG)
    ]


def every_answer():
    return every("answers.json")


def every_metrics():
    return every("metrics.json")


def closing_message():
    if not Path(SUMMARY).exists():
        return ""
    written = time.strftime("%Y-%m-%d %H:%M", time.localtime(Path(SUMMARY).stat().st_mtime))
    place = ANSWERS.replace("results/", "results/", 1)
    return (
        f"\nScores in percent ({SUMMARY}, written {written}):\n\n{tables.as_text(SUMMARY)}\n\n"
        f"Models:  {MEMBER}/model\nAnswers: {place}/answers.json\nScores:  {place}/metrics.json\n"
    )


def failure_message():
    return (
        "\nA job failed. Its rule and its log are named above; the log's last lines say why.\n"
        "What is finished stays: put the cause right and give the same command again.\n"
    )
