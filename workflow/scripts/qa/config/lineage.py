"""Lineage: the models behind a run's variant, and the questions that train, calibrate and teach it."""

from collections.abc import Iterable, Iterator, Sequence

from qa.common.errors import InputError
from qa.config.fields import listed
from qa.config.schema import AnyRun, Configuration, Ensemble, External, Run
from qa.config.sections import EarlierRun

ENSEMBLE = "ensemble"  # the only variant of an ensemble
PUBLISHED = "published"  # the only variant of a run that trains nothing
EXTERNAL = "external"  # the only variant of a run whose answers come from files
Part = tuple[str, str]  # run, variant


def variants(run: AnyRun) -> list[str]:
    """Names of a run's variants: `seed-42`, ... for its trainings, or `published`, `ensemble` or `external`."""
    if not isinstance(run, Run):
        return [ENSEMBLE if isinstance(run, Ensemble) else EXTERNAL]
    return [f"seed-{seed}" for seed in run.seeds] if run.is_trained else [PUBLISHED]


def model_folder(name: str, run: Run, variant: str) -> str:
    """Folder of the model that a variant of the run `name` predicts with."""
    return f"resources/models/{run.model}" if variant == PUBLISHED else f"results/{name}/{variant}/model"


def earlier(run: Run, variant: str) -> Part | None:
    """The training whose model a variant is fine-tuned from; None where that is a pretrained model."""
    if not isinstance(run.model, EarlierRun):
        return None
    return run.model.run, variant if run.model.seed is None else f"seed-{run.model.seed}"


def all_earlier(config: Configuration, name: str, variant: str) -> list[Part]:
    """The trainings that led to the model which a variant is fine-tuned from, the first one first."""
    part = earlier(config.runs[name], variant)
    return [*all_earlier(config, *part), part] if part else []


def pretrained(config: Configuration, name: str) -> str:
    """Name of the pretrained model behind a run."""
    model = config.runs[name].model
    return pretrained(config, model.run) if isinstance(model, EarlierRun) else model


def first_model(run: Run, variant: str) -> str:
    """Folder of the model that the training of a variant starts from."""
    part = earlier(run, variant)
    return "results/{}/{}/model".format(*part) if part else f"resources/models/{run.model}"


def trainings(config: Configuration) -> list[Part]:
    """Every (run, variant) that is trained."""
    return [(name, variant) for name, run in config.runs.items() if run.is_trained for variant in variants(run)]


def scored(config: Configuration) -> Iterator[tuple[str, str, str, str]]:
    """Every (run, variant, `dataset/split`, decoding) that the configuration asks for."""
    for name, run in config.all_runs.items():
        for variant in variants(run):
            for split in run.evaluate_on:
                for decoding in run.decodings:
                    yield name, variant, split, decoding


def calibrated(config: Configuration, scored: Iterable[tuple[str, str, str, str]]) -> list[tuple[str, str, str]]:
    """Each (run, variant, decoding) with a calibrated threshold among (run, variant, split, decoding)."""
    found = ((run, variant, decoding) for run, variant, _, decoding in scored)
    return [key for key in dict.fromkeys(found) if config.decodings[key[2]].is_calibrated]


def parts(config: Configuration, name: str, variant: str) -> list[Part]:
    """The models whose spans answer for a variant: the variant itself, the models of an ensemble, or none.

    Raises InputError for a run that the configuration does not have, and for a variant of the other kind of run.
    """
    run = config.all_runs.get(name)
    if run is None:
        raise InputError(f"no run `{name}` in the configuration; there are {', '.join(config.all_runs)}")
    known = variants(run)
    if variant not in known and (not isinstance(run, Run) or variant in (ENSEMBLE, EXTERNAL)):
        raise InputError(f"run `{name}` has no variant `{variant}`; it has {', '.join(known)}")
    if not isinstance(run, Ensemble):
        return [] if isinstance(run, External) else [(name, variant)]
    return list(dict.fromkeys(part for member in run.ensemble for part in parts_named(config, member)))


def parts_named(config: Configuration, name: str) -> list[Part]:
    """The models that `run`, `run/variant` or an ensemble's name stands for. Raises InputError if there is none."""
    run, slash, variant = name.partition("/")
    if run in config.ensembles and not slash:
        return parts(config, run, ENSEMBLE)
    if run not in config.runs:
        raise InputError(f"no run `{run}` among {', '.join(config.runs)}")
    known = variants(config.runs[run])
    if slash and variant not in known:
        raise InputError(f"run `{run}` has no variant `{variant}`; it has {', '.join(known)}")
    return [(run, variant)] if slash else [(run, variant) for variant in known]


