"""gate: lets through only what the ledger knows, so it needs the ledger before it can serve."""

from html import escape

import ledger
import serving

LEDGER = ledger.Ledger()


def front_page(query):
    head = "<!doctype html><meta charset=utf-8><title>gate</title>"
    return 200, "text/html", f"{head}<h1>The gate is {state()}.</h1>{why()}\n"


def enter(query):
    """`/enter?ticket=…`: through the gate, if it is open."""
    if not LEDGER.connected:
        return 503, "text/plain", "The gate is closed until the ledger answers.\n"
    return 200, "text/plain", f"Come in with ticket {query.get('ticket', 'none')}.\n"


def why():
    return "" if LEDGER.connected else f"<p>It is {escape(LEDGER.health()[1])}.</p>"


def state():
    return "open" if LEDGER.connected else "closed"


if __name__ == "__main__":
    LEDGER.follow()
    serving.serve({"/": front_page, "/enter": enter}, healthy=LEDGER.health)
