"""What people see of a solution. Text from a model is untrusted: it never reaches rich's markup."""

from __future__ import annotations

from collections.abc import Iterator

from rich.bar import Bar
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from router.models.types import EndReason
from router.models.usage import Usage
from router.records import Decision, Solution
from router.strategies.budget import Budget
from router.strategies.selection import Vote, standing
from router.words import counted

MOST_VOTES = 8
BAR_WIDTH = 24

_ENDED: dict[EndReason, str] = {
    "completed": "the strategy was done",
    "generations": "the budget of generations was spent",
    "tokens": "the token cap was reached",
    "deadline": "the deadline passed",
}


def show(solution: Solution, budget: Budget, console: Console, *, thoughts: bool) -> None:
    """Print a solution: its text, the answer, decision, spend, votes, and how it ended.

    thoughts: print what was thought too; else only how long it is.
    """
    if thoughts and solution.thoughts:
        thought = _plain(solution.thoughts, style="dim")
        console.print(Panel(thought, title="Thoughts", border_style="dim"))
    if solution.text.strip():
        console.print(Panel(_plain(solution.text.strip()), title="Solution", border_style="dim"))
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="bold", no_wrap=True)
    rows.add_column(overflow="fold")
    for label, content in _rows(solution, budget):
        rows.add_row(label, content)
    console.print(rows)


def print_grid(grid: Table, console: Console) -> None:
    """Print a table whole: a terminal may wrap lines; a squeezed table loses its last columns."""
    unbounded = console.options.update(max_width=10_000)
    given = console.width
    # Rich rounds when it narrows columns, which may cost each a character.
    least = console.measure(grid, options=unbounded).minimum + len(grid.columns)
    console.width = max(given, least)
    console.print(grid)
    console.width = given


def tokens(usage: Usage) -> str:
    """Tokens in words; what the engine does not report is said to be so."""
    cached = usage.prompt_tokens_cached
    parts = [
        _count(usage.sampled_tokens, "sampled token"),
        _count(usage.prompt_tokens, "prompt token") + (f" ({cached:,} cached)" if cached else ""),
    ]
    if usage.verifier_tokens != 0:
        parts.append(_count(usage.verifier_tokens, "verifier token"))
    return ", ".join(parts)


def seconds(value: float) -> str:
    """A duration as people say it."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s"


def _rows(solution: Solution, budget: Budget) -> Iterator[tuple[str, RenderableType]]:
    if solution.answer is None:
        yield "Answer", Text("none: no candidate states one", style="bold red")
    else:
        answer = _plain(solution.answer, style="bold green")
        if solution.correct is not None:
            answer.append("  correct" if solution.correct else "  wrong", style="not bold dim")
        yield "Answer", answer
    yield "Decision", _decision(solution.decision)
    usage = solution.usage
    spent = f"{usage.generations:.6g} of {counted(budget.generations, 'generation')}"
    if usage.models:
        each = (
            f"{name} {counted(own.generations, 'sample')}" for name, own in usage.models.items()
        )
        spent += f" ({', '.join(each)})"
    spent = f"{spent}, {tokens(usage)}, {seconds(usage.seconds)}"
    yield "Spent", spent if usage.money is None else f"{spent}, {usage.money:.3g} at these prices"
    yield "Ended", f"{solution.ended}: {_ENDED[solution.ended]}"
    yield "Votes", _votes(solution)
    if solution.thoughts:
        length = counted(len(solution.thoughts), "character")
        yield "Thoughts", f"{length}; --thoughts shows them"
    for note in solution.notes:
        yield "Note", Text(note, style="yellow")


def _decision(decision: Decision) -> Text:
    text = Text(str(decision.strategy))
    text.append(f"\n{decision.why}", style="dim")
    if decision.levels is not None:
        top = max(range(len(decision.levels)), key=decision.levels.__getitem__)
        text.append(
            f"\ndifficulty {top + 1} of {len(decision.levels)}, {decision.levels[top]:.0%} sure",
            style="dim",
        )
    if decision.expected_accuracy is not None:
        text.append(f"\nexpected accuracy {decision.expected_accuracy:.0%}", style="dim")
    return text


def _votes(solution: Solution) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(overflow="ellipsis", max_width=32, no_wrap=True)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim", no_wrap=True)
    values = [_strength(vote, solution) for vote in solution.votes]
    longest = max(values, default=0.0) or 1.0
    for vote, value in list(zip(solution.votes, values, strict=True))[:MOST_VOTES]:
        style = "green" if vote.answer == solution.answer else "default"
        bar = Bar(longest, 0, value, width=BAR_WIDTH, color=style)
        weight = "" if vote.weight is None else f"score {vote.weight:.2f}"
        table.add_row(_plain(vote.answer, style=style), bar, str(vote.count), weight)
    hidden = solution.votes[MOST_VOTES:]
    if hidden:
        count = sum(vote.count for vote in hidden)
        table.add_row(Text(counted(len(hidden), "more answer"), style="dim"), "", str(count), "")
    silent = sum(candidate.answer is None for candidate in solution.candidates)
    if silent:
        table.add_row(Text("no answer", style="dim"), "", str(silent), "")
    return table


def _strength(vote: Vote, solution: Solution) -> float:
    """What the selection compares."""
    return standing(vote, solution.selection)


def _count(value: int | None, unit: str) -> str:
    return f"{unit}s not reported" if value is None else counted(value, unit)


def _plain(text: str, style: str = "") -> Text:
    """Model text without what could steer a terminal."""
    safe = (c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
    return Text("".join(safe), style=style)
