"""A caller inside the house: by messages, not over HTTP, it cancels what has not ended within an hour.

.venv/bin/python examples/cancel_overdue.py --seconds 3600    # beside `make run`, with the same settings
"""

import argparse
import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from callsheet.actors.client import Jobs
from callsheet.config.settings import load_settings
from callsheet.jobs.job import Job
from callsheet.jobs.messages import Cancel
from callsheet.jobs.states import LIVE
from callsheet.up import journal_address


async def overdue(jobs: Jobs, tenant: str, seconds: float) -> AsyncIterator[Job]:
    """The tenant's jobs that were handed in so long ago, and have not ended."""
    limit = datetime.now(UTC) - timedelta(seconds=seconds)
    page, more = await jobs.jobs(tenant)
    while page or more:
        for job in page:
            if job.status in LIVE and datetime.fromisoformat(job.created_at) <= limit:
                yield job
        page, more = await jobs.jobs(tenant, before=more) if more else ([], None)


async def cancel(tenant: str, seconds: float) -> None:
    """Ask the owner of each; it may have ended meanwhile, and then its owner says so."""
    settings = load_settings()
    jobs = Jobs(journal_address(settings), partitions=settings.partitions)
    try:
        async for job in overdue(jobs, tenant, seconds):
            outcome = await jobs.ask(job.id, Cancel())
            print(job.id, job.pipeline, outcome.status if outcome.ok else outcome.code)
    finally:
        await jobs.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenant", default="default", help="whose jobs")
    parser.add_argument(
        "--seconds", type=float, default=3600.0, help="how long a job may take, from when it is handed in"
    )
    asked = parser.parse_args()
    asyncio.run(cancel(asked.tenant, asked.seconds))
