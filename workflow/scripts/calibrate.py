"""Adapter of the rule `calibrate`."""

from qa.jobs.stage import stage

with stage("calibrate", snakemake) as (inputs, outputs, params):
    from qa.decoding import calibrate

    given = {name: [str(path) for path in inputs[name]] for name in ("records", "spans", "windows")}
    models = len(given["spans"]) // len(given["records"])  # of the variant: one, or an ensemble's
    spans, windows = (
        [given[name][first : first + models] for first in range(0, len(given[name]), models)]
        for name in ("spans", "windows")
    )
    calibrate.calibrate(spans, windows, given["records"], params.decoding, outputs[0])
