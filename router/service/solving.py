"""How a request is answered, in whichever API: its searches run, and their answers are written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import Depends, Header, Request
from starlette.responses import Response

from router.service.observe import LogEntry
from router.service.protocol import Ask
from router.service.searching import Feed, failed, leave, result, settled
from router.service.state import Service, the_service
from router.service.streaming import SearchStream, Writer

FAILS_EARLY_SECONDS: Final = 0.1
"""A stream waits so long for its first byte that a prompt which is refused gets a status."""

OURS = Annotated[Service, Depends(the_service)]
BudgetHeader = Annotated[int | None, Header(ge=1)]


async def respond(
    asks: Sequence[Ask],
    writer: Writer,
    request: Request,
    service: Service,
    header: int | None,
    *,
    stream: bool,
) -> Response:
    """Search for what is asked, all at once, and answer.

    header: the request's `x-router-budget`. stream: only for one search.

    Raises:
        ServiceError, RouterError: a search found nothing; the others are ended.
    """
    entry: LogEntry = request.state.entry
    models = service.engine.require()
    jobs = [service.desk.job(ask, header, entry.client, models) for ask in asks]
    entry.asked("\n\n".join(job.problem.text for job in jobs), sum(job.generations for job in jobs))
    feeds = [Feed(trace=stream and ask.options.trace) for ask in asks]
    tasks = [service.searches.start(job, feed) for job, feed in zip(jobs, feeds, strict=True)]
    try:
        if not stream:
            for task in tasks:
                await settled(task, request)
                result(task)
        elif not (await settled(tasks[0], request, FAILS_EARLY_SECONDS) and failed(tasks[0])):
            return SearchStream(tasks[0], feeds[0], jobs[0], writer, entry)
        solutions = [result(task) for task in tasks]
    except BaseException:
        for task in tasks:
            task.cancel()
        for task in tasks:
            await leave(task)
        raise
    finally:
        spent = [feed.usage for feed in feeds if feed.usage is not None]
        if spent:
            entry.spent(sum(spent[1:], spent[0]))
    for job, solution in zip(jobs, solutions, strict=True):
        entry.solved(solution, job.generations)
    answers = [job.answer(solution) for job, solution in zip(jobs, solutions, strict=True)]
    return Response(json.dumps(writer.whole(answers)), media_type="application/json")
