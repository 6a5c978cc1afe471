"""What reruns when: real dry runs after each change of a setting or of code, against the table that is documented."""

import ast
import copy
import os
import re
from typing import Any

import pytest

from chain import QUALITY, ROOT
from qa import reference
from qa.digest import modules_behind

pytestmark = pytest.mark.xdist_group("workflow")

REPORT = {"report"}
RESOURCES = {"resources", *REPORT}
COMPARE = {"compare", *RESOURCES}
PACKAGE = {"package", *RESOURCES}
SCORE = {"score", "summarize", *PACKAGE, *COMPARE}
EXPLAIN = {"explain", *RESOURCES}
POSTPROCESS = {"postprocess", *EXPLAIN, *SCORE}
PREDICT = {"predict", *POSTPROCESS}
TRAIN = {"train", *PREDICT}
TOKENIZE = {"tokenize_and_label", *TRAIN}
RECORDS = {"records", *TOKENIZE}
CALIBRATE = {"calibrate", *POSTPROCESS}
TEACH = {"soft_targets", *TRAIN}
HOLD_OUT = {"hold_out", *TEACH, *CALIBRATE, *TOKENIZE}
NOTHING: set[str] = set()
ONE_MORE_SPLIT = PREDICT - {"compare"}  # that the reference of the comparison does not answer

SCRIPTS = ROOT / "workflow" / "scripts"
HEX = "0" * 40
GIVEN = "given/train.json"

