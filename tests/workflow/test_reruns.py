"""What reruns when: real dry runs after each change of a setting or of code, against the table that is documented."""

import ast
import copy
import os
import re
from typing import Any

import pytest
import yaml

from chain import CONFIG, QUALITY, ROOT
from qa.config import lineage, reference, settings, stages
from qa.plan import code_digest

REPORT = {"report"}
RESOURCES = {"resource_usage", *REPORT}
COMPARE = {"compare", *RESOURCES}
PACKAGE = {"package", *RESOURCES}
ANALYZE = {"analyze_errors", *RESOURCES}
SCORE = {"score", "summarize", *PACKAGE, *COMPARE, *ANALYZE}
POSTPROCESS = {"postprocess", *SCORE}
PREDICT = {"predict", *POSTPROCESS}
TRAIN = {"train", *PREDICT}
TOKENIZE = {"tokenize_and_label", *TRAIN}
RECORDS = {"prepare_questions", *TOKENIZE}
CALIBRATE = {"calibrate", *POSTPROCESS}
TEACH = {"soft_targets", *TRAIN}
HOLD_OUT = {"hold_out_calibration", *TEACH, *CALIBRATE, *TOKENIZE}
NOTHING: set[str] = set()
ONE_MORE_SPLIT = PREDICT - {"compare"}  # that the reference of the comparison does not answer

SCRIPTS = ROOT / "workflow" / "scripts"
HEX = "0" * 40
GIVEN = "given/train.json"
DRAWN = {"learning_rate": {"uniform": [1e-4, 1e-3]}}

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
    "datasets.*.limit": ("datasets.mills.limit", 9, RECORDS),
    "decodings.*.method": ("decodings.n_best", {"method": "walkthrough"}, POSTPROCESS),
    "decodings.*.n_best_size": ("decodings.n_best.n_best_size", 7, POSTPROCESS),
    "decodings.*.max_answer_length": ("decodings.n_best.max_answer_length", 7, POSTPROCESS),
    "decodings.*.null_threshold": ("decodings.n_best.null_threshold", -1.5, POSTPROCESS),
    "defaults.windows.max_length": ("defaults.windows.max_length", 90, TOKENIZE),
    "defaults.windows.overlap": ("defaults.windows.overlap", 8, TOKENIZE),
    "defaults.windows.max_question_length": ("defaults.windows.max_question_length", None, TOKENIZE),
    "defaults.windows.long_contexts": ("defaults.windows.long_contexts", "truncate", TOKENIZE),
    "defaults.windows.labels": ("defaults.windows.labels", "walkthrough", TOKENIZE),
    "defaults.windows.answers": ("defaults.windows.answers", "all", TOKENIZE),
    "defaults.precision": ("defaults.precision", "bf16", TRAIN),
    "defaults.padding": ("defaults.padding", "max_length", TRAIN),
    "defaults.deterministic": ("defaults.deterministic", True, TRAIN),
    "defaults.training.epochs": ("defaults.training", {"epochs": 1, "batch_size": 4}, TRAIN),
    "defaults.training.max_steps": ("defaults.training.max_steps", 3, TRAIN),
    "defaults.training.questions": ("defaults.training.questions", 8, TRAIN),
    "defaults.training.batch_size": ("defaults.training.batch_size", 2, TRAIN),
    "defaults.training.accumulation_steps": ("defaults.training.accumulation_steps", 2, TRAIN),
    "defaults.training.attention_dropout": ("defaults.training.attention_dropout", 0.05, TRAIN),
    "defaults.training.compile": ("defaults.training.compile", "none", NOTHING),
    "defaults.training.gradient_checkpointing": ("defaults.training.gradient_checkpointing", True, NOTHING),
    "defaults.training.lora_rank": ("defaults.training.lora_rank", 8, TRAIN),
    "defaults.training.gpus": ("defaults.training.gpus", 2, NOTHING),
    "defaults.training.nodes": ("defaults.training.nodes", 2, NOTHING),
    "defaults.training.learning_rate": ("defaults.training.learning_rate", 1e-5, TRAIN),
    "defaults.training.schedule": ("defaults.training.schedule", "cosine", TRAIN),
    "defaults.training.warmup": ("defaults.training.warmup", 0.5, TRAIN),
    "defaults.training.weight_decay": ("defaults.training.weight_decay", 0.1, TRAIN),
    "defaults.training.max_gradient_norm": ("defaults.training.max_gradient_norm", 0.5, TRAIN),
    "defaults.prediction.batch_size": ("defaults.prediction.batch_size", 8, PREDICT),
    "defaults.prediction.candidates": ("defaults.prediction.candidates", 8, PREDICT),
    "defaults.checkpoints.every_steps": ("defaults.checkpoints.every_steps", 1, NOTHING),
    "defaults.checkpoints.keep": ("defaults.checkpoints.keep", 1, NOTHING),
    "defaults.checkpoints.keep_after_success": ("defaults.checkpoints.keep_after_success", True, NOTHING),
    "defaults.checkpoints.log_every_steps": ("defaults.checkpoints.log_every_steps", 1, NOTHING),
    "runs.*.model": ("runs.small.model", "two", TOKENIZE),
    "runs.*.train_on": ("runs.small.train_on", "mills/extra", TOKENIZE),
    "runs.*.validate_on": ("runs.small.validate_on", None, TRAIN),
    "runs.*.evaluate_on": ("runs.small.evaluate_on", ["mills/validation", "mills/train"], ONE_MORE_SPLIT),
    "runs.*.decodings": ("runs.other.decodings", ["n_best", "walkthrough"], POSTPROCESS),
    "runs.*.seeds": ("runs.small.seeds", [1, 2], TRAIN),
    "runs.*.draws": ("runs.other", {**CONFIG["runs"]["other"], "draws": 1, "training": DRAWN}, TRAIN),
    "runs.*.draw_seed": (
        "runs.other",
        {**CONFIG["runs"]["other"], "draws": 1, "draw_seed": 1, "training": DRAWN},
        TRAIN,
    ),
    "runs.*.publish.repo": ("runs.small.publish", {"repo": "someone/mills"}, PACKAGE),
    "runs.*.publish.private": ("runs.small.publish.private", False, NOTHING),
    "runs.*.publish.seed": ("runs.small.publish.seed", 1, NOTHING),
    "runs.*.answers": (
        "runs.theirs",
        {"answers": {"mills/validation": "given/answers.json"}},
        POSTPROCESS - {"package"},
    ),
    "defaults.report_to": ("defaults.report_to", ["tensorboard"], NOTHING),
    "compare_to": ("compare_to", "small/walkthrough", COMPARE),
    "compare": ("compare", [["small/n_best", "small/walkthrough"]], COMPARE),
}

