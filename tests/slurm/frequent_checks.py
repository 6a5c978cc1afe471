"""`python -m snakemake`, but jobs' states are asked for every 2 s, not at intervals that grow to 3 minutes."""

import asyncio

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

INTERVAL = 2.0


async def sleep(executor: RemoteExecutor) -> None:
    await asyncio.sleep(INTERVAL)


if __name__ == "__main__":
    RemoteExecutor.sleep = sleep
    main()
