"""`qa table`: numbers, marks and sentences against the files they are from; what is written is LaTeX and BibTeX."""

import copy
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

from qa.common import checksums
from qa.common.errors import InputError
from qa.common.files import sha256_of_file, write_json
from qa.config import settings
from qa.config.sections import Dataset
from qa.hub.download import fetch_dataset
from qa.paper import methods
from qa.paper import table as paper
from qa.paper.references import References, label, latex
from qa.report import build, comparison, overview, training
from qa.report.results import Results
from report_fixture import make_results, plain_config

pytestmark = pytest.mark.slow

SPLIT = "made/validation"
DECODINGS = ["n_best", "threshold_0"]
DOCUMENT = r"\documentclass{article}\usepackage{booktabs}\usepackage{url}\begin{document}\input{methods}\input{results}"
DOCUMENT += r"\bibliographystyle{plain}\bibliography{references}\end{document}"


def cited(text):
    return set(re.findall(r"@([\w-]+)", text))


def entries(bibtex):
    return set(re.findall(r"^@\w+\{([\w-]+),$", bibtex, re.M))


def test_a_table_has_the_numbers_of_the_summary_and_of_the_intervals(results):
    table = paper.table(results, SPLIT, DECODINGS)
    rows = {tuple(row[:2]): row[2:] for row in table.rows[1:]}
    summary = pd.read_csv("results/summary.csv").set_index(["run", "decoding"])
    row, seeds = summary.loc["base", "n_best"], [a.metrics() for a in results.answers[:4] if a.decoding == "n_best"]
    low, high = (sum(metrics["intervals"]["f1"][end] for metrics in seeds) / 2 for end in (0, 1))
    f1 = f"{row['f1_mean']:.2f} ± {row['f1_std']:.2f}"
    assert rows["base", "n_best"][0] == "2" and rows["base", "n_best"][3:] == [f1, f"[{low:.2f}, {high:.2f}]"]
    assert "±" not in "".join(rows["large", "n_best"]) and len(rows) == 4
    assert [row[1] for row in paper.table(results, SPLIT, ["n_best"]).rows] == ["Decoding", "n_best", "n_best"]


@pytest.mark.parametrize(("p", "over_seeds", "mark"), [
    (0.01, None, "†"), (0.01, 0.2, "†"), (0.2, 0.01, ""), (0.01, 0.01, "‡"), (0.05, 0.05, ""), (0.2, None, ""),
])  # fmt: skip
def test_a_mark_says_which_corrected_p_value_is_small(p, over_seeds, mark, results, monkeypatch):
    compared = results.comparison()
    side = (compared["run"] == "large") & (compared["decoding"] == "n_best")
    compared.loc[side, ["f1_p_holm", "f1_seeds_p_holm"]] = p, over_seeds
    monkeypatch.setattr(Results, "comparison", lambda self: compared)
    (row,) = [row for row in paper.table(results, SPLIT, DECODINGS).rows if row[:2] == ["large", "n_best"]]
    assert re.search("[†‡]?$", row[5])[0] == mark


def test_with_several_references_a_mark_names_its_own(results, monkeypatch):
    compared = results.comparison().iloc[[0, 0]].reset_index(drop=True)
    compared.loc[1, "reference_decoding"] = "other"
    compared.loc[:, ["f1_p_holm", "f1_seeds_p_holm"]] = 0.001, float("nan")
    monkeypatch.setattr(Results, "comparison", lambda self: compared)
    table = paper.table(results, SPLIT, DECODINGS)
    assert sorted(row[5][-4:] for row in table.rows)[-1] == "†¹†²"
    assert "† differs from ¹`base/n_best` and ²`base/other`" in table.notes[1]


def test_the_methods_say_what_the_records_say_and_cite_only_what_there_is(results):
    references = References()
    common, *own = methods.describe(results, references)
    assert "`someone/tiny` (revision `000000000000`) [@model-tiny]" in common
    assert "400 steps (2 epochs)" in common and "(1,600 windows)" in common and "on 1 × Some GPU" in common
    assert "PyTorch 1.2.3" in common and "Datasets" not in common  # which these manifests do not name
    first = [text.partition(".")[0] for text in own]
    assert first == ["Run `base`: The seeds were 1 and 2", "Run `large`: The seed was 1"]
    bibtex = references.bibtex(" ".join([common, *own]))
    assert entries(bibtex) == cited(common) and "note = {Revision " + "0" * 40 in bibtex


