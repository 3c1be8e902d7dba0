"""The connection to the upstream ledger."""

import socket
import threading
import time

import serving

ADDRESS = ("127.0.0.1", 9)
GREETING = b"LEDGER"
PAUSES = (0.2, 0.5, 1, 2, 5)
"""Seconds between two attempts; the last one is repeated."""


class Ledger:
    """Knows whether the ledger can be reached, and keeps trying."""

    def __init__(self, address=ADDRESS):
        self.address = address
        self.connected = False
        self.problem = "not tried yet"

    def health(self):
        if self.connected:
            return True, "ok"
        return False, f"waiting for upstream ledger at {self.address[0]}:{self.address[1]}: {self.problem}"

    def try_once(self):
        try:
            with socket.create_connection(self.address, timeout=1) as connection:
                self.connected = connection.recv(64).startswith(GREETING)
                self.problem = "it does not greet as a ledger"
        except OSError as error:
            self.connected = False
            self.problem = (error.strerror or str(error)).lower()
        return self.connected

    def follow(self):
        self.try_once()
        threading.Thread(target=self._keep_trying, daemon=True).start()

    def _keep_trying(self):
        attempt = 1
        while not self.connected:
            pause = PAUSES[min(attempt, len(PAUSES)) - 1]
            serving.log("ERROR", f"attempt {attempt}: {self.health()[1]}; next in {pause} s")
            time.sleep(pause)
            attempt += 1
            self.try_once()
        serving.log("INFO", "the ledger answers")