def spans(config: Configuration, name: str, variant: str, split: str) -> list[str]:
    """Files of the spans that answer a split for a variant, one for each of its models."""
    return [f"results/{run}/{part}/{split}/spans.parquet" for run, part in parts(config, name, variant)]


def held_out_share(run: AnyRun) -> float:
    """Share of each training split that is held out: 0 if other questions calibrate, or if nothing is trained."""
    return 0.0 if not isinstance(run, Run) or run.calibrate_on or not run.is_trained else run.hold_out


def training_splits(run: Run) -> list[str]:
    """What a run trains on: its splits, or the rest of each split if questions are held out."""
    share = held_out_share(run)
    return [f"{split}@kept-{share:g}" if share else split for split in run.train_on or []]


def calibration_splits(run: Run) -> list[str]:
    """What a run is calibrated on: the splits of `calibrate_on`, sorted, or the questions held out of its training."""
    if run.calibrate_on:
        return sorted(run.calibrate_on)
    share = held_out_share(run)
    return [f"{split}@held-out-{share:g}" for split in run.train_on or []] if share else []


def f1_by(config: Configuration, splits: Sequence[str]) -> list[str]:
    """What the F1 of each split counts, by its dataset."""
    return [config.datasets[split.split("/")[0]].f1_by for split in splits]


def calibration_of(config: Configuration, name: str) -> list[str]:
    """The splits that calibrate a run or an ensemble; [] if there are none.

    Those of `calibrate_on` are sorted: in another order, a calibration would differ a little, and not be made anew.
    Raises InputError for an ensemble whose models held out different questions.
    """
    if name in config.runs:
        return calibration_splits(config.runs[name])
    if config.ensembles[name].calibrate_on:
        return sorted(config.ensembles[name].calibrate_on)
    runs = list(dict.fromkeys(run for run, _ in parts(config, name, ENSEMBLE)))
    found = [calibration_splits(config.runs[run]) for run in runs]
    for run, splits in zip(runs, found, strict=True):
        if sorted(splits) != sorted(found[0]):
            raise InputError(
                f"its runs `{runs[0]}` and `{run}` hold out different questions ({', '.join(found[0]) or 'none'}; "
                f"{', '.join(splits) or 'none'}); name `calibrate_on`, or give their decodings a number"
            )
    return found[0]


def sources(config: Configuration, name: str) -> dict[str, list[str]]:
    """The runs that a run learns from, by the key that names them: its `teacher`, and the run of its `model`."""
    run = config.runs[name]
    taught = [part for part, _ in parts_named(config, run.teacher)] if run.teacher else []
    return {
        "teacher": list(dict.fromkeys(taught)),
        "model": [run.model.run] if isinstance(run.model, EarlierRun) else [],
    }


def with_sources(config: Configuration, names: Iterable[str]) -> list[str]:
    """Runs, the runs that these learn from, and so on to the first ones."""
    found = list(dict.fromkeys(names))
    for name in found:
        found += [run for runs in sources(config, name).values() for run in runs if run not in found]
    return found


def datasets(config: Configuration) -> list[str]:
    """The datasets whose questions train, validate, calibrate or evaluate a run, in the order of the configuration."""
    keys = ("train_on", "validate_on", "calibrate_on", "evaluate_on")
    named = (listed(getattr(run, key, None) or []) for run in config.all_runs.values() for key in keys)
    used = {split.split("/")[0] for splits in named for split in splits}
    return [name for name in config.datasets if name in used]


def limits(config: Configuration, name: str, evaluated: Iterable[str]) -> dict[str, int]:
    """The `limit` of each dataset that has one: of a run and all that it learns from, and of the splits `evaluated`."""
    runs = with_sources(config, [run for run, _ in parts(config, name, variants(config.all_runs[name])[0])])
    splits = [*evaluated, *(config.all_runs[name].calibrate_on or [])]
    splits += [
        split for run in runs for key in ("train_on", "calibrate_on") for split in getattr(config.runs[run], key) or []
    ]
    found = {
        dataset: config.datasets[dataset].limit for dataset in dict.fromkeys(split.split("/")[0] for split in splits)
    }
    return {dataset: limit for dataset, limit in found.items() if limit is not None}
