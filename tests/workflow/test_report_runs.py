"""The report as the workflow makes it: one page of a finished chain, its figures, and the picture of the workflow."""

import re

import pytest

from qa.report.stages import ARROWS, PLACES

pytestmark = pytest.mark.xdist_group("workflow")
SECTIONS = ["overview", "compared", "training", "silence", "slices", "questions", "stages"]
TARGETS = {"all", "models", "predictions", "scores"}


@pytest.mark.parametrize("project", ["finished", "improved"])
def test_a_finished_chain_has_its_report_with_all_sections(project, request):
    project = request.getfixturevalue(project)
    page = project.path("results/report.html").read_text()
    assert re.findall(r'<section id="(\w+)"', page) == SECTIONS
    names = {file.suffix for file in project.path("results/figures").glob("[!.]*")}
    assert names == {".svg", ".png", ".csv"}


def test_a_page_that_was_removed_is_made_again(twin):
    project = twin
    kept = project.path("results/report.html").read_bytes()
    project.path("results/report.html").unlink()
    done = project.snakemake("report")
    assert done.returncode == 0, done.stdout
    assert project.path("results/report.html").read_bytes() == kept


def test_the_picture_of_the_workflow_is_that_of_snakemake(improved):
    done = improved.snakemake("all", "--rulegraph", "dot", "--quiet", "all")
    dot = done.stdout[done.stdout.index("digraph") :]
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', dot))
    edges = {(names[maker], names[user]) for maker, user in re.findall(r"(\d+) -> (\d+)", dot)}
    edges = {(maker, user) for maker, user in edges if user not in TARGETS}
    assert set(ARROWS) <= edges
    assert set(PLACES) == {rule for edge in edges for rule in edge}
    reached = set(ARROWS)
    while more := {(a, d) for a, b in reached for c, d in ARROWS if b == c} - reached:
        reached |= more
    assert edges <= reached
