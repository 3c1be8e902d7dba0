"""Structured logs: a constant past-tense event and fields; secrets are redacted on the way out."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.typing import Processor


def set_up_logging(level: str) -> None:
    """One line of JSON per event on standard error; readable lines when that is a terminal.

    Tracebacks are plain: values of local variables could hold secrets.
    """
    if sys.stderr.isatty():
        last: list[Processor] = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        last = [structlog.processors.format_exc_info, _redacted, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")


def _redacted(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    from bot.logs import redact  # a good start says nothing

    for key, value in event.items():
        if isinstance(value, str) and key not in ("event", "timestamp", "level"):
            event[key] = redact(value)
    return event
