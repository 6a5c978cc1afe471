"""Entry for a clone: `snakemake` in this folder. The workflow is in workflow/Snakefile."""

# Not `include:`, which forgets the default target.
workflow.include("workflow/Snakefile", overwrite_default_target=True)