def test_the_methods_say_how_many_questions_were_left_out_as_misaligned(results, monkeypatch):
    assert "misaligned" not in methods.describe(results, References())[0]
    monkeypatch.setattr(methods, "misaligned", lambda records: {"dropped_questions": 2, "dropped_answers": 3})
    told = "questions of `made/validation` (local files) without misaligned gold answers (questions left out: 2, gold"
    assert told in methods.describe(results, References())[0]


def test_the_methods_name_every_device_that_a_training_took_its_steps_on(results, monkeypatch):
    manifest = results.manifest(results.models[0])
    names = ["1 × Old GPU", "1 × Idle GPU", "1 × New GPU", None]  # the last one only took the finished checkpoint
    steps = [(0, 190), (190, 190), (190, 400), (400, 400)]
    manifest["attempts"] = [
        {**manifest["attempts"][0], "resumed_at_step": first, "step": last} | ({"device": name} if name else {})
        for name, (first, last) in zip(names, steps, strict=True)
    ]
    manifest["attempts"][2]["computed"] = "padded rows"
    monkeypatch.setattr(Results, "manifest", lambda self, model: manifest)
    common = methods.describe(results, References())[0]
    assert "attention dropout 0; padded rows)" in common and "on 1 × Old GPU and 1 × New GPU." in common
    assert training.row(results, results.models[0])["device"] == "1 × Old GPU, then 1 × New GPU"


def test_the_methods_tell_of_the_datasets_that_a_run_uses_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = plain_config(runs := {"base": [1]})
    plain["datasets"]["held"] = {"splits": {"dev": "held.json"}, "limit": 300}
    plain["datasets"]["few"] = {"splits": {"train": "made/train.json"}, "limit": 200, "f1_by": "characters"}
    plain["runs"]["base"]["calibrate_on"] = ["held/dev"]
    common = methods.describe(Results(make_results(tmp_path, 20, runs, plain=plain)), References())[0]
    assert "Of each split of `held`, at most 300 questions were used." in common and "`few`" not in common


def test_settings_that_differ_between_runs_are_said_of_each_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = plain_config(runs := {"one": [1], "two": [1], "three": [1]})
    plain["runs"]["three"] |= {"training": {"keep_epoch": "best", "early_stopping": 1}}
    plain["models"]["tiny"] = {"repo": "FacebookAI/roberta-base", "revision": "0" * 40}
    plain["runs"]["one"] |= {"training": {"warmup": 0.06, "schedule": "constant"}, "hold_out": 0.1}
    plain["runs"]["two"] |= {"training": {"warmup": 20, "max_gradient_norm": 0, "questions": 50, "lora_rank": 8}}
    plain["runs"]["two"]["windows"] = {"long_contexts": "truncate"}
    config = make_results(tmp_path, 20, runs, plain=plain)
    common, one, two, three = methods.describe(Results(config), References())
    assert "and then fell as planned for all 3 epochs (linear schedule)" in three and "fell to 0" not in three
    assert "[@model-tiny; @liu2019roberta]" in common
    assert "rose over the first 6 % of the steps to 2e-05 and then stayed there" in one and "10 % were held out" in one
    assert "rose over 20 steps to 2e-05 and then fell to 0 (linear schedule)" in two and "not clipped" in two
    assert "trained on 50 of these" in two and "adapter of rank 8 with alpha 32 [@hu2021lora]" in two
    assert "the rest was cut off" in two and "windows of at most" not in two