# key of the schema -> (path in the tiny configuration, new value, rules that rerun)
TABLE: dict[str, tuple[str, Any, set[str]]] = {
    "models.*.repo": ("models.one", {"repo": "a/b", "revision": HEX}, {"download", *TOKENIZE}),
    "models.*.revision": ("models.one", {"repo": "a/b", "revision": HEX}, {"download", *TOKENIZE}),
    "models.*.path": ("models.one.path", "given/two", {"download", *TOKENIZE}),
    "models.*.package": ("models.one", {"package": "p", "directory": "d"}, {"download", *TOKENIZE}),
    "models.*.directory": ("models.one", {"package": "p", "directory": "d"}, {"download", *TOKENIZE}),
    "models.*.overrides": ("models.one.overrides", {"hidden_dropout_prob": 0.2}, TRAIN),
    "models.*.license": ("models.one.license", "mit", PACKAGE),
    "datasets.*.repo": ("datasets.mills.repo", "a/b", {"download", *RECORDS}),
    "datasets.*.revision": ("datasets.mills.revision", HEX, {"download", *RECORDS}),
    "datasets.*.splits": ("datasets.mills.splits.train", [GIVEN, "given/extra.json"], {"download", *RECORDS}),
    "datasets.*.misaligned": ("datasets.mills.misaligned", "drop", RECORDS),
    "decodings.*.method": ("decodings.n_best", {"method": "walkthrough"}, POSTPROCESS),
    "decodings.*.n_best_size": ("decodings.n_best.n_best_size", 7, POSTPROCESS),
    "decodings.*.max_answer_length": ("decodings.n_best.max_answer_length", 7, POSTPROCESS),
    "decodings.*.null_threshold": ("decodings.n_best.null_threshold", -1.5, POSTPROCESS),
    "defaults.windows.max_length": ("defaults.windows.max_length", 90, TOKENIZE),
    "defaults.windows.overlap": ("defaults.windows.overlap", 8, TOKENIZE),
    "defaults.windows.max_question_length": ("defaults.windows.max_question_length", None, TOKENIZE),
    "defaults.windows.long_contexts": ("defaults.windows.long_contexts", "truncate", TOKENIZE),
    "defaults.windows.labels": ("defaults.windows.labels", "walkthrough", TOKENIZE),
    "defaults.precision": ("defaults.precision", "bf16", TRAIN),
    "defaults.padding": ("defaults.padding", "max_length", TRAIN),
    "defaults.deterministic": ("defaults.deterministic", True, TRAIN),
    "defaults.training.epochs": ("defaults.training", {"epochs": 1, "batch_size": 4}, TRAIN),
    "defaults.training.max_steps": ("defaults.training.max_steps", 3, TRAIN),
    "defaults.training.batch_size": ("defaults.training.batch_size", 2, TRAIN),
    "defaults.training.accumulation_steps": ("defaults.training.accumulation_steps", 2, TRAIN),
    "defaults.training.length_groups": ("defaults.training.length_groups", 9, TRAIN),
    "defaults.training.attention_dropout": ("defaults.training.attention_dropout", 0.05, TRAIN),
    "defaults.training.compile": ("defaults.training.compile", "none", NOTHING),
    "defaults.training.gpus": ("defaults.training.gpus", 2, NOTHING),
    "defaults.training.nodes": ("defaults.training.nodes", 2, NOTHING),
    "defaults.training.learning_rate": ("defaults.training.learning_rate", 1e-5, TRAIN),
    "defaults.training.schedule": ("defaults.training.schedule", "cosine", TRAIN),
    "defaults.training.warmup": ("defaults.training.warmup", 0.5, TRAIN),
    "defaults.training.weight_decay": ("defaults.training.weight_decay", 0.1, TRAIN),
    "defaults.training.max_gradient_norm": ("defaults.training.max_gradient_norm", 0.5, TRAIN),
    "defaults.prediction.batch_size": ("defaults.prediction.batch_size", 8, PREDICT),
    "defaults.prediction.candidates": ("defaults.prediction.candidates", 8, PREDICT),
    "defaults.checkpoints.every_steps": ("defaults.checkpoints", {"every_steps": 1}, NOTHING),
    "defaults.checkpoints.keep": ("defaults.checkpoints", {"keep": 1}, NOTHING),
    "defaults.checkpoints.keep_after_success": ("defaults.checkpoints", {"keep_after_success": True}, NOTHING),
    "defaults.checkpoints.log_every_steps": ("defaults.checkpoints", {"log_every_steps": 1}, NOTHING),
    "runs.*.model": ("runs.small.model", "two", TOKENIZE),
    "runs.*.train_on": ("runs.small.train_on", "mills/extra", TOKENIZE),
    "runs.*.validate_on": ("runs.small.validate_on", None, TRAIN),
    "runs.*.evaluate_on": ("runs.small.evaluate_on", ["mills/validation", "mills/train"], ONE_MORE_SPLIT),
    "runs.*.decodings": ("runs.other.decodings", ["n_best", "walkthrough"], POSTPROCESS),
    "runs.*.seeds": ("runs.small.seeds", [1, 2], TRAIN),
    "runs.*.publish.repo": ("runs.small.publish", {"repo": "someone/mills"}, PACKAGE),
    "runs.*.publish.private": ("runs.small.publish", {"private": False}, NOTHING),
    "runs.*.publish.seed": ("runs.small.publish", {"seed": 1}, NOTHING),
    "defaults.report_to": ("defaults.report_to", ["tensorboard"], NOTHING),
    "compare_to": ("compare_to", "small/walkthrough", COMPARE),
    "compare": ("compare", [["small/n_best", "small/walkthrough"]], COMPARE),
}

