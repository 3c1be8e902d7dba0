"""Slipway: a ChatOps bot for release management."""

__version__ = "0.1.0"