def test_files_of_a_reader_stay_and_latex_takes_what_is_written(results, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(build, "SECTIONS", (overview, comparison))  # few figures
    folder = tmp_path / "paper"
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "mine.pdf").touch()
    plain = plain_config({"base": [1, 2], "large": [1]})
    Path("my.yaml").write_text(yaml.safe_dump(plain))
    monkeypatch.setattr(paper.summarize, "warnings", lambda summary: ["base: a quick try"])
    assert paper.main(["my.yaml", "--out", str(folder)]) == 0
    assert re.match(r"\| Run.*\n\nWarning: base: a quick try\n", capsys.readouterr().out, re.DOTALL)
    assert "\n% Warning: base: a quick try\n" in (folder / "results.tex").read_text()
    assert {"mine.pdf", "scores-1.pdf", "differences-1.pdf"} == {path.name for path in folder.glob("figures/*.pdf")}
    assert entries((folder / "references.bib").read_text()) == cited((folder / "methods.md").read_text())
    if not shutil.which("pdflatex"):
        pytest.skip("no pdflatex")
    (folder / "document.tex").write_text(DOCUMENT)
    for program in ("pdflatex", "bibtex", "pdflatex", "pdflatex"):
        options = ["-interaction=nonstopmode", "-halt-on-error"] if program == "pdflatex" else []
        done = subprocess.run([program, *options, "document"], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    assert "undefined" not in done.stdout


def test_no_letter_of_a_name_is_latex():
    assert latex(r"a_b & 5% #$ {x} ~^\ <> `n_1` [@a; @b].") == (
        r"a\_b \& 5\% \#\$ \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} $<$$>$ \texttt{n\_1}~\cite{a,b}."
    )


def test_names_that_differ_in_punctuation_only_have_entries_and_labels_of_their_own():
    references, names = References(), ["squad-v2", "squad_v2", "squad.v2"]
    part = Dataset(repo="a/b", revision="0" * 40, splits={"dev": "dev.json"})
    text = " and ".join(references.source(name, part) for name in names)
    keys = {f"dataset-{name}" for name in names}
    assert set(re.findall(r"^@misc\{(.+),$", references.bibtex(text), re.M)) == keys
    assert set(re.findall(r"~\\cite\{(.+?)\}", latex(text))) == keys
    assert len({label(f"{name}/dev") for name in names}) == 3


def test_results_of_other_settings_are_refused(results):
    manifest = Path("results/base/seed-1/manifest.json")
    kept = manifest.read_text()
    paper.check(results)
    changed = json.loads(kept)
    for part, key, value in (
        (changed["run_settings"]["windows"], "overlap", 8),
        (changed["settings"], "batch_size", 4),
    ):
        part[key] = value
        manifest.write_text(json.dumps(changed))
        with pytest.raises(InputError, match=f"seed-1/manifest.json: trained with {key} {value}, but .* has 1"):
            paper.check(results)
    plain = json.loads(kept)
    for key, value in (("hold_out", 0.25), ("model", "large"), ("model", {"run": "large", "seed": 3})):
        manifest.write_text(json.dumps(plain | {"run_settings": plain["run_settings"] | {key: value}}))
        told = "large/seed-3" if isinstance(value, dict) else value
        with pytest.raises(InputError, match=f"trained with {key} {told}, but the configuration has"):
            paper.check(results)
    manifest.write_text(kept)
    other = plain_config({"base": [1, 2], "large": [1]})
    other["decodings"]["threshold_0"]["null_threshold"] = 5.0
    with pytest.raises(InputError, match=r"threshold_0: answered with null_threshold 0\.0, but .* has 5\.0"):
        paper.check(Results(settings.resolve(other)))
    for part, settled, told in (
        ("datasets.made", {"limit": 9}, r"datasets\.made\.limit None, but .* has 9"),
        ("datasets.made", {"misaligned": "drop"}, r"datasets\.made\.misaligned error, but .* has drop"),
        ("datasets.made", {"f1_by": "characters"}, r"datasets\.made\.f1_by words, but .* has characters"),
        ("runs.base", {"prediction": {"candidates": 5}}, r"runs\.base\.prediction\.candidates 20, but .* has 5"),
        ("runs.base", {"validate_on": "made/train"}, r"runs\.base\.training\.validate_on None, but .* has made/train"),
        ("runs.base", {"calibrate_on": ["made/other"]}, r"calibrate_on \[.*\], but .* has \['made/other'\]"),
    ):
        other = plain_config({"base": [1, 2], "large": [1]})
        other["datasets"]["made"]["splits"]["other"] = "made/other.json"
        section, name = part.split(".")
        other[section][name] |= settled
        with pytest.raises(InputError, match=f"with {told}"):
            paper.check(Results(settings.resolve(other)))
    fewer = plain_config({"base": [1, 2]})
    with pytest.raises(InputError, match="summary.csv is not shown, since it is of another configuration. The target"):
        paper.check(Results(settings.resolve(fewer)))
    more = plain_config({"base": [1, 2, 3]})
    with pytest.raises(InputError, match="no such file: results/base/seed-3"):
        paper.check(Results(settings.resolve(more)))


def test_a_table_that_somebody_edited_is_refused(results, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(Path.cwd(), tmp_path / "copy"))
    table = Path("results/comparison.csv")
    checksums.seal([table])
    paper.check(results)
    edited = pd.read_csv(table).assign(f1_p_holm=0.001)  # as a spreadsheet saves it
    edited.to_csv(table, index=False)
    with pytest.raises(InputError, match=r"comparison.csv: comparison.csv has .* rm -r .* and run the workflow; to"):
        paper.check(results)


def test_a_file_that_a_figure_needs_is_missed_by_its_name(results, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(Path.cwd(), tmp_path / "copy"))
    Path("my.yaml").write_text(yaml.safe_dump(plain_config({"base": [1, 2], "large": [1]})))
    Path(f"results/base/seed-1/{SPLIT}/n_best/slices.csv").unlink()
    with pytest.raises(InputError, match=r"no such file: results/.*/slices.csv; run the workflow without a target"):
        paper.main(["my.yaml"])


def test_results_of_other_downloads_than_the_configuration_names_are_refused(results, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(Path.cwd(), tmp_path / "copy"))
    plain = plain_config({"base": [1, 2], "large": [1]})
    splits = plain["datasets"]["made"]["splits"]
    for file in map(Path, splits.values()):
        file.parent.mkdir(exist_ok=True)
        file.write_text("asked")
    fetch_dataset({"splits": splits}, Path("resources/datasets/made"))
    write_json("resources/models/tiny/source.json", {"kind": "model", **plain["models"]["tiny"], "downloaded": "now"})
    paper.check(results)

    def refused(message, part, **changes):
        changed = copy.deepcopy(plain)
        changed[part][next(iter(changed[part]))] |= changes
        with pytest.raises(InputError, match=message):
            paper.check(Results(settings.resolve(changed)))

    refused("tiny/source.json: downloaded with revision 0+, but .* has 1+; run", "models", revision="1" * 40)
    refused("made/source.json: downloaded with splits .*", "datasets", splits=splits | {"train": "made/other.json"})
    Path(splits["train"]).write_text("asked otherwise")
    with pytest.raises(InputError, match="made/train.json: changed since the results were made of it"):
        paper.check(results)


def test_results_of_changed_calibration_questions_and_local_models_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = plain_config(runs := {"base": [1]})
    plain["datasets"]["held"] = {"splits": {"dev": "held.json", "test": "held.json"}}
    plain["runs"]["base"] |= {"calibrate_on": ["held/dev"], "validate_on": "held/test"}
    plain["models"]["tiny"] = {"path": "mine"}
    results = Results(make_results(tmp_path, 20, runs, plain=plain))
    for file in (weights := Path("mine/model.safetensors"), questions := Path("held.json")):
        file.parent.mkdir(exist_ok=True)
        file.write_text("as it was")
    fetch_dataset({"splits": plain["datasets"]["held"]["splits"]}, Path("resources/datasets/held"))
    files = {weights.name: {"sha256": sha256_of_file(weights)}}
    write_json("resources/models/tiny/source.json", {"kind": "model", "path": "mine", "files": files})
    paper.check(results)
    for file in (weights, questions):
        kept = file.read_text()
        file.write_text("as it is")
        with pytest.raises(InputError, match=f"{file}: changed since the results were made of it"):
            paper.check(results)
        file.write_text(kept)


def test_answers_of_another_file_than_the_scored_one_are_refused_however_old_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = Results(make_results(tmp_path, 20, {"base": [1]}, external=("theirs",)))
    (file := Path("theirs.json")).write_text("scored")
    checksums.record_sources(f"results/theirs/external/{SPLIT}/as_given/answers.json", [file])
    paper.check(results)
    file.write_text("others")
    os.utime(file, (0, 0))  # as a copy that keeps its time stamp
    with pytest.raises(InputError, match="theirs.json: changed since run `theirs` was made of it"):
        paper.check(results)
