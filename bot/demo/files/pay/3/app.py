"""pay: quotes the fee of a payment."""

import json
from pathlib import Path

import fees
import serving


def front_page(query):
    page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    rows = "".join(f"<tr><td>{fees.show(amount)}<td>{fees.show(fee)}" for amount, fee in fees.table())
    return 200, "text/html", page.replace("<!-- table -->", f"<table><tr><th>Amount<th>Fee{rows}</table>")


def quote(query):
    """`/fee?amount=107.00&percent=2.5`"""
    amount = fees.parse_amount(query.get("amount", ""))
    percent = fees.parse_amount(query.get("percent", "2.5"))
    answer = {"amount": fees.show(amount), "fee": fees.show(fees.fee(amount, percent))}
    return 200, "application/json", json.dumps(answer) + "\n"


if __name__ == "__main__":
    serving.serve({"/": front_page, "/fee": quote})
