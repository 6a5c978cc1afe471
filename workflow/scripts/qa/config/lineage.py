"""Lineage: the models behind a run's variant, and the questions that train, calibrate and teach it."""

from collections.abc import Iterable
from typing import Any

from qa.common.errors import InputError

ENSEMBLE = "ensemble"  # the only variant of a run of that kind
PUBLISHED = "published"  # the variant of a run that trains nothing
Part = tuple[str, str]  # run, variant


def variants(run: dict[str, Any]) -> list[str]:
    """Names of a run's variants: `seed-42`, ... for its trainings, `published` without training, or `ensemble`."""
    if ENSEMBLE in run:
        return [ENSEMBLE]
    return [PUBLISHED] if run["train_on"] is None else [f"seed-{seed}" for seed in run["seeds"]]


def parts(resolved: dict[str, Any], name: str, variant: str) -> list[Part]:
    """The models whose spans answer for a variant: itself, or those of an ensemble.

    Raises InputError for a run that the configuration does not have, and for an ensemble's seeds and a run's ensemble.
    """
    known = [*resolved["runs"], *resolved["ensembles"]]
    if name not in known:
        raise InputError(f"no run `{name}` in the configuration; there are {', '.join(known)}")
    if (name in resolved["ensembles"]) != (variant == ENSEMBLE):
        of = resolved["ensembles"].get(name) or resolved["runs"][name]
        raise InputError(f"run `{name}` has no variant `{variant}`; it has {', '.join(variants(of))}")
    if variant != ENSEMBLE:
        return [(name, variant)]
    named = resolved["ensembles"][name][ENSEMBLE]
    return list(dict.fromkeys(part for each in named for part in parts_named(resolved, each)))


def parts_named(resolved: dict[str, Any], name: str) -> list[Part]:
    """The models that `run`, `run/variant` or an ensemble's name stands for; InputError where there is none such."""
    run, slash, variant = name.partition("/")
    if run in resolved["ensembles"] and not slash:
        return parts(resolved, run, ENSEMBLE)
    if run not in resolved["runs"]:
        raise InputError(f"no run `{run}` among {', '.join(resolved['runs'])}")
    known = variants(resolved["runs"][run])
    if slash and variant not in known:
        raise InputError(f"run `{run}` has no variant `{variant}`; it has {', '.join(known)}")
    return [(run, variant)] if slash else [(run, each) for each in known]


def training_splits(run: dict[str, Any]) -> list[str]:
    """What a run trains on: its splits, or what is left of each where questions are held out."""
    share = held_out_share(run)
    return [f"{split}@kept-{share:g}" if share else split for split in run["train_on"] or []]


def calibration_splits(run: dict[str, Any]) -> list[str]:
    """What a run or an ensemble is calibrated on: splits that config names, or what was held out of its training."""
    if run.get("calibrate_on"):
        return run["calibrate_on"]
    share = held_out_share(run)
    return [f"{split}@held-out-{share:g}" for split in run["train_on"]] if share else []


def held_out_share(run: dict[str, Any]) -> float:
    """The share of each training split that is held out: 0 where other questions calibrate, or nothing is trained."""
    return 0.0 if run["calibrate_on"] or not run["train_on"] else run["hold_out"]


def calibration_of(resolved: dict[str, Any], name: str) -> list[str]:
    """The splits that calibrate a run or an ensemble, whose models must have held out the same; [] if there are none.

    Raises InputError where an ensemble's models held out different questions.
    """
    if name not in resolved["ensembles"]:
        return calibration_splits(resolved["runs"][name])
    ensemble = resolved["ensembles"][name]
    if ensemble["calibrate_on"]:
        return ensemble["calibrate_on"]
    runs = list(dict.fromkeys(run for run, _ in parts(resolved, name, ENSEMBLE)))
    found = [calibration_splits(resolved["runs"][run]) for run in runs]
    for run, splits in zip(runs, found, strict=True):
        if sorted(splits) != sorted(found[0]):
            raise InputError(
                f"its runs `{runs[0]}` and `{run}` hold out different questions ({', '.join(found[0]) or 'none'}; "
                f"{', '.join(splits) or 'none'}); name `calibrate_on`, or give their decodings a number"
            )
    return found[0]


