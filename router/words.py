"""Numbers as people say them."""

from __future__ import annotations


def counted(number: float, noun: str) -> str:
    """`1 problem`, `2 problems`, `1,200 problems`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
