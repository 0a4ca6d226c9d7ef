"""API keys: who may use the service, and how much each may ask for."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from router.models.errors import InputError

SHORTEST = 16
"""Characters of a key; fewer can be guessed."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who sent a request. key: a short digest of their key, for logs; None where none is asked.

    max_budget: the most generations that they may ask for in one request; None for no own limit.
    """

    key: str | None = None
    max_budget: int | None = None


@dataclass(frozen=True)
class ApiKeys:
    """The keys of a service, kept as SHA-256 digests only."""

    _clients: Mapping[bytes, Client] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self._clients)

    @classmethod
    def parse(cls, text: str, source: str) -> ApiKeys:
        """Read keys, one a line or separated by commas: `KEY`, or `KEY MAX_BUDGET`.

        Text after `#` is a comment. source: where the text came from, for messages.

        Raises:
            InputError: a key that is too short or not ASCII, or an entry of another form; never
                quotes a key.
        """
        clients = {}
        lines = (line.partition("#")[0] for line in text.splitlines())
        entries = [entry for line in lines for entry in line.split(",") if entry.strip()]
        for number, entry in enumerate(entries, 1):
            found = re.fullmatch(r"\s*(\S+)(?:\s+([1-9]\d{0,5}))?\s*", entry)
            if found is None:
                raise InputError(f"{source}: key {number} is not written `KEY` or `KEY MAX_BUDGET`")
            key, budget = found.groups()
            if not key.isascii():
                raise InputError(f"{source}: key {number} is not ASCII, so no header can carry it")
            if len(key) < SHORTEST:
                raise InputError(f"{source}: key {number} has fewer than {SHORTEST} characters")
            digest = _digest(key)
            clients[digest] = Client(digest.hex()[:8], int(budget) if budget else None)
        if not clients:
            raise InputError(f"{source} holds no key")
        return cls(clients)

    @classmethod
    def read(cls, file: Path) -> ApiKeys:
        """Read a file of keys, as `parse`.

        Raises:
            InputError: it cannot be read, or as `parse`.
        """
        try:
            return cls.parse(file.read_text("utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read keys from {file}: {error}") from None

    def client(self, presented: str) -> Client | None:
        """Whose key this is; takes as long for a wrong key as for a right one."""
        digest, found = _digest(presented), None
        for known, client in self._clients.items():
            if hmac.compare_digest(known, digest):
                found = client
        return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
