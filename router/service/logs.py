"""Every line of the log is one JSON object, and holds nothing of a prompt unless that is asked for.

What goes wrong is told by kind and place: the words of an engine, a library or a bug may quote what
was being worked on.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from router.models.errors import InputError, RouterError

log = logging.getLogger("router.service")

_VLLM = Path(__file__).with_name("vllm_logging.json")


def log_as_json(prompts: bool) -> None:
    """Write whatever is said on stderr so: by logs, warnings, uncaught errors, and vLLM.

    prompts: whether prompts may be among it.
    """
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonFormatter(prompts))
    # One line for each request, whatever the verbosity.
    log.setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )
    sys.unraisablehook = lambda args: _uncaught(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )
    # Its processes read it; the first of these also in this one.
    os.environ.setdefault("VLLM_LOGGING_CONFIG_PATH", str(_VLLM))


def kind(error: BaseException) -> str:
    """What went wrong, without words that may quote a prompt."""
    if isinstance(error, RouterError) and not isinstance(error, InputError):
        return error.plain
    return type(error).__qualname__


class JsonFormatter(logging.Formatter):
    """One JSON object a line, so that no text can forge a line. prompts: as in `log_as_json`."""

    def __init__(self, prompts: bool = False) -> None:
        super().__init__()
        self._prompts = prompts

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._message(record),
            **getattr(record, "facts", {}),
        }
        if error:
            told = traceback.format_exception(error) if self._prompts else _stacks(error)
            line["exception"] = "".join(told)
        return json.dumps(line)

    def _message(self, record: logging.LogRecord) -> str:
        if self._prompts or not isinstance(record.args, tuple):
            return record.getMessage()
        told = (kind(one) if isinstance(one, BaseException) else one for one in record.args)
        message = str(record.msg) % tuple(told) if record.args else str(record.msg)
        # Of a lost error asyncio says first that it is lost, and then all of it.
        return message.partition("\n")[0] if record.exc_info else message


def _stacks(error: BaseException) -> list[str]:
    """As Python writes an error and what it came of, but for what they say."""
    cause = error.__cause__ or error.__context__
    before = _stacks(cause) if cause is not None else []
    return [*before, *traceback.format_tb(error.__traceback__), f"{kind(error)}\n"]


def _uncaught(
    kind_: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    log.critical("an error that nothing caught", exc_info=(kind_, error, trace))
