"""What each adapter has imported by the time its stage is done: nothing heavy that the stage has no use for."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

import tiny
from qa.common.files import read_json
from qa.data.prepare_questions import convert
from qa.model.spans import Spans
from qa.model.window_dataset import read_targets
from qa.windows.read_windows import arrow_table
from qa.windows.tokenize_and_label import tokenize

SCRIPTS = Path(tiny.__file__).parents[2] / "workflow" / "scripts"
DECODING = {"method": "n_best", "n_best_size": 4, "max_answer_length": 9, "null_threshold": 0.0}
HEAVY = {"torch", "transformers", "tokenizers", "datasets", "pandas", "accelerate", "huggingface_hub", "snakemake"}

# runs an adapter as Snakemake does, with an object `snakemake` as far as the adapters know it
RUN = """
import json, runpy, sys

class Named(dict):
    def __getattr__(self, name):
        return self[name]
    def __getitem__(self, name):
        return list(self.values())[name] if isinstance(name, int) else dict.__getitem__(self, name)

adapter, given = sys.argv[1], json.loads(sys.argv[2])
job = Named({name: Named(value) if isinstance(value, dict) else value for name, value in given.items()})
runpy.run_path(adapter, {"snakemake": job}, "__main__")
print(json.dumps(sorted(name for name in sys.modules if "." not in name)))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records, windows and random spans of some questions, and their SQuAD file as downloaded."""
    folder, rng = tmp_path_factory.mktemp("startup"), np.random.default_rng(1)
    tiny.write_squad(folder / "dataset" / "q.json", questions=14)
    convert([folder / "dataset" / "q.json"], folder / "records.parquet")
    shutil.copy(folder / "records.parquet", folder / "dataset" / "rows.parquet")
    splits = {"validation": ["q.json"], "rows": ["rows.parquet"]}
    files = {name: {"sha256": "0" * 64, "from": name} for names in splits.values() for name in names}
    (folder / "dataset" / "source.json").write_text(json.dumps({"splits": splits, "files": files}))
    (folder / "manifest.json").write_text(json.dumps({"settings": {}, "seed": 1, "code": "x"}))
    tokenize(folder / "records.parquet", tiny.word_piece(), tiny.SHORT_WINDOWS, folder / "windows")
    table = arrow_table(folder / "windows")
    windows = len(table)
    spans = Spans.empty(windows, 6)
    spans.start_index[:], spans.end_index[:] = rng.integers(12, 20, (windows, 6)), rng.integers(14, 24, (windows, 6))
    spans.start_logit[:], spans.end_logit[:] = rng.normal(size=(2, windows, 6))
    spans.null_score[:] = spans.row_start_logit[:] = spans.row_end_logit[:] = 0
    spans.locate(table).write(folder / "spans.parquet")
    return folder


def imported(folder, rule, inputs, outputs, params, split="validation"):
    """Run the adapter of a rule in a process of its own; return the top-level modules that are imported at its end."""
    wildcards = {"split": split, "dataset": "mills", "run": "r", "variant": "seed-1", "decoding": "n_best"}
    wildcards |= {"share": "0.3", "windows_id": "k", "soft_targets_key": "r-2"}
    job = {"input": inputs, "output": outputs, "params": params, "wildcards": wildcards, "threads": 1, "resources": {}}
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            RUN,
            str(SCRIPTS / f"{rule}.py"),
            json.dumps({**job, "log": {"log": f"logs/{rule}.log"}}),
        ],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


ANSWERS = {name: f"{name}.json" for name in tiny.OUTPUTS}
SCORED = [["r", "seed-1", "mills/validation", "n_best"]]
SUMMARIZED = {"scored": SCORED, "calibrated": [["r", "seed-1", "n_best"]], "swept": {}}
TOLD = {"metrics": ["metrics.json"], "calibrations": ["calibration.json"]}
CALIBRATING = {"spans": ["spans.parquet"], "questions": ["records.parquet"]}
CALIBRATION = {"calibration": "calibration.json", "scores": "calibration.parquet"}
PAIRED = {"scores": ["question_scores.parquet"] * 2}
PAIRS = {
    "pairs": [["mills/validation", "r", "n_best", "s", "n_best"]],
    "answered": [*SCORED, ["s", "seed-1", "mills/validation", "n_best"]],
}


TABULATED = {"expected": [], "root": "."}
PACKED = {"model": "dataset", "manifest": "manifest.json", "pretrained": "dataset", "datasets": ["dataset"]}
PACKED |= {"metrics": ["metrics.json"], "calibrations": ["calibration.json"]}
SHARED = {
    **{"run": "r", "variant": "seed-1", "repo": None, "license": None, "teacher": None, "model": {"name": "m"}},
    **{"train_on": ["mills/train"], "calibrate_on": [], "datasets": {"mills": {}}, "calibrated": ["n_best"]},
    **{"windows": tiny.SHORT_WINDOWS, "prediction": {}, "decodings": {"n_best": DECODING}},
    "scored": [["mills/validation", "n_best"]],
}


@pytest.fixture(scope="module")
def modules(folder):
    """The modules of each stage, run one after the other as the workflow does."""
    inputs = {"spans": ["spans.parquet"], "questions": "records.parquet"}
    records = ({"dataset": "dataset"}, {"records": "r.parquet"}, {"misaligned": "error", "limit": None})
    measured = {"metrics": "metrics.json", "question_scores": "question_scores.parquet"}
    scoring = {"f1_by": "words", "limits": {}, "answered_with": {}}
    calibrated = {"decoding": {**DECODING, "calibrate_for": "f1", "unanswerable_prior": None}, "f1_by": ["words"]}
    sides = {"kept": "kept.parquet", "held_out": "held_out.parquet"}
    taught = {"spans": ["spans.parquet"], "student": "windows"}
    return {
        "records of SQuAD's JSON": imported(folder, "prepare_questions", *records),
        "records of rows": imported(folder, "prepare_questions", *records, split="rows"),
        "postprocess": imported(folder, "postprocess", inputs, ANSWERS, {"decoding": DECODING}),
        "score": imported(
            folder, "score", {**ANSWERS, "trained_on": [], "questions": "records.parquet"}, measured, scoring
        ),
        "analyze_errors": imported(
            folder,
            "analyze_errors",
            {"scores": "question_scores.parquet"},
            {"slices": "slices.csv", "errors": "errors.parquet", "risk_coverage": "risk.csv"},
            {},
        ),
        "hold_out_calibration": imported(folder, "hold_out_calibration", {"records": "records.parquet"}, sides, {}),
        "calibrate": imported(folder, "calibrate", CALIBRATING, CALIBRATION, calibrated),
        "soft_targets": imported(folder, "soft_targets", taught, {"targets": "targets.parquet"}, {"temperature": 2.0}),
        "summarize": imported(folder, "summarize", TOLD, {"table": "summary.csv"}, SUMMARIZED),
        "compare": imported(folder, "compare", PAIRED, {"table": "comparison.csv"}, PAIRS),
        "resource_usage": imported(folder, "resource_usage", {}, {"table": "resource_usage.csv"}, TABULATED),
        "package": imported(folder, "package", PACKED, {"folder": "package"}, {"shared": SHARED}),
    }


NEEDED = {
    "records of SQuAD's JSON": {"pandas"},  # Arrow asks it whether a list of Python's is one of its own kinds
    "records of rows": {"datasets", "pandas", "huggingface_hub"},
    **{
        stage: {"pandas"} for stage in ("hold_out_calibration", "soft_targets", "calibrate", "analyze_errors")
    },  # by Arrow's read_table
    "summarize": {"pandas"},
    "package": {"huggingface_hub"},  # which writes a card's metadata
}


STAGES = [
    "records of SQuAD's JSON",
    "records of rows",
    "hold_out_calibration",
    "soft_targets",
    "calibrate",
    "postprocess",
    "score",
]
STAGES += ["analyze_errors", "summarize", "compare", "resource_usage", "package"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_around_the_model_imports_nothing_heavy_that_it_does_not_need(stage, modules):
    assert modules[stage] & HEAVY <= NEEDED.get(stage, set())


def test_the_stages_were_really_run(modules, folder):
    assert modules.keys() == set(STAGES)
    answers, metrics = read_json(folder / "answers.json"), read_json(folder / "metrics.json")
    assert len(answers) == metrics["total"] == 14 and any(answers.values())
    assert "pyarrow" in modules["postprocess"] & modules["score"]
    assert "r,mills,validation,n_best,1," in (folder / "summary.csv").read_text()
    assert "mills,validation,r,n_best,s,n_best,14,1,1," in (folder / "comparison.csv").read_text()
    assert read_json(folder / "calibration.json")["questions"] == 14
    sides = [parquet.read_metadata(folder / f"{name}.parquet").num_rows for name in ("kept", "held_out")]
    assert min(sides) > 0 and sum(sides) == 14
    assert read_targets([str(folder / "targets.parquet")], len(arrow_table(folder / "windows")))
    assert "answerability" in (folder / "slices.csv").read_text() and (folder / "errors.parquet").exists()
    assert "# r-seed-1" in (folder / "package" / "README.md").read_text()
    assert (folder / "resource_usage.csv").exists() and parquet.read_table(folder / "r.parquet").num_rows == 14
