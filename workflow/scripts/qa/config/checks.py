"""What must fit together in a configuration whose single values are right.

Each check yields its mistakes as lines that begin with the key path. The groups of ALL run in order: a group relies on
what the groups before it have checked.
"""

from collections.abc import Iterator
from typing import Any

from qa.common.errors import InputError
from qa.common.text import did_you_mean
from qa.config import comparisons, lineage
from qa.config.lineage import ENSEMBLE
from qa.config.schema import AS_GIVEN, AnyRun, Configuration, Run
from qa.config.sections import Decoding, EarlierRun

# names of the workflow's own files and folders: beside runs, beside datasets in a variant's, decodings in a split's
_TABLES = ("summary.csv", "comparison.csv", "resource_usage.csv")
_OF_PUBLISHING = ("package", "publish_plan.json", "published.json")
RESERVED = {
    "runs": (*_TABLES, "questions", "windows", "targets", "usage", "figures", "report.html"),
    "datasets": (*_OF_PUBLISHING, "model", "calibration", "training.csv", "manifest.json"),
    "decodings": ("spans.parquet", AS_GIVEN),
}
LEAST_ROOM = 8  # tokens of a row for special tokens and a step forward, beside question and overlap
TRAINING_ONLY = ("training", "checkpoints", "validate_on", "hold_out", "distillation", "report_to", "publish")

Lines = Iterator[str]


def without_training(written: dict[str, Any], config: Configuration) -> Lines:
    """Settings of training that a run without training sets itself. Those of `defaults` are not meant for it."""
    for name, run in config.runs.items():
        for key in () if run.is_trained else TRAINING_ONLY:
            if written[name].get(key) is not None:
                yield (
                    f"runs.{name}.{key}: this run trains nothing (train_on: null) and does not use it; leave {key} "
                    "out, or name a split to train on"
                )


def reserved_names(config: Configuration) -> Lines:
    """Names that the workflow's own files and folders have."""
    for part, names in (("runs", config.all_runs), ("datasets", config.datasets), ("decodings", _decodings(config))):
        for name in names:
            if name in RESERVED[part]:
                yield f"{part}.{name}: the name is taken by the workflow's own files; choose another"


def known_names(config: Configuration) -> Lines:
    """Models, decodings and splits that the configuration does not have."""
    for name, run in config.all_runs.items():
        if isinstance(run, Run) and isinstance(run.model, str):
            for line in _known(f"runs.{name}.model", run.model, config.models):
                is_run = run.model in config.runs
                yield f"{line}; for the model of that run write {{run: {run.model}}}" if is_run else line
        for decoding in run.decodings if name not in config.external else ():
            yield from _known(f"runs.{name}.decodings", decoding, _decodings(config))
        evaluated = "answers" if name in config.external else "evaluate_on"
        for key in ("train_on", "validate_on", evaluated, "calibrate_on"):
            splits = getattr(run, key, None) or []
            for split in [splits] if isinstance(splits, str) else splits:
                dataset, part = split.split("/")
                yield from _known(f"runs.{name}.{key}", dataset, config.datasets)
                if dataset in config.datasets:
                    yield from _known(f"runs.{name}.{key}", part, config.datasets[dataset].splits)


def _decodings(config: Configuration) -> dict[str, Decoding]:
    """The decodings that a configuration defines, without that of answers from a file."""
    return {name: decoding for name, decoding in config.decodings.items() if decoding.method != AS_GIVEN}


def _known(where: str, name: str, names: dict[str, Any]) -> Lines:
    if name not in names:
        yield f"{where}: no `{name}` among {', '.join(names) or 'none'}{did_you_mean(name, names)}"


def room(config: Configuration) -> Lines:
    """Rows without room for a context, and batches that do not divide."""
    for name, run in config.runs.items():
        windows, training = run.windows, run.training
        overlap = windows.overlap if windows.long_contexts == "windows" else 0
        if (windows.max_question_length or 0) + LEAST_ROOM + overlap > windows.max_length:
            yield (
                f"runs.{name}.windows: max_length {windows.max_length} leaves no room for max_question_length "
                f"{windows.max_question_length}, overlap {windows.overlap} and special tokens; raise max_length or "
                "lower the others"
            )
        if run.is_trained and training.batch_size % (training.accumulation_steps * training.gpus * training.nodes):
            yield (
                f"runs.{name}.training: accumulation_steps {training.accumulation_steps} x gpus {training.gpus} x "
                f"nodes {training.nodes} does not divide batch_size {training.batch_size}"
            )