def spans(resolved: dict[str, Any], name: str, variant: str, split: str) -> list[str]:
    """Files of the spans that answer a split for a variant, one for each of its models."""
    return [f"results/{run}/{each}/{split}/spans.parquet" for run, each in parts(resolved, name, variant)]


def check_parts(resolved: dict[str, Any]) -> None:
    """Raise InputError where an ensemble or a teacher names no model, or decodes in a way that it cannot."""
    for name, ensemble in resolved["ensembles"].items():
        for place, each in enumerate(ensemble[ENSEMBLE]):
            where = f"config: runs.{name}.ensemble.{place}"
            if each in resolved["ensembles"]:
                raise InputError(f"{where}: `{each}` is an ensemble itself; name its runs")
            _named(where, resolved, each)
        if len(parts(resolved, name, ENSEMBLE)) < 2:
            raise InputError(f"config: runs.{name}.ensemble: one model is no ensemble; name more runs or seeds")
        for decoding in ensemble["decodings"]:
            if resolved["decodings"][decoding]["method"] != "n_best":
                raise InputError(
                    f"config: runs.{name}.decodings: `{decoding}` is not of method n_best, as ensembles need"
                )
    for name, run in resolved["runs"].items():
        if run["teacher"] is None:
            continue
        where = f"config: runs.{name}.teacher"
        if not run["train_on"]:
            raise InputError(f"{where}: this run trains nothing (train_on: null), so nobody teaches it")
        if run["padding"] == "max_length":
            raise InputError(f"{where}: padding takes part in the loss (padding: max_length); choose packed or longest")
        _named(where, resolved, run["teacher"])
        _check_no_circle(where, resolved, name, [])


def check_calibration(resolved: dict[str, Any]) -> None:
    """Raise InputError where a decoding is calibrated and the run has no questions for it, or those it is judged on."""
    for name, run in {**resolved["runs"], **resolved["ensembles"]}.items():
        calibrated = [each for each in run["decodings"] if is_calibrated(resolved["decodings"][each])]
        _check_calibrate_on(resolved, name, run)
        try:
            splits = calibration_of(resolved, name)
        except InputError as error:
            if not calibrated:
                continue
            raise InputError(f"config: runs.{name}.ensemble: {error}") from None
        if calibrated and not splits:
            published = name in resolved["runs"] and not run["train_on"]
            raise InputError(
                f"config: runs.{name}.decodings: `{calibrated[0]}` has a calibrated null_threshold, and the run holds "
                f"no questions out; {'' if published else 'set hold_out above 0 or '}name calibrate_on, or choose a "
                "decoding with a number"
            )
        if calibrated and (judged := [split for split in splits if split.split("@")[0] in run["evaluate_on"]]):
            raise InputError(
                f"config: runs.{name}.evaluate_on: {judged[0]} calibrates it; a threshold that is chosen there would "
                "flatter the scores, so name other splits, there or as calibrate_on"
            )


def _check_calibrate_on(resolved: dict[str, Any], name: str, run: dict[str, Any]) -> None:
    """Refuse to calibrate on splits that are evaluated on, or trained on by a model that is calibrated there."""
    models = [name] if name in resolved["runs"] else [each for each, _ in parts(resolved, name, ENSEMBLE)]
    trained = {split: each for each in models for split in resolved["runs"][each]["train_on"] or []}
    for split in run["calibrate_on"] or []:
        if split in run["evaluate_on"]:
            raise InputError(
                f"config: runs.{name}.calibrate_on: {split} is evaluated on too; a threshold that is chosen there "
                "would flatter the scores"
            )
        if split in trained:
            raise InputError(
                f"config: runs.{name}.calibrate_on: run `{trained[split]}` trains on {split}; a model is too sure of "
                "answers that it was taught; name other splits, or leave it out and hold some questions out (hold_out)"
            )