# key of the schema -> (paths in the configuration QUALITY with new values, rules that rerun)
OF_QUALITY: dict[str, tuple[dict[str, Any], set[str]]] = {
    "datasets.*.f1_by": ({"datasets.mills.f1_by": "characters"}, CALIBRATE),
    "decodings.*.calibrate_for": ({"decodings.calibrated.calibrate_for": "exact"}, CALIBRATE),
    "decodings.*.unanswerable_prior": ({"decodings.calibrated.unanswerable_prior": 0.5}, CALIBRATE),
    "defaults.hold_out": ({"defaults.hold_out": 0.4}, HOLD_OUT),
    "defaults.distillation.weight": ({"defaults.distillation.weight": 0.9}, TRAIN),
    "defaults.distillation.temperature": ({"defaults.distillation.temperature": 4.0}, TEACH),
    "defaults.training.keep_epoch": ({"runs.pupil.training": {"keep_epoch": "best"}}, TRAIN),
    "defaults.training.early_stopping": (
        {"runs.pupil.training": {"keep_epoch": "best", "early_stopping": 1}},
        TRAIN,
    ),
    "defaults.training.lora_alpha": ({"runs.pupil.training": {"lora_rank": 8, "lora_alpha": 8}}, TRAIN),
    "runs.*.ensemble": ({"runs.seeds.ensemble": ["seeded", "bytes"]}, POSTPROCESS - {"package"}),
    "runs.*.calibrate_on": (  # without the pupil's soft_targets_keys, since its teachers would have trained on more
        {f"runs.{run}.calibrate_on": ["mills/extra"] for run in ("seeded", "team")} | {"runs.pupil.teacher": None},
        {*TRAIN, *CALIBRATE},
    ),
    "runs.*.model.run": ({"runs.joint.model": "one"}, TRAIN),
    "runs.*.model.seed": ({"runs.joint.model": {"run": "seeded", "seed": 2}}, TRAIN),
    "runs.*.teacher": ({"runs.pupil.teacher": "seeded"}, TEACH),
}

