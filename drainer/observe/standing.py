"""Whether anything has changed since the last look at the service.

In    the pipeline, the host, the tasks beside the drain
Out   a value that differs when the state or a figure of the snapshot does, but for the ledger's counters and the time
Not here  the snapshot (situation.py); how often it is made anew (rounds/each_second.py)

A service that has nothing to do makes a snapshot every few seconds. It compares these values each second, so that what an
operator, a mail or a guard changes is seen as soon as ever.
"""

from __future__ import annotations

from drainer.observe.side_tasks import SideTasks
from drainer.observe.surroundings import Surroundings
from drainer.pipeline import Pipeline


def standing(pipeline: Pipeline, surroundings: Surroundings, side_tasks: SideTasks) -> tuple[object, ...]:
    """To be compared with an earlier one of the same service."""
    resources, progress = pipeline.resources, pipeline.progress
    mta, rate = resources.pool.state, resources.rate
    return (
        resources.index.totals.changes,
        resources.gate.reasons,
        resources.gate.closed_lists,
        (rate.waits, rate.messages_per_s, rate.recipients_per_s),
        (mta.state, mta.reason, mta.sessions, mta.allowed),
        pipeline.intake.is_on,
        (progress.listed, progress.outside, progress.on_the_way, progress.taken_by_runner, progress.arrived_recipients),
        tuple(progress.skipped.values()),
        (pipeline.feed.active, pipeline.transmit.in_flight, pipeline.at_mailman.entries),
        pipeline.domains.in_force,
        surroundings.mailman,
        tuple((guard.name, guard.verdict) for guard in surroundings.guards),
        {name: failure.failures for name, failure in side_tasks.failures.items()},
    )
