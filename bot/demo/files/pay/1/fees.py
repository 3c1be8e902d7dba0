"""Fees of payments. Amounts are in euros with two decimals; half a cent rounds up, as the contract with shops says."""

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

CENT = Decimal("0.01")


def parse_amount(text):
    """An amount as typed. Raises ValueError with a sentence for the person who typed it."""
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not an amount; write it like 107.00.") from None


def fee(amount, percent):
    """The fee of one payment, to the cent."""
    return (Decimal(amount) * Decimal(percent) / 100).quantize(CENT, rounding=ROUND_HALF_UP)


def show(amount):
    return f"{amount:.2f}"
