"""Extractive question answering: the library behind the workflow's stages.

Plain functions over plain data. Nothing here knows of Snakemake; the adapters in `workflow/scripts/` unpack its
objects and call these modules. Imports run one way, from the stages' modules down to `files` and `errors`.
"""
