"""A thousand changes of the shipped configurations: refused by key path before any job, or the jobs can be listed."""

import copy
import datetime
import itertools
import os
import random

import pytest
import yaml
from snakemake.common.configfile import load_configfile
from snakemake_interface_common.exceptions import WorkflowError

from chain import ROOT, copy_of
from qa.common.errors import InputError
from qa.config import comparisons, lineage, settings, stages
from qa.plan import card_facts, expected_jobs, rule_inputs

SEED = random.randrange(10**6) if os.environ.get("QA_FUZZ") == "many" else 7
CHANGES = 1000
SHIPPED = {
    name: yaml.safe_load((ROOT / "config" / name).read_text()) for name in ("config.yaml", "demo.yaml", "trial.yaml")
}
SHIPPED["trial.yaml"]["runs"]["student"]["model"] = {"run": "minilm"}  # a run that goes on from another one
NAMES = ["../x", "/etc/passwd", "..", ".", "", "a/b", "a\nb", "a\n", "a b", "na\u00efve", "\u202ex", "a\x00", "x" * 81]
NAMES += ["$(touch x)", "`touch x`", "a;b", "a'b", 'a"b', "a{b}", "{run}", "~nobody/x", "C:\\x", "%s", "a@b", "-rf"]
NAMES += [
    "records",
    "model",
    "summary.csv",
    "report.html",
    "package",
    "spans.parquet",
    "figures",
    "manifest.json",
    "x.y",
]
NUMBERS = [0, -1, 1, 2, 1.5, 0.5, 1e-320, 1e308, -0.0, 2**31, 2**32, 2**63, 10**40, -(10**40), float("nan")]
NUMBERS += [float("inf")]
YAMLS = [True, False, None, "no", "yes", "on", "1e-5", "1_000", "0x10", "0o7", "12:30:00", "~", "null", ".5", "5."]
OWN = ("data/train.json.gz", "data/validation.json.gz")
OTHERS = [[], {}, [[]], [None], {"a": 1}, {5: 1}, {None: 1}, ["a", "a"], [1, 1], (1, 2), {1, 2}, b"bytes", object()]
OTHERS += [datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1), 1 + 2j]


def places(value, path=()):
    """Every place below a configuration, as a path of keys."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(value[key], (*path, key))


def holder_of(config, path):
    for key in path[:-1]:
        config = config[key]
    return config, path[-1]


def nested(levels):
    value = 1
    for _ in range(levels):
        value = {"a": value} if levels % 2 else [value]
    return value


def endless():
    value = {}
    value["a"] = value
    return value


def doubled():
    value = ["x"]
    for _ in range(60):
        value = [value, value]
    return value


def changed(draw, config):
    """One change of a configuration, in place; returns where."""
    path = draw.choice(list(places(config)))
    holder, key = holder_of(config, path)
    kind = draw.choice(["value", "value", "value", "remove", "rename", "extra", "swap", "wrap", "number", "deep"])
    if kind == "value":
        holder[key] = draw.choice(NAMES + NUMBERS + YAMLS + OTHERS)
    elif kind == "number":
        holder[key] = draw.choice(NUMBERS)
    elif kind == "remove":
        del holder[key]
    elif kind == "rename" and isinstance(holder, dict):
        new = draw.choice([*NAMES, f"{key}s", str(key).upper(), key * 2, 5, None, True, 1.5])
        holder[new] = holder.pop(key)
    elif kind == "extra" and isinstance(holder, dict):
        holder[draw.choice(NAMES)] = draw.choice([copy.deepcopy(holder[key]), *NUMBERS, *OTHERS])
    elif kind == "swap":
        other, its = holder_of(config, draw.choice([place for place in places(config) if place[: len(path)] != path]))
        holder[key] = copy.deepcopy(other[its])
    elif kind == "wrap":
        holder[key] = draw.choice([[holder[key]], {"a": holder[key]}, [holder[key], holder[key]], str(holder[key])])
    else:
        holder[key] = draw.choice([nested(30), nested(31), nested(5000), endless(), doubled()])
    return path


def listed(config):
    """What Snakefile and rules make of a configuration before the first job: every job's needs."""
    resolved = settings.resolve(config)
    for kind in ("models", "datasets"):
        for name, source in getattr(resolved, kind).items():
            settings.local_files(source, f"{kind}.{name}")
    for name, run in resolved.runs.items():
        for variant in lineage.variants(run):
            if run.train_on:
                rule_inputs.training(resolved, name, variant)
                stages.training(run, resolved)
                card_facts.shared(resolved, name, variant)
                card_facts.needs_of_package(resolved, name, variant)
            stages.prediction(run, resolved.models)
    scored = list(lineage.scored(resolved))
    for run, variant, split, decoding in scored:
        if "calibration" in rule_inputs.answering(resolved, run, variant, split, decoding):
            rule_inputs.calibration(resolved, run, variant, decoding)
    comparisons.compared(resolved, scored)
    rule_inputs.reported(resolved)
    return expected_jobs.jobs(resolved)


