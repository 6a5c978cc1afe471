"""Extractive question answering: the library behind the workflow's stages, and the command `qa`.

Plain functions over plain data. Nothing here knows of Snakemake: the adapters in `workflow/scripts/` unpack its objects
and call these modules. Imports run in one direction, which `make lint` checks (pyproject.toml has the layers).
"""

__version__ = "0.1.0"  # of CITATION.cff and of the rules too (LIBRARY_VERSION in workflow/rules/common.smk)