# module or adapter -> rules that rerun when its code changes
CODE: dict[str, set[str]] = {
    "qa/hub/download.py": {"download", *RECORDS},
    "qa/data/prepare_questions.py": RECORDS,
    "qa/data/file_formats.py": RECORDS,
    "qa/data/align_answers.py": RECORDS,
    "qa/windows/tokenize_and_label.py": TOKENIZE,
    "qa/windows/encoder.py": TOKENIZE,
    "qa/windows/tokenizer.py": TOKENIZE,
    "qa/windows/encoder_config.py": TOKENIZE,
    "qa/windows/labels.py": TOKENIZE,
    "qa/windows/ranges.py": TOKENIZE,
    "qa/training/train.py": TRAIN,
    "qa/training/fit.py": TRAIN,
    "qa/training/spec.py": TRAIN,
    "qa/training/trainer.py": TRAIN,
    "qa/training/drawn_questions.py": TRAIN,
    "qa/training/callbacks.py": TRAIN,
    "qa/training/distributed.py": TRAIN,
    "qa/jobs/interruption.py": TRAIN,
    "qa/jobs/slurm.py": TRAIN,
    "qa/training/lora.py": TRAIN,
    "qa/fused/step.py": TRAIN,
    "qa/fused/encoder.py": TRAIN,
    "qa/fused/layers.py": TRAIN,
    "qa/fused/kernels.py": TRAIN,
    "qa/training/worker.py": NOTHING,
    "qa/training/checkpoints.py": TRAIN,
    "qa/model/collators.py": TRAIN,
    "qa/model/window_dataset.py": TRAIN,
    "qa/training/batch_sampler.py": TRAIN,
    "qa/model/disentangled.py": TRAIN,
    "qa/model/joined_products.py": TRAIN,
    "qa/model/packing.py": TRAIN,
    "qa/model/attention.py": TRAIN,
    "qa/model/predict.py": PREDICT,
    "qa/model/cpu_layers.py": TRAIN,
    "qa/model/spans.py": PREDICT,
    "qa/windows/read_windows.py": TRAIN,
    "qa/common/checksums.py": TRAIN,
    "qa/common/parquet.py": TOKENIZE,
    "qa/decoding/postprocess.py": POSTPROCESS,
    "qa/decoding/answers.py": POSTPROCESS,
    "qa/decoding/nbest.py": POSTPROCESS,
    "qa/metrics/squad.py": SCORE,
    "qa/metrics/statistics.py": SCORE,
    "qa/metrics/seeds.py": COMPARE,
    "qa/metrics/selection.py": REPORT,
    "qa/evaluation/score_files.py": NOTHING,
    "qa/evaluation/slices.py": ANALYZE,
    "qa/evaluation/analyze_errors.py": ANALYZE,
    "qa/metrics/confidence.py": SCORE,
    "qa/data/hold_out_calibration.py": NOTHING,
    "qa/decoding/calibrate.py": {"summarize", *COMPARE},
    "qa/decoding/null_threshold.py": {"summarize", *COMPARE},
    "qa/decoding/ensembles.py": POSTPROCESS,
    "qa/training/soft_targets.py": NOTHING,
    "qa/config/lineage.py": REPORT,
    "qa/plan/expected_jobs.py": NOTHING,
    "qa/training/epochs.py": NOTHING,
    "qa/evaluation/risk_coverage.py": ANALYZE,
    "qa/plan/rule_inputs.py": NOTHING,
    "qa/evaluation/compare.py": COMPARE,
    "qa/config/comparisons.py": REPORT,
    "qa/hub/repository.py": {"download", *RECORDS},
    "qa/common/progress.py": NOTHING,
    "qa/common/text.py": NOTHING,
    "qa/model/loading.py": TRAIN,
    "qa/model/devices.py": TRAIN,
    "qa/model/overrides.py": TRAIN,
    "qa/training/manifest.py": TRAIN,
    "qa/evaluation/score.py": SCORE,
    "qa/evaluation/question_scores.py": SCORE,
    "qa/evaluation/summarize.py": {"summarize", *COMPARE},
    "qa/common/files.py": {"download", *RECORDS},
    "qa/common/errors.py": {"download", *RECORDS},
    "qa/jobs/stage.py": {"download", *RECORDS},
    "qa/config/settings.py": REPORT,
    "qa/config/schema.py": REPORT,
    "qa/config/sections.py": REPORT,
    "qa/config/fields.py": REPORT,
    "qa/config/stages.py": REPORT,
    "qa/config/checks.py": REPORT,
    "qa/config/messages.py": REPORT,
    "qa/config/strict_yaml.py": REPORT,
    "qa/config/sweeps.py": REPORT,
    "qa/config/draws.py": REPORT,
    "qa/config/reference.py": NOTHING,
    "qa/plan/code_digest.py": NOTHING,
    "qa/jobs/resource_usage.py": RESOURCES,
    "qa/jobs/job_records.py": RESOURCES,
    "qa/jobs/slurm_accounting.py": RESOURCES,
    "qa/jobs/slurm_profile.py": NOTHING,
    "qa/jobs/failures.py": NOTHING,
    "qa/jobs/advice.py": NOTHING,
    "qa/jobs/log_lines.py": NOTHING,
    "qa/preflight/checks.py": NOTHING,
    "qa/preflight/plan.py": NOTHING,
    "qa/preflight/space.py": NOTHING,
    "qa/preflight/slurm_requests.py": NOTHING,
    "qa/plan/timestamps.py": NOTHING,
    "qa/preflight/findings.py": NOTHING,
    "qa/jobs/status.py": NOTHING,
    "qa/hub/package.py": PACKAGE,
    "qa/hub/model_card.py": PACKAGE,
    "qa/plan/card_facts.py": NOTHING,
    "qa/hub/publish.py": NOTHING,
    "qa/reader.py": NOTHING,
    "qa/ask.py": NOTHING,
    "qa/serve/server.py": NOTHING,
    "qa/cli.py": NOTHING,
    "qa/__main__.py": NOTHING,
    "qa/metrics/__main__.py": NOTHING,
    "qa/common/installation.py": TRAIN,
    "qa/training/trackers.py": NOTHING,
    "qa/decoding/probabilities.py": POSTPROCESS,
    "qa/data/read_records.py": TOKENIZE,
    "qa/data/read_answers.py": POSTPROCESS,
    "qa/decoding/given_answers.py": POSTPROCESS,
    "qa/report/build.py": REPORT,
    "qa/report/comparison.py": REPORT,
    "qa/report/learning_curve.py": REPORT,
    "qa/report/drawing.py": REPORT,
    "qa/report/figures.py": REPORT,
    "qa/report/overview.py": REPORT,
    "qa/report/page.py": REPORT,
    "qa/report/questions.py": REPORT,
    "qa/report/ranking.py": REPORT,
    "qa/report/results.py": REPORT,
    "qa/report/no_answer.py": REPORT,
    "qa/report/no_answer_data.py": REPORT,
    "qa/report/slices.py": REPORT,
    "qa/report/stages.py": REPORT,
    "qa/report/training.py": REPORT,
    "qa/paper/methods.py": NOTHING,
    "qa/paper/table.py": NOTHING,
    "qa/paper/references.py": NOTHING,
    "download.py": {"download", *RECORDS},
    "prepare_questions.py": RECORDS,
    "tokenize_and_label.py": TOKENIZE,
    "train.py": TRAIN,
    "predict.py": PREDICT,
    "postprocess.py": POSTPROCESS,
    "score.py": SCORE,
    "analyze_errors.py": ANALYZE,
    "hold_out_calibration.py": NOTHING,
    "calibrate.py": NOTHING,
    "soft_targets.py": NOTHING,
    "summarize.py": {"summarize", *RESOURCES},
    "compare.py": COMPARE,
    "resource_usage.py": RESOURCES,
    "report.py": REPORT,
    "latest_checkpoint.py": NOTHING,
    "package.py": PACKAGE,
    "publish_plan.py": NOTHING,
    "publish.py": NOTHING,
    "hooks/configuration.py": NOTHING,
    "hooks/preflight.py": NOTHING,
    "hooks/leftover_jobs.py": NOTHING,
    "hooks/terminal.py": NOTHING,
    "hooks/profiles.py": NOTHING,
    "hooks/slurm_executor.py": NOTHING,
}