def with_own_files(folder):
    """The files that the shipped configurations name, empty."""
    data = [f"resources/{name}/{split}.json" for name in ("demo", "harbour") for split in ("train", "validation")]
    for file in [*data, *OWN]:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()


def test_a_thousand_changes_are_refused_by_key_path_or_their_jobs_can_be_listed(tmp_path, monkeypatch):
    with_own_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    draw = random.Random(SEED)
    refused = named = 0
    for number in range(CHANGES):
        name = draw.choice(sorted(SHIPPED))
        config = copy.deepcopy(SHIPPED[name])
        path = changed(draw, config)
        case = f"seed {SEED}, change {number} of {name} at {path}"
        try:
            jobs = listed(config)
        except InputError as error:
            refused += 1
            message = str(error)
            keys = [str(key) for key in path if not isinstance(key, int)]
            named += keys[0] in message and any(key in message for key in (keys[:2][-1], keys[-1]))
            assert message.startswith("config: ") and all(line.isprintable() for line in message.split("\n")), case
            known = (*SHIPPED[name], *map(str, config), "top level", "compare_to")
            assert message.removeprefix("config: ").startswith(known), f"{case}: {message}"
            assert len(message) < 3000, case
        except Exception as error:
            raise AssertionError(case) from error
        else:
            every = [value for job in jobs for value in job.values()]
            assert all(value not in (".", "..") and not value.startswith(("/", "-")) for value in every), case
            assert all(value.count("/") == 0 and value.isascii() and value.isprintable() for value in every), case
    assert CHANGES / 2 < refused < CHANGES, "some of them are harmless"
    assert named > 0.94 * refused, "others are told where they make a fault: by a new name, or where one is missed"