def ensembles(config: Configuration) -> Lines:
    """Ensembles of unknown models, of ensembles or of one model, and decodings that cannot average."""
    for name, ensemble in config.ensembles.items():
        faults = []
        for place, member in enumerate(ensemble.ensemble):
            where = f"runs.{name}.ensemble.{place}"
            if member in config.ensembles:
                faults.append(f"{where}: `{member}` is an ensemble itself; name its runs")
            elif member in config.external:
                faults.append(f"{where}: `{member}` has answers from a file, and no probabilities of spans to average")
            else:
                faults += _unknown(where, config, member)
        if not faults and len(lineage.parts(config, name, ENSEMBLE)) < 2:
            faults.append(f"runs.{name}.ensemble: one model is no ensemble; name more runs or seeds")
        yield from faults
        for decoding in ensemble.decodings:
            if config.decodings[decoding].method != "n_best":
                yield f"runs.{name}.decodings: `{decoding}` is not of method n_best, which ensembles need"


def earlier_runs(config: Configuration) -> Lines:
    """Earlier runs that do not exist or have no such model."""
    for name, run in config.runs.items():
        if not isinstance(run.model, EarlierRun):
            continue
        where, earlier = f"runs.{name}.model.run", run.model.run
        if earlier in config.ensembles or earlier in config.external:
            what = "is an ensemble with" if earlier in config.ensembles else "has answers from a file and"
            yield f"{where}: `{earlier}` {what} no model of its own; name a run that trains one"
        elif earlier not in config.runs:
            yield from _known(where, earlier, config.runs)
        elif not run.is_trained:
            yield (
                f"{where}: this run trains nothing (train_on: null); to score `{earlier}` on more splits, list them in "
                "its evaluate_on"
            )
        elif not config.runs[earlier].is_trained:
            yield f"{where}: run `{earlier}` trains nothing (train_on: null); name its model instead"
        else:
            needed = run.seeds if run.model.seed is None else [run.model.seed]
            seeds = config.runs[earlier].seeds
            if lacking := [seed for seed in needed if seed not in seeds]:
                yield (
                    f"runs.{name}.model: run `{earlier}` has no seed {lacking[0]}, only {', '.join(map(str, seeds))}; "
                    "give both runs the same seeds, or name one of these as model.seed"
                )


def teachers(config: Configuration) -> Lines:
    """Teachers that do not exist, and runs that cannot be taught."""
    for name, run in config.runs.items():
        where = f"runs.{name}.teacher"
        if run.teacher is None:
            continue
        if not run.is_trained:
            yield f"{where}: this run trains nothing (train_on: null), so it cannot learn from a teacher"
        elif run.padding == "max_length":
            yield f"{where}: padding is part of the loss (padding: max_length); choose packed or longest"
        elif run.teacher in config.external:
            yield f"{where}: `{run.teacher}` has answers from a file, and no probabilities of spans to learn from"
        elif unknown := list(_unknown(where, config, run.teacher)):
            yield from unknown


def _unknown(where: str, config: Configuration, name: str) -> Lines:
    try:
        lineage.parts_named(config, name)
    except InputError as error:
        yield f"{where}: {error}"


def circles(config: Configuration) -> Lines:
    """Runs that learn from themselves: as teachers, by their models, or both."""
    for name in config.runs:
        for key, runs in lineage.sources(config, name).items():
            if circle := next(filter(None, (_circle(config, run, [name]) for run in runs)), []):
                kind = "teachers" if key == "teacher" else "runs"
                yield f"runs.{name}.{key}: a circle of {kind}: {' <- '.join(circle)}"


def _circle(config: Configuration, name: str, learners: list[str]) -> list[str]:
    """The runs from the first of `learners` back to a run that is among them already; [] if there is no circle."""
    if name in learners:
        return [*learners, name]
    runs = [run for runs in lineage.sources(config, name).values() for run in runs]
    return next(filter(None, (_circle(config, run, [*learners, name]) for run in runs)), [])


def calibrations(config: Configuration) -> Lines:
    """Calibrated decodings without questions for it, or with questions that are evaluated on."""
    for name, run in {**config.runs, **config.ensembles}.items():
        yield from _calibrate_on(config, name, run)
        calibrated = [decoding for decoding in run.decodings if config.decodings[decoding].is_calibrated]
        if not calibrated:
            continue
        try:
            splits = lineage.calibration_of(config, name)
        except InputError as error:
            yield f"runs.{name}.ensemble: {error}"
            continue
        if not splits:
            can_hold_out = name in config.ensembles or config.runs[name].is_trained
            yield (
                f"runs.{name}.decodings: `{calibrated[0]}` has a calibrated null_threshold, and the run holds no "
                f"questions out; {'set hold_out above 0 or ' if can_hold_out else ''}name calibrate_on, or choose a "
                "decoding with a number"
            )
        for split in splits:
            if split.split("@")[0] in run.evaluate_on and split not in (run.calibrate_on or []):
                yield (
                    f"runs.{name}.evaluate_on: {split} calibrates it, and "
                    "a threshold chosen on evaluated questions makes the scores too high; name other splits, "
                    "there or in calibrate_on"
                )