def check_teachers(resolved: dict[str, Any]) -> None:
    """Raise InputError where a teacher, or a teacher's teacher, was trained on what a student is judged on.

    Or calibrated on.
    """
    for name, run in resolved["runs"].items():
        if run["teacher"] is None:
            continue
        calibrated = any(is_calibrated(resolved["decodings"][each]) for each in run["decodings"])
        share = held_out_share(run) if calibrated or run["training"]["keep_epoch"] == "best" else 0.0
        mine = {*run["evaluate_on"], *(run["calibrate_on"] or [])}
        for each in _teachers(resolved, run["teacher"]):
            teacher = resolved["runs"][each]
            for split in teacher["train_on"] or []:
                seen = split in run["train_on"] and share not in (0.0, held_out_share(teacher))
                if split in mine or seen:
                    what = f"held-out questions of {split}" if seen else split
                    raise InputError(
                        f"config: runs.{name}.teacher: run `{each}` trains on {what}, which this run is "
                        "judged or calibrated on: it would pass on what it has seen there; give both "
                        "the same hold_out, or name another teacher"
                    )


def _teachers(resolved: dict[str, Any], name: str) -> list[str]:
    """The runs that a run learns from: those that a teacher stands for, and all that they have learnt from."""
    found = list(dict.fromkeys(each for each, _ in parts_named(resolved, name)))
    for each in found:
        if named := resolved["runs"][each]["teacher"]:
            found += [one for one, _ in parts_named(resolved, named) if one not in found]
    return found


def check_kept_epochs(resolved: dict[str, Any]) -> None:
    """Raise InputError where the best epoch is to be kept and there are no questions to tell."""
    for name, run in resolved["runs"].items():
        if run["train_on"] and run["training"]["keep_epoch"] == "best" and not calibration_splits(run):
            raise InputError(
                f"config: runs.{name}.training.keep_epoch: the best epoch shows on questions held out, and there are "
                "none; set hold_out above 0, name calibrate_on, or keep the last"
            )


def publications(resolved: dict[str, Any]) -> dict[str, str]:
    """The variant of each run that is to be published, by run.

    Raises InputError where it is none of the run's seeds, and for one repository of two runs.
    """
    found: dict[str, str] = {}
    repos: dict[str, str] = {}
    for name, run in resolved["runs"].items():
        repo, seed = run["publish"]["repo"], run["publish"]["seed"]
        if seed is not None and seed not in run["seeds"]:
            raise InputError(
                f"config: runs.{name}.publish.seed: {seed} is none of its seeds, {', '.join(map(str, run['seeds']))}"
            )
        if repo is None:
            continue
        if repo in repos:
            raise InputError(
                f"config: runs.{name}.publish.repo: run `{repos[repo]}` goes to {repo} already, and one would "
                "overwrite the other; name another"
            )
        repos[repo] = name
        found[name] = f"seed-{run['seeds'][0] if seed is None else seed}"
    return found


def is_calibrated(decoding: dict[str, Any]) -> bool:
    """Whether a decoding takes its threshold from held-out questions."""
    return decoding.get("null_threshold") == "calibrated"


def calibrated(resolved: dict[str, Any], scored: Iterable[tuple[str, str, str, str]]) -> list[tuple[str, str, str]]:
    """(run, variant, decoding) of what is calibrated among (run, variant, split, decoding), each once."""
    is_so = {name: is_calibrated(decoding) for name, decoding in resolved["decodings"].items()}
    return list(dict.fromkeys((run, variant, each) for run, variant, _, each in scored if is_so[each]))


def _named(where: str, resolved: dict[str, Any], name: str) -> list[Part]:
    try:
        return parts_named(resolved, name)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _check_no_circle(where: str, resolved: dict[str, Any], name: str, students: list[str]) -> None:
    if name in students:
        raise InputError(f"{where}: a circle of teachers: {' <- '.join([*students, name])}")
    teacher = resolved["runs"][name]["teacher"]
    if teacher is None:
        return
    for run in dict.fromkeys(run for run, _ in _named(f"config: runs.{name}.teacher", resolved, teacher)):
        _check_no_circle(where, resolved, run, [*students, name])
