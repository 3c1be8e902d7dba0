"""gate: lets through only what the ledger knows, so it needs the ledger before it can serve."""

import ledger
import serving

LEDGER = ledger.Ledger()


def front_page(query):
    return 200, "text/html", f"<!doctype html><meta charset=utf-8><title>gate</title><h1>The gate is {state()}.</h1>\n"


def state():
    return "open" if LEDGER.connected else "closed"


if __name__ == "__main__":
    LEDGER.follow()
    serving.serve({"/": front_page}, healthy=LEDGER.health)
