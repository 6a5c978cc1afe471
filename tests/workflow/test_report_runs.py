"""The report as the workflow makes it: one page of a finished chain, and its figures."""

import re

SECTIONS = ["overview", "comparison", "training", "no-answer", "slices", "questions", "stages"]


def has_all_sections(project):
    page = project.path("results/report.html").read_text()
    assert re.findall(r'<section id="([\w-]+)"', page) == SECTIONS
    names = {file.suffix for file in project.path("results/figures").glob("[!.]*")}
    assert names == {".svg", ".png", ".csv"}


def test_a_finished_chain_has_its_report_with_all_sections(finished):
    has_all_sections(finished)


def test_a_chain_with_ensembles_and_distillation_has_them_too(improved):
    has_all_sections(improved)


def test_a_page_that_was_removed_is_made_again(twin):
    project = twin
    kept = project.path("results/report.html").read_bytes()
    project.path("results/report.html").unlink()
    done = project.snakemake("report")
    assert done.returncode == 0, done.stdout
    assert project.path("results/report.html").read_bytes() == kept