# key of the schema -> (paths in the configuration QUALITY with new values, rules that rerun)
OF_QUALITY: dict[str, tuple[dict[str, Any], set[str]]] = {
    "decodings.*.calibrate_for": ({"decodings.calibrated.calibrate_for": "exact"}, CALIBRATE),
    "decodings.*.unanswerable_prior": ({"decodings.calibrated.unanswerable_prior": 0.5}, CALIBRATE),
    "defaults.hold_out": ({"defaults.hold_out": 0.4}, HOLD_OUT),
    "defaults.distillation.weight": ({"defaults.distillation.weight": 0.9}, TRAIN),
    "defaults.distillation.temperature": ({"defaults.distillation.temperature": 4.0}, TEACH),
    "defaults.training.keep_epoch": ({"runs.pupil.training": {"keep_epoch": "best"}}, TRAIN),
    "runs.*.ensemble": ({"runs.seeds.ensemble": ["seeded", "bytes"]}, POSTPROCESS - {"package"}),
    "runs.*.calibrate_on": (  # without the pupil's lessons, since its teachers would have trained on more
        {f"runs.{run}.calibrate_on": ["mills/extra"] for run in ("seeded", "team")} | {"runs.pupil.teacher": None},
        {*TRAIN, *CALIBRATE},
    ),
    "runs.*.teacher": ({"runs.pupil.teacher": "seeded"}, TEACH),
}

# module or adapter -> rules that rerun when its code changes
CODE: dict[str, set[str]] = {
    "qa/hub.py": {"download", *RECORDS},
    "qa/squad.py": RECORDS,
    "qa/question_files.py": RECORDS,
    "qa/windows.py": TOKENIZE,
    "qa/questions.py": TOKENIZE,
    "qa/encoding.py": TOKENIZE,
    "qa/labels.py": TOKENIZE,
    "qa/training.py": TRAIN,
    "qa/trainer.py": TRAIN,
    "qa/distributed.py": TRAIN,
    "qa/interruption.py": TRAIN,
    "qa/slurm.py": TRAIN,
    "qa/worker.py": NOTHING,
    "qa/checkpoints.py": TRAIN,
    "qa/batching.py": TRAIN,
    "qa/packing.py": TRAIN,
    "qa/attention.py": TRAIN,
    "qa/inference.py": PREDICT,
    "qa/spans.py": PREDICT,
    "qa/rows.py": TRAIN,
    "qa/seals.py": TRAIN,
    "qa/tables.py": TOKENIZE,
    "qa/decoding.py": POSTPROCESS,
    "qa/answers.py": POSTPROCESS,
    "qa/metrics.py": {*EXPLAIN, *SCORE},
    "qa/statistics.py": {*EXPLAIN, *SCORE},
    "qa/slices.py": EXPLAIN,
    "qa/mistakes.py": EXPLAIN,
    "qa/confidence.py": {*SCORE, *EXPLAIN},
    "qa/holding_out.py": NOTHING,
    "qa/calibration.py": NOTHING,
    "qa/ensembles.py": POSTPROCESS,
    "qa/distillation.py": NOTHING,
    "qa/lineage.py": REPORT,
    "qa/expected.py": NOTHING,
    "qa/epochs.py": NOTHING,
    "qa/curves.py": EXPLAIN,
    "qa/needs.py": NOTHING,
    "qa/comparison.py": COMPARE,
    "qa/pairs.py": REPORT,
    "qa/downloads.py": {"download", *RECORDS},
    "qa/progress.py": NOTHING,
    "qa/models.py": TRAIN,
    "qa/devices.py": TRAIN,
    "qa/manifest.py": TRAIN,
    "qa/scores.py": {*SCORE, *EXPLAIN},
    "qa/files.py": {"download", *RECORDS},
    "qa/errors.py": {"download", *RECORDS},
    "qa/stage.py": {"download", *RECORDS},
    "qa/settings.py": REPORT,
    "qa/config_files.py": REPORT,
    "qa/sweeps.py": REPORT,
    "qa/reference.py": REPORT,
    "qa/digest.py": NOTHING,
    "qa/usage.py": RESOURCES,
    "qa/jobs.py": RESOURCES,
    "qa/accounting.py": RESOURCES,
    "qa/failures.py": NOTHING,
    "qa/preflight.py": NOTHING,
    "qa/cluster.py": NOTHING,
    "qa/clocks.py": NOTHING,
    "qa/findings.py": NOTHING,
    "qa/status.py": NOTHING,
    "qa/packages.py": PACKAGE,
    "qa/cards.py": PACKAGE,
    "qa/sharing.py": NOTHING,
    "qa/publishing.py": NOTHING,
    "qa/reader.py": NOTHING,
    "qa/ask.py": NOTHING,
    "qa/reporting.py": NOTHING,
    "qa/softmax.py": POSTPROCESS,
    "qa/uncertainty.py": {*EXPLAIN, *SCORE},
    "qa/report/build.py": REPORT,
    "qa/report/compared.py": REPORT,
    "qa/report/drawing.py": REPORT,
    "qa/report/figures.py": REPORT,
    "qa/report/overview.py": REPORT,
    "qa/report/page.py": REPORT,
    "qa/report/questions.py": REPORT,
    "qa/report/results.py": REPORT,
    "qa/report/silence.py": REPORT,
    "qa/report/silence_data.py": REPORT,
    "qa/report/slices.py": REPORT,
    "qa/report/stages.py": REPORT,
    "qa/report/training.py": REPORT,
    "download.py": {"download", *RECORDS},
    "records.py": RECORDS,
    "tokenize_and_label.py": TOKENIZE,
    "train.py": TRAIN,
    "predict.py": PREDICT,
    "postprocess.py": POSTPROCESS,
    "score.py": {"score", "summarize", *PACKAGE},
    "explain.py": EXPLAIN,
    "hold_out.py": NOTHING,
    "calibrate.py": NOTHING,
    "soft_targets.py": NOTHING,
    "summarize.py": {"summarize", *RESOURCES},
    "compare.py": COMPARE,
    "resources.py": RESOURCES,
    "report.py": REPORT,
    "latest_checkpoint.py": NOTHING,
    "package.py": PACKAGE,
    "plan_upload.py": NOTHING,
    "upload.py": NOTHING,
    "preflight.py": NOTHING,
    "orphans.py": NOTHING,
    "executor.py": NOTHING,
}