# module or adapter -> rules that rerun of QUALITY, which holds out, calibrates and teaches
CODE_OF_QUALITY: dict[str, set[str]] = {
    "qa/data/hold_out_calibration.py": HOLD_OUT,
    "qa/decoding/calibrate.py": CALIBRATE,
    "qa/decoding/null_threshold.py": CALIBRATE,
    "qa/metrics/statistics.py": CALIBRATE,
    "qa/decoding/postprocess.py": {*TEACH, *CALIBRATE},
    "qa/decoding/ensembles.py": {*TEACH, *CALIBRATE},
    "qa/training/soft_targets.py": TEACH,
    "qa/config/lineage.py": REPORT,
    "hold_out_calibration.py": HOLD_OUT,
    "calibrate.py": CALIBRATE,
    "soft_targets.py": TEACH,
}


def put(config, path, value):
    *parents, last = path.split(".")
    for key in parents:
        config = config.setdefault(key, {})
    config[last] = value


@pytest.mark.parametrize("key", [*TABLE, *OF_QUALITY])
def test_scores_record_exactly_the_settings_that_remake_them(key):
    if key in TABLE:
        path, value, rules = TABLE[key]
        plain, changes = CONFIG, {path: value}
    else:
        plain, (changes, rules) = QUALITY, OF_QUALITY[key]
    if "download" in rules:
        pytest.skip("downloads record where they are from")
    changed = copy.deepcopy(plain)
    for path, value in changes.items():
        put(changed, path, value)
    before, after = (
        {answers: stages.answered_with(config, *answers) for answers in lineage.scored(config)}
        for config in (settings.resolve(copy.deepcopy(plain)), settings.resolve(changed))
    )
    assert (before != after) == ("score" in rules)


