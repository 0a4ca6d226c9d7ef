"""Somebody else's strategy, as a package of their own: REBASE (arXiv 2408.00724) in 25 lines."""

import asyncio
import math
from dataclasses import dataclass

from router import Candidate, Chain, Problem, Search, Strategy, candidates, step_values


@dataclass(frozen=True)
class RebaseLike(Strategy):
    name = "rebase_like"
    balance: float = 0.1

    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        done: list[Chain] = []
        beam = [(search.root, self.n)]
        while beam:
            calls = [search.sample(path, share) for path, share in beam]
            grown = [path for call in await asyncio.gather(*calls) for path in call]
            done += [path for path in grown if path.finished]
            live = [path for path in grown if not path.finished]
            values = await step_values(search, live, search.aggregation(self.aggregate))
            weights = [math.exp(max(value, -1.0) / self.balance) for value in values]
            bounds = [0]
            for i in range(1, len(live) + 1):
                bounds.append(round(len(live) * sum(weights[:i]) / sum(weights)))
            beam = [(path, bounds[i + 1] - bounds[i]) for i, path in enumerate(live)]
            search.prune([path for path, share in beam if not share])
            beam = [(path, share) for path, share in beam if share]
        return await candidates(search, done, scored=True)