# module or adapter -> rules that rerun of QUALITY, which holds out, calibrates and teaches
CODE_OF_QUALITY: dict[str, set[str]] = {
    "qa/holding_out.py": HOLD_OUT,
    "qa/calibration.py": CALIBRATE,
    "qa/confidence.py": CALIBRATE,
    "qa/decoding.py": {*TEACH, *CALIBRATE},
    "qa/ensembles.py": {*TEACH, *CALIBRATE},
    "qa/distillation.py": TEACH,
    "qa/lineage.py": REPORT,
    "hold_out.py": HOLD_OUT,
    "calibrate.py": CALIBRATE,
    "soft_targets.py": TEACH,
}


def put(config, path, value):
    *parents, last = path.split(".")
    for key in parents:
        config = config.setdefault(key, {})
    config[last] = value


@pytest.mark.parametrize("key", TABLE)
def test_a_changed_setting_reruns_exactly_the_stages_that_read_it(key, finished, changed):
    path, value, rules = TABLE[key]
    put(changed, path, value)
    if key.startswith("datasets.*.re"):  # both or none
        changed["datasets"]["mills"] |= {"repo": "a/b", "revision": HEX}
    assert finished.would_run(changed) == rules


@pytest.mark.parametrize("key", OF_QUALITY)
def test_a_changed_setting_of_quality_reruns_exactly_the_stages_that_read_it(key, improved):
    changes, rules = OF_QUALITY[key]
    config = copy.deepcopy(QUALITY)
    for path, value in changes.items():
        put(config, path, value)
    assert improved.would_run(config) == rules


def test_the_tables_cover_every_key_and_agree_with_what_the_schema_documents():
    order = ["download", "records", "hold_out", "tokenize_and_label", "soft_targets", "train", "predict", "calibrate"]
    order += ["postprocess", "compare", "package"]
    documented = {name: node["x-reruns"] for name, node in reference.every_key() if "x-reruns" in node}
    rules = {key: row[-1] for key, row in {**TABLE, **OF_QUALITY}.items()}
    assert not TABLE.keys() & OF_QUALITY.keys()
    assert {key: next((rule for rule in order if rule in some), "nothing") for key, some in rules.items()} == documented