@pytest.mark.skipif(os.environ.get("QA_FUZZ") != "many", reason="half a minute of dry runs: make test-fuzz")
@pytest.mark.parametrize("number", range(10))
def test_snakemake_itself_refuses_what_is_refused_and_plans_what_is_not(number, tmp_path, monkeypatch):
    project = copy_of(tmp_path)
    with_own_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    draw = random.Random(number)
    while True:
        config = copy.deepcopy(SHIPPED[draw.choice(sorted(SHIPPED))])
        changed(draw, config)
        try:
            jobs = listed(yaml.safe_load(yaml.safe_dump(config)))
        except (InputError, yaml.YAMLError, RecursionError):
            jobs = None
        if (jobs is None) == (number % 2 == 0) and not isinstance(config, str):
            try:
                project.configure(config, "changed.yaml")
            except (yaml.YAMLError, RecursionError):
                continue
            break
    done = project.snakemake("-n", "--quiet", "rules", config="changed.yaml")
    planned = "Job stats" in done.stdout or "Nothing to be done" in done.stdout
    assert (done.returncode == 0) == planned == (jobs is not None), done.stdout
    assert jobs is not None or "config: " in done.stdout
    assert "Traceback" not in done.stdout


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{letter}: &{letter} [*{before}, *{before}]\n" for before, letter in itertools.pairwise("abcdefghijklmnopqrstu")
)
WRITTEN = {
    "a run twice": ("runs: {a: 1, b: 2, a: 3}", "line 1: the key `a` is there twice, first in line 1"),
    "a key twice": (
        "runs:\n  a: {model: m}\nmodels: {}\nruns: {}\n",
        "line 4: the key `runs` is there twice, first in",
    ),
    "a key twice in JSON": (
        '{"runs": {"a": {}, "a": {}}}',
        "line 1: the key `a` is there twice",
    ),
    "a key twice within a list": ("a: [{b: 1, b: 2}]", "`b` is there twice"),
    "an object of Python": ("runs: !!python/object/apply:os.system ['touch ran']", "valid JSON or YAML"),
    "a name of Python": ("runs: !!python/name:os.system", "tag:yaml.org,2002:python/name:os.system is not allowed"),
    "a module of Python": ("runs: !!python/module:os", "valid JSON or YAML"),
    "a tuple of Python": ("runs: !!python/tuple [1]", "python/tuple is not allowed"),
    "a tag of one's own": ("runs: !env HOME", "valid JSON or YAML"),
    "expressions": ("__use_yte__: true\nruns: ?open('ran', 'w').name", "`__use_yte__` would run expressions"),
    "a key twice in a merge": ("a: {<<: {b: 1, b: 2}}", "`b` is there twice"),
    "an alias of itself": ("runs: &a {b: *a}", "nested more than 20 levels"),
    "a tab": ("runs:\n\ta: 1", "valid JSON or YAML"),
    "two documents": ("a: 1\n---\nb: 2", "valid JSON or YAML"),
    "a list": ("[1, 2]", "keys at top level"),
    "nothing": ("", "keys at top level"),
    "laughs": (LAUGHS, "more than 1,000,000 values"),
}


@pytest.mark.parametrize("case", WRITTEN)
def test_files_that_are_more_than_plain_values_are_refused(case, tmp_path, monkeypatch):
    text, message = WRITTEN[case]
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "my.yaml"
    file.write_text(text)
    with pytest.raises((InputError, WorkflowError), match=message):
        settings.resolve(load_configfile(file), [file])
    assert case == "expressions" or not (tmp_path / "ran").exists(), "those Snakemake runs before it asks us"


ODD = {
    "numbers as text": ("training: {learning_rate: 2e-5, epochs: '3e0'}", ("training", "learning_rate"), 2e-5),
    "no": ("checkpoints: {keep_after_success: no}", ("checkpoints", "keep_after_success"), False),
    "on": ("checkpoints: {keep_after_success: on}", ("checkpoints", "keep_after_success"), True),
    "null": ("windows: {max_question_length: ~}", ("windows", "max_question_length"), None),
    "underscores": ("checkpoints: {every_steps: 1_000}", ("checkpoints", "every_steps"), 1000),
    "an alias": ("training: &t {epochs: 5}\n    checkpoints: {keep: 1}", ("training", "epochs"), 5),
    "a merge of a merge": (
        "training: {<<: [&t {<<: {epochs: 5}, epochs: 4}, *t], batch_size: 8}",
        ("training", "epochs"),
        4,
    ),
    "a merge": ("training: {<<: {epochs: 5, batch_size: 4}, batch_size: 8}", ("training", "batch_size"), 8),
}


@pytest.mark.parametrize("case", ODD)
def test_yaml_as_people_write_it_means_what_they_meant(case, tmp_path):
    text, path, value = ODD[case]
    run = "{model: minilm, train_on: demo/train, evaluate_on: [demo/validation], decodings: [n_best], hold_out: 0.1}"
    written = yaml.safe_dump({key: SHIPPED["demo.yaml"][key] for key in ("models", "datasets", "decodings")})
    file = tmp_path / "my.yaml"
    file.write_text(f"{written}runs:\n  a:\n    {text}\n    <<: {run}\n")
    found = settings.resolve(load_configfile(file), [file]).runs["a"]
    for key in path:
        found = getattr(found, key)
    assert found == value
