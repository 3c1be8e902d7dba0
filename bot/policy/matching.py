"""Voters to seats: one person fills one seat, and as many seats as possible are filled."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def match(seats: Sequence[Collection[str]], voters: Sequence[str]) -> dict[int, str]:
    """A maximum matching: seat number -> voter. seats: who may fill each. Earlier voters and seats are preferred.

    Augmenting paths (Kuhn's algorithm); seats are few.
    """
    taken: dict[int, str] = {}
    places = {voter: [at for at, group in enumerate(seats) if voter in group] for voter in dict.fromkeys(voters)}

    def place(voter: str, tried: set[int]) -> bool:
        for seat in places[voter]:
            if seat in tried:
                continue
            tried.add(seat)
            if seat not in taken or place(taken[seat], tried):
                taken[seat] = voter
                return True
        return False

    for voter in places:
        place(voter, set())
    return taken
