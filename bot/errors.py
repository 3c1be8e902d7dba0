"""Every error we raise on purpose, as one tree, by what the caller may do next.

SlipwayError
 +-- Refused               a rule said no: tell why and until when; nothing was started
 +-- BadInput              the words could not be understood: tell what to type instead
 +-- CatalogInvalid        the configuration directory is wrong: file, line, field, what is allowed
 +-- Conflict              somebody was first (a lost guard): told kindly, never retried
 +-- ProviderError         an outside system
      +-- ProviderRejected     it said no: tell, do not retry
      +-- ProviderUnavailable  not reached: safe to retry
      +-- OutcomeUnknown       sent, not answered: look the effect up first
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from bot.policy.model import Reason


class SlipwayError(Exception):
    """Base of all. `message` is one sentence for a person; it never holds a secret."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the sentence and, in `hint`, what to do next."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    def sentence(self) -> str:
        """The message, and what to do next."""
        return f"{self.message} {self.hint}".strip()


class Refused(SlipwayError):
    """A rule said no. Nothing was changed."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        reasons: Sequence[Reason] = (),
        next_change_at: datetime | None = None,
        code: str = "",
    ) -> None:
        """Keep every reason, and the instant (aware UTC) at which the answer would change."""
        super().__init__(message, hint=hint)
        self.reasons = tuple(reasons)
        self.next_change_at = next_change_at
        self.code = code or (str(self.reasons[0].code) if self.reasons else "refused")


class BadInput(SlipwayError):
    """The words could not be understood, or name something that does not exist."""


class CatalogInvalid(SlipwayError):
    """The configuration directory is wrong."""


class Conflict(SlipwayError):
    """Somebody was first. Nothing was changed by this call."""


class ProviderError(SlipwayError):
    """An outside system did not do what we asked."""


class ProviderRejected(ProviderError):
    """It said no; asking again will not help."""


class ProviderUnavailable(ProviderError):
    """Not reached; safe to retry."""


class OutcomeUnknown(ProviderError):
    """Sent, not answered: the effect may exist. Look it up by intent before anything else."""