@pytest.mark.parametrize("key", [key for key in TABLE if TABLE[key][-1]])
def test_a_changed_setting_reruns_exactly_the_stages_that_read_it(key, finished, changed):
    path, value, rules = TABLE[key]
    put(changed, path, value)
    if key.startswith("datasets.*.re"):  # both or none
        changed["datasets"]["mills"] |= {"repo": "a/b", "revision": HEX}
    assert finished.would_run(changed) == rules


def test_a_split_that_trains_and_one_that_validates_change_places(finished, changed):
    small = changed["runs"]["small"]
    small["train_on"], small["validate_on"] = small["validate_on"], small["train_on"]
    assert finished.would_run(changed) == TRAIN  # though it reads the same files


def test_splits_that_train_together_change_their_order(improved):
    config = copy.deepcopy(QUALITY)
    config["runs"]["joint"]["train_on"].reverse()
    assert improved.would_run(config) == TRAIN


def test_settings_that_change_no_result_rerun_nothing(finished, changed):
    for path, value, rules in TABLE.values():
        if not rules:
            put(changed, path, value)
    assert finished.would_run(changed) == NOTHING


def with_keys_from_z_to_a(value: Any, key: str = "") -> Any:
    """A configuration with its keys in reverse order, but for the names of parts, whose order is that of tables."""
    if not isinstance(value, dict):
        return value
    named = key in ("models", "datasets", "decodings", "runs")
    return {inner: with_keys_from_z_to_a(value[inner], inner) for inner in sorted(value, reverse=not named)}


