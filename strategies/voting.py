"""How a vote stands while a search still runs."""

from __future__ import annotations

from collections.abc import Sequence

from router.strategies.base import Candidate, Strategy
from router.strategies.search import Search
from router.strategies.selection import select, standing, value, voters
from router.strategies.stopping import Poll
from router.strategies.tasks import get_task


async def poll(strategy: Strategy, search: Search, found: Sequence[Candidate]) -> Poll:
    """What the answers of these candidates would win by, as the strategy selects."""
    task = get_task(search.root.problem.task)
    answers = [task.read(one.text, one.chain.truncated) for one in found]
    grouping = await task.group(answers, search.deadline)
    how = strategy.aggregate or search.usual_aggregation
    known = [value(one, strategy.select, how) is not None for one in found]
    voting = voters(strategy.select, known)
    votes = select(
        [found[i] for i in voting.of],
        [grouping.representatives[i] for i in voting.of],
        voting.how,
        how,
    ).votes
    standings = [standing(vote, voting.how) for vote in votes]
    return Poll.of(standings, voting.how)