def test_the_code_table_names_every_module_and_adapter(finished):
    folder = finished.path("workflow", "scripts")
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}
    assert {name for name in files if not name.endswith("__init__.py")} == CODE.keys()


def would_run_with_changed_code(project, module):
    path = project.path("workflow", "scripts", module)
    before = path.read_text()
    try:
        path.write_text(before + "\n\nADDED = 1\n")
        return project.would_run()
    finally:
        path.write_text(before)


@pytest.mark.parametrize("script", [name for name in CODE if "/" not in name])
def test_a_changed_adapter_reruns_exactly_its_stage_and_what_follows(script, finished):
    assert would_run_with_changed_code(finished, script) == CODE[script]


@pytest.mark.parametrize("script", [name for name in CODE_OF_QUALITY if "/" not in name])
def test_a_changed_adapter_of_quality_reruns_exactly_its_stage_and_what_follows(script, improved):
    assert would_run_with_changed_code(improved, script) == CODE_OF_QUALITY[script]


def rules_behind(module, table):
    """What reruns for a module: all that reruns for the adapters that reach it."""
    scripts = [name for name in CODE if "/" not in name]
    reached = [name for name in scripts if module.removeprefix("qa/") in modules_behind(SCRIPTS / name)]
    return set().union(*(table.get(name, CODE[name]) for name in reached))


@pytest.mark.parametrize("module", [name for name in CODE if "/" in name])
def test_a_changed_module_reruns_exactly_the_stages_that_use_it(module):
    assert rules_behind(module, {}) == CODE[module]


@pytest.mark.parametrize("module", [name for name in CODE_OF_QUALITY if "/" in name])
def test_a_changed_module_of_quality_reruns_exactly_the_stages_that_use_it(module):
    assert rules_behind(module, CODE_OF_QUALITY) == CODE_OF_QUALITY[module]


@pytest.mark.parametrize("module", ["qa/trainer.py", "qa/metrics.py", "qa/progress.py", "qa/report/figures.py"])
def test_it_does_so_in_dry_runs(module, finished):
    assert would_run_with_changed_code(finished, module) == CODE[module]


def reformatted(text: str) -> str:
    """The same code with other quotes, breaks and brackets, and without comments."""
    return ast.unparse(ast.parse(text))


COSMETIC = {
    "a comment": lambda text: text + "\n# why\n",
    "formatting": reformatted,
    "a docstring": lambda text: re.sub(r'\A"""', '"""Told anew. ', text),
    "a touch": lambda text: text,
}


@pytest.mark.parametrize("change", COSMETIC)
def test_comments_docstrings_formatting_and_touches_rerun_nothing(change, finished):
    paths = sorted(finished.path("workflow", "scripts").rglob("*.py"))
    before = {path: path.read_text() for path in paths}
    try:
        for path, text in before.items():
            path.write_text(COSMETIC[change](text))
            os.utime(path)
        assert any(path.read_text() != before[path] for path in paths) or change == "a touch"
        assert finished.would_run() == NOTHING
    finally:
        for path, text in before.items():
            path.write_text(text)


def test_a_finished_chain_has_nothing_to_do(finished):
    assert finished.would_run() == NOTHING


def test_a_changed_file_of_the_users_own_is_taken_anew(twin):
    path = twin.path("given", "validation.json")
    path.write_text(path.read_text().replace("ground oats", "ground wheat"))
    assert twin.would_run() == {"download", *RECORDS}


def test_a_comment_in_the_conda_environment_reruns_nothing(twin):
    path = twin.path("envs", "qa.yaml")
    path.write_text(f"# why\n{path.read_text()}")
    assert twin.would_run() == NOTHING


def test_a_setting_changed_back_reruns_nothing(finished, changed):
    assert finished.would_run(copy.deepcopy(changed)) == NOTHING