def test_keys_in_another_order_rerun_nothing(finished, changed):
    config = with_keys_from_z_to_a(changed)
    finished.path("changed.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert [*config["datasets"]["mills"]["splits"]] == ["validation", "train", "extra"]
    assert "Nothing to be done" in finished.dry_run("-n", config="changed.yaml")[1]


@pytest.mark.parametrize("key", OF_QUALITY)
def test_a_changed_setting_of_quality_reruns_exactly_the_stages_that_read_it(key, improved):
    changes, rules = OF_QUALITY[key]
    config = copy.deepcopy(QUALITY)
    for path, value in changes.items():
        put(config, path, value)
    assert improved.would_run(config) == rules


def test_the_tables_cover_every_key_and_agree_with_what_the_schema_documents():
    order = [
        "download",
        "prepare_questions",
        "hold_out_calibration",
        "tokenize_and_label",
        "soft_targets",
        "train",
        "predict",
        "calibrate",
    ]
    order += ["postprocess", "score", "compare", "package"]
    documented = {key.path: key.stage for key in reference.every_key() if key.stage}
    rules = {key: row[-1] for key, row in {**TABLE, **OF_QUALITY}.items()}
    assert not TABLE.keys() & OF_QUALITY.keys()
    assert {key: next((rule for rule in order if rule in some), "nothing") for key, some in rules.items()} == documented


def test_the_code_table_names_every_module_and_adapter(finished):
    folder = finished.path("workflow", "scripts")
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}
    assert {name for name in files if not name.endswith("__init__.py")} == CODE.keys()


def would_run_with_changed_code(project, *modules):
    before = {path: path.read_text() for path in (project.path("workflow", "scripts", module) for module in modules)}
    try:
        for path, text in before.items():
            path.write_text(text + "\n\nADDED = 1\n")
        return project.would_run()
    finally:
        for path, text in before.items():
            path.write_text(text)


@pytest.mark.parametrize("script", [name for name in CODE if "/" not in name and CODE[name]])
def test_a_changed_adapter_reruns_exactly_its_stage_and_what_follows(script, finished):
    assert would_run_with_changed_code(finished, script) == CODE[script]


def test_changed_adapters_and_hooks_that_this_chain_does_not_use_rerun_nothing(finished):
    unused = [name for name in CODE if not name.startswith("qa/") and not CODE[name]]
    assert would_run_with_changed_code(finished, *unused) == NOTHING


@pytest.mark.parametrize("script", [name for name in CODE_OF_QUALITY if "/" not in name])
def test_a_changed_adapter_of_quality_reruns_exactly_its_stage_and_what_follows(script, improved):
    assert would_run_with_changed_code(improved, script) == CODE_OF_QUALITY[script]


def rules_behind(module, table):
    """What reruns for a module: all that reruns for the adapters that reach it."""
    scripts = [name for name in CODE if "/" not in name]
    reached = [name for name in scripts if SCRIPTS / module in code_digest._reached(SCRIPTS / name, SCRIPTS / "qa")]
    return set().union(*(table.get(name, CODE[name]) for name in reached))


@pytest.mark.parametrize("module", [name for name in CODE if "/" in name])
def test_a_changed_module_reruns_exactly_the_stages_that_use_it(module):
    assert rules_behind(module, {}) == CODE[module]


@pytest.mark.parametrize("module", [name for name in CODE_OF_QUALITY if "/" in name])
def test_a_changed_module_of_quality_reruns_exactly_the_stages_that_use_it(module):
    assert rules_behind(module, CODE_OF_QUALITY) == CODE_OF_QUALITY[module]


@pytest.mark.parametrize(
    "module", ["qa/training/trainer.py", "qa/metrics/squad.py", "qa/common/progress.py", "qa/report/figures.py"]
)
def test_it_does_so_in_dry_runs(module, finished):
    assert would_run_with_changed_code(finished, module) == CODE[module]


def reformatted(text: str) -> str:
    """The same code with other quotes, breaks and brackets, and without comments."""
    return ast.unparse(ast.parse(text))


def test_comments_docstrings_formatting_and_touches_rerun_nothing(finished):
    before = {path: path.read_text() for path in sorted(finished.path("workflow", "scripts").rglob("*.py"))}
    try:
        for path, text in before.items():
            path.write_text(reformatted(re.sub(r'\A"""', '"""Told anew. ', text)) + "\n# why\n")
            os.utime(path)
        assert finished.would_run() == NOTHING
    finally:
        for path, text in before.items():
            path.write_text(text)


def test_a_finished_chain_has_nothing_to_do_even_with_another_number_of_threads(finished):
    assert finished.would_run(None, "--set-threads", "train=1", "predict=1") == NOTHING


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
