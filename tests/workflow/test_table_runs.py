"""What a paper takes from a finished project: `qa table`, and the notebook of docs/."""

import json
import os
import re
from contextlib import chdir
from pathlib import Path

import nbformat
import pandas as pd

from qa.paper import table as paper

NOTEBOOK = Path(__file__).parents[2] / "docs" / "results.ipynb"


def test_the_methods_of_a_project_with_ensembles_and_distillation_are_its_own(improved, tmp_path, capsys):
    for name in ("metrics.json", "question_scores.parquet"):  # made anew with the same bytes
        os.utime(improved.path("results/seeded/seed-1/mills/validation/calibrated") / name)
    improved.snakemake("results/summary.csv", "results/comparison.csv")  # other tests may have made scores anew
    with chdir(improved.folder):
        assert paper.main(["tiny.yaml", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "methods.md").read_text()
    for sentence in (
        "Long contexts were cut into windows of at most 96 tokens with the question, which overlap by 16 tokens",
        "The evaluation asks 10 questions of `mills/validation` (local files)",
        "averaged over `seeded/seed-1`, `seeded/seed-2` and `bytes/seed-1`",
        "Fine-tuning went on from the model of run `seeded` with the same seed.",
        "fine-tuned on `mills/train` (local files) and `mills/extra` (local files) (",
        "Soft targets of `team` at temperature 2 had a weight of 0.5 in the loss",
        "Run `seeded`: The pretrained model was a local model called `one`.",
    ):
        assert sentence in text, text
    manifest = json.loads(improved.path("results/seeded/seed-1/manifest.json").read_text())
    assert f"PyTorch {manifest['versions']['torch']} [" in text
    summary = pd.read_csv(improved.path("results/summary.csv")).set_index(["run", "split", "decoding"])
    row = summary.loc["seeded", "validation", "calibrated"]
    assert f"{row['f1_mean']:.2f} ± {row['f1_std']:.2f}" in capsys.readouterr().out
    assert set(re.findall(r"@([\w-]+)", text)) == set(
        re.findall(r"^@\w+{([\w-]+),", (tmp_path / "references.bib").read_text(), re.M)
    )


def test_the_notebook_runs_and_holds_no_output(improved, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    first, *others = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in (first, *others))
    names: dict = {}
    exec(first.source, names)
    names |= {"RESULTS": improved.path("results"), "RUN": "seeded", "VARIANT": "seed-1"}
    names |= {"SPLIT": "mills/validation", "DECODING": "calibrated"}
    for cell in others:
        exec(cell.source, names)
    assert names["figure"].axes[0].lines and 0 <= names["answer"].probability <= 1
