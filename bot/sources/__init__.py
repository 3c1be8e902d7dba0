"""The source repositories: what a name, a branch or nothing at all means, and what lies between two commits."""

from bot.sources.git import Commit, Revision, Source

__all__ = ["Commit", "Revision", "Source"]
