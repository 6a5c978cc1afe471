"""Builds the report: one page with its sections in order, and a folder with its figures."""

from pathlib import Path

from qa.common.files import written_aside
from qa.config.schema import Configuration
from qa.report import comparison, learning_curve, no_answer, overview, page, questions, slices, stages, training
from qa.report.figures import Figures
from qa.report.results import Results

SECTIONS = (overview, comparison, learning_curve, training, no_answer, slices, questions, stages)


def build(config: Configuration, target: str | Path, figures_folder: str | Path) -> None:
    """Write the page and the folder of figures (SVG, PNG and CSV of each) for a configuration.

    Reads the results that are in the working directory. Sections that have nothing to show are left out.
    """
    results = Results(config)
    with written_aside(figures_folder, directory=True) as folder:
        figures = Figures(folder)
        sections = filter(None, [module.section(results, figures) for module in SECTIONS])
        page.write(target, "Extractive question answering", overview.subtitle(results), list(sections))
