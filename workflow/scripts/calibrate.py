"""Adapter of the rule `calibrate`."""

from qa.jobs.stage import stage

job = {"wildcards": {**snakemake.wildcards}, "threads": snakemake.threads, **snakemake.resources}
with stage("calibrate", snakemake.log[0], job, given=snakemake.input, made=snakemake.output):
    from qa.decoding import calibrate

    given = {name: [str(path) for path in snakemake.input[name]] for name in ("records", "spans", "windows")}
    models = len(given["spans"]) // len(given["records"])  # of the variant: one, or an ensemble's
    spans, windows = (
        [given[name][first : first + models] for first in range(0, len(given[name]), models)]
        for name in ("spans", "windows")
    )
    calibrate.calibrate(spans, windows, given["records"], snakemake.params.decoding, snakemake.output[0])
