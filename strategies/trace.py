"""The record of a search: every step, its score, what became of it. Enough to draw the tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

from router.models.types import Chain

Status = Literal["live", "pruned", "finished", "lookahead"]

MAX_NODES = 50_000
"""Past this many nodes a trace only counts: a search of any size stays in bounded memory."""


@dataclass(slots=True)
class Node:
    """One step of the tree. `score` is the verifier's score of this step.

    In a fleet its record names the model that it is of.
    """

    id: int
    parent: int | None
    chain: Chain
    status: Status
    score: float | None = None

    def to_dict(self) -> dict[str, Any]:
        step, model = self.chain.step, self.chain.problem.model
        return {
            "id": self.id,
            "parent": self.parent,
            **({"model": model} if model and step else {}),
            "status": self.status,
            "score": self.score,
            "text": step.text if step else "",
            "tokens": step.tokens if step else 0,
            "finish": step.finish if step else None,
            "logprob": step.logprob if step else None,
        }


Listener = Callable[[Node], None]
"""Called whenever a node appears or changes."""


class Trace:
    """Grows while the search runs. Node 0 is the problem.

    roots: the problem as each model of a fleet is asked, the first model first.
    """

    def __init__(self, roots: Sequence[Chain], listener: Listener | None = None) -> None:
        self._listener = listener
        self._ids: WeakKeyDictionary[Chain, int] = WeakKeyDictionary()
        self.nodes: list[Node] = []
        self.dropped = 0
        self._add(roots[0], None, "live")
        self._ids.update(dict.fromkeys(roots, 0))

    def add(self, chain: Chain, status: Status) -> None:
        """Record `chain` and those of its ancestors that are not recorded yet."""
        new = []
        for ancestor in chain.ancestors():
            if ancestor in self._ids:
                break
            new.append(ancestor)
        for ancestor in reversed(new):
            assert ancestor.parent is not None
            is_leaf = ancestor is chain
            self._add(ancestor, self._ids.get(ancestor.parent), status if is_leaf else "live")

    def mark(self, chain: Chain, status: Status) -> None:
        """Change what became of `chain`."""
        node = self._node(chain)
        if node is not None:
            node.status = status
            self._tell(node)

    def score(self, chain: Chain, score: float) -> None:
        """Record the score of the chain's last step."""
        node = self._node(chain)
        if node is not None:
            node.score = score
            self._tell(node)

    def to_list(self) -> list[dict[str, Any]]:
        return [node.to_dict() for node in self.nodes]

    def _add(self, chain: Chain, parent: int | None, status: Status) -> None:
        if len(self.nodes) >= MAX_NODES:
            self.dropped += 1
            return
        node = Node(len(self.nodes), parent, chain, status)
        self._ids[chain] = node.id
        self.nodes.append(node)
        self._tell(node)

    def _node(self, chain: Chain) -> Node | None:
        index = self._ids.get(chain)
        return None if index is None else self.nodes[index]

    def _tell(self, node: Node) -> None:
        if self._listener is not None:
            self._listener(node)
