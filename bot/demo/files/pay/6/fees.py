"""Fees of payments. Amounts are in euros with two decimals; half a cent rounds up, as the contract with shops says."""

from decimal import Decimal, InvalidOperation


def parse_amount(text):
    """An amount as typed. Raises ValueError with a sentence for the person who typed it."""
    try:
        amount = Decimal(text)
        in_range = 0 <= amount < 1_000_000
    except InvalidOperation:
        raise ValueError(f"{text!r} is not an amount; write it like 107.00.") from None
    if not in_range:
        raise ValueError(f"{text} is out of range; amounts go from 0 to 999999.99.")
    return amount


def fee(amount, percent):
    """The fee of one payment, to the cent."""
    # Whole numbers are as quick as floats, and exact: hundredths of a cent times hundredths of a percent.
    tiny = int(Decimal(amount) * 100) * int(Decimal(percent) * 100)
    return Decimal((tiny + 5_000) // 10_000) / 100


def table(percent=Decimal("2.5")):
    """Some amounts with their fees, for the page."""
    return [(amount, fee(amount, percent)) for amount in map(Decimal, (10, 50, 100, 500))]


def show(amount):
    """With a thin space between the thousands, as banks print it."""
    return f"{amount:,.2f}".replace(",", "\u2009")