def _calibrate_on(config: Configuration, name: str, run: AnyRun) -> Lines:
    """Splits of `calibrate_on` that are evaluated on, or trained on by a model that is calibrated there."""
    models = [name]  # those that it learns from are those of questions_of_sources
    if name not in config.runs:
        models = lineage.with_sources(config, [part for part, _ in lineage.parts(config, name, ENSEMBLE)])
    trained = {split: model for model in models for split in config.runs[model].train_on or []}
    for split in run.calibrate_on or []:
        if split in run.evaluate_on:
            yield (
                f"runs.{name}.calibrate_on: {split} is evaluated on too, and "
                "a threshold chosen on evaluated questions makes the scores too high; name other splits"
            )
        if split in trained:
            yield (
                f"runs.{name}.calibrate_on: run `{trained[split]}` trains on {split}, and a model is too confident on "
                "its training questions; name other splits, or leave calibrate_on out and set hold_out"
            )


def kept_epochs(config: Configuration) -> Lines:
    """Runs that keep the best epoch without questions that tell which one it is, or end early and keep another."""
    for name, run in config.runs.items():
        if run.is_trained and run.training.early_stopping is not None and run.training.keep_epoch == "last":
            yield (
                f"runs.{name}.training.early_stopping: the last epoch is then not the best one; set keep_epoch: best, "
                "or leave early_stopping out"
            )
        if run.is_trained and run.training.keep_epoch == "best" and not lineage.calibration_splits(run):
            yield (
                f"runs.{name}.training.keep_epoch: the best epoch shows on held-out questions, and there are none; set "
                "hold_out above 0, name calibrate_on, or keep the last"
            )


def questions_of_sources(config: Configuration) -> Lines:
    """Runs that a run learns from, at once or further back, and that train on questions which judge or calibrate it."""
    for name, run in config.runs.items():
        calibrated = any(config.decodings[decoding].is_calibrated for decoding in run.decodings)
        share = lineage.held_out_share(run) if calibrated or run.training.keep_epoch == "best" else 0.0
        judged = {*run.evaluate_on, *(run.calibrate_on or [])}
        for key, runs in lineage.sources(config, name).items():
            for source in lineage.with_sources(config, runs):
                other_share = share not in (0.0, lineage.held_out_share(config.runs[source]))
                for split in config.runs[source].train_on or []:
                    seen = other_share and split in (run.train_on or [])
                    if split in judged or seen:
                        what = f"held-out questions of {split}" if seen else split
                        yield (
                            f"runs.{name}.{key}: run `{source}` trains on {what}, which this run is evaluated or "
                            "calibrated on, so its scores would be too high; give both the same hold_out, or name "
                            f"another {'teacher' if key == 'teacher' else 'run'}"
                        )


def questions_of_members(config: Configuration) -> Lines:
    """Ensembles that are calibrated on questions which a run trains on that one of their runs learns from."""
    for name, ensemble in config.ensembles.items():
        calibrated = any(config.decodings[decoding].is_calibrated for decoding in ensemble.decodings)
        models = [] if ensemble.calibrate_on or not calibrated else lineage.parts(config, name, ENSEMBLE)
        for run in dict.fromkeys(run for run, _ in models):
            share, splits = lineage.held_out_share(config.runs[run]), config.runs[run].train_on or []
            for source in lineage.with_sources(config, [run])[1:]:
                seen = [split for split in config.runs[source].train_on or [] if split in splits]
                if seen and lineage.held_out_share(config.runs[source]) != share:
                    yield (
                        f"runs.{name}.ensemble: run `{run}` learns from `{source}`, which trains on held-out questions "
                        f"of {seen[0]} that calibrate the ensemble; give both the same hold_out, or name calibrate_on"
                    )


def publications(config: Configuration) -> Lines:
    """Seeds to publish that a run does not have, and two runs for one repository."""
    repos: dict[str, str] = {}
    for name, run in config.runs.items():
        repo, seed = run.publish.repo, run.publish.seed
        if seed is not None and seed not in run.seeds:
            yield f"runs.{name}.publish.seed: {seed} is none of its seeds, {', '.join(map(str, run.seeds))}"
        if repo in repos:
            yield (
                f"runs.{name}.publish.repo: run `{repos[repo]}` goes to {repo} already, and one would overwrite the "
                "other; name another"
            )
        if repo is not None:
            repos.setdefault(repo, name)


ALL = (
    (reserved_names, known_names, room),
    (ensembles,),
    (teachers, earlier_runs),
    (circles,),
    (calibrations, kept_epochs, questions_of_sources, questions_of_members, publications, comparisons.faults),
)


def check(written: dict[str, Any], config: Configuration) -> None:
    """Raise InputError with a line for each mistake of the first group that has any.

    `written` are the runs as they are written, without `defaults`.
    """
    for number, group in enumerate(ALL):
        lines = list(without_training(written, config)) if number == 0 else []
        lines += [line for check in group for line in check(config)]
        if lines:
            raise InputError("\n".join(f"config: {line}" for line in dict.fromkeys(lines)))
