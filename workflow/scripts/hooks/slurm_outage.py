"""What the SLURM executor gets wrong during an outage of the controller, put right for this run."""


def before_jobs(workflow):
    """Let the executor go on asking squeue while slurmctld does not answer.

    It asks for MinJobAge before each look at the jobs, and turns to sacct when there is no answer. Without accounting
    sacct never answers, and all jobs are lost. The setting does not change meanwhile, so it is asked for once.
    """
    if not workflow.is_main_process or workflow.executor_plugin.name != "slurm":
        return
    try:
        import snakemake_executor_plugin_slurm as plugin

        known = plugin.get_min_job_age()
    except (ImportError, AttributeError):  # another version of the executor, with inner functions of its own
        return
    if known is not None:
        plugin.get_min_job_age = lambda: known
