"""Corrects, for this run, what the SLURM executor does wrong during an outage of the controller."""


def before_jobs(workflow):
    """Make the executor go on with squeue while slurmctld does not answer.

    The executor asks slurmctld for MinJobAge before each look at the jobs, and uses sacct if there is no answer. On a
    cluster without accounting sacct never answers, and all jobs are lost. MinJobAge does not change during a run, so
    one question at the start is enough.
    """
    if not workflow.is_main_process or workflow.executor_plugin.name != "slurm":
        return
    try:
        import snakemake_executor_plugin_slurm as plugin

        known = plugin.get_min_job_age()
    except (ImportError, AttributeError):  # another version of the executor, with other inner functions
        return
    if known is not None:
        plugin.get_min_job_age = lambda: known
