"""The report: one page with all that the runs of a configuration have shown."""
