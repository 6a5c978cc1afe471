"""The report as the workflow makes it: one page of a finished chain, and its figures."""

import re

SECTIONS = ["overview", "comparison", "training", "no-answer", "slices", "questions", "stages"]
FIGURES = {".svg", ".png", ".csv"}


def contents(project):
    """The sections of a project's report, and the kinds of its files of figures."""
    page = project.path("results/report.html").read_text()
    kinds = {file.suffix for file in project.path("results/figures").glob("[!.]*")}
    return re.findall(r'<section id="([\w-]+)"', page), kinds


def test_a_finished_chain_has_its_report_with_all_sections(finished):
    assert contents(finished) == (SECTIONS, FIGURES)


def test_a_chain_with_ensembles_and_distillation_has_them_too(improved):
    assert contents(improved) == (SECTIONS, FIGURES)


def test_a_page_that_was_removed_is_made_again(twin):
    project = twin
    kept = project.path("results/report.html").read_bytes()
    project.path("results/report.html").unlink()
    done = project.snakemake("report")
    assert done.returncode == 0, done.stdout
    assert project.path("results/report.html").read_bytes() == kept


def test_a_page_asked_for_alone_names_what_is_missing_and_how_it_is_made(twin):
    project = twin
    project.path("results/report.html").unlink()
    missing = next(project.path("results").glob("*/*/*/*/*/errors.parquet"))
    missing.unlink()
    done = project.snakemake("report")
    assert done.returncode == 1
    assert f"{missing.relative_to(project.folder)}: missing; run again without a target" in done.stdout
    assert project.snakemake().returncode == 0 and missing.exists()
