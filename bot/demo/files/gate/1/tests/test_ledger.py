import socket
import threading
import unittest

import ledger


class LedgerTest(unittest.TestCase):
    def listen(self, greeting):
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)

        def greet():
            connection, _ = server.accept()
            with connection:
                connection.sendall(greeting)

        thread = threading.Thread(target=greet)
        thread.start()
        self.addCleanup(thread.join)
        return server.getsockname()

    def test_healthy_once_the_ledger_greets(self):
        it = ledger.Ledger(self.listen(b"LEDGER/1 ready\n"))
        self.assertTrue(it.try_once())
        self.assertEqual(it.health(), (True, "ok"))

    def test_anything_else_is_no_ledger(self):
        it = ledger.Ledger(self.listen(b"220 mail ready\n"))
        self.assertFalse(it.try_once())
        self.assertIn("does not greet", it.health()[1])

    def test_without_a_ledger_it_says_what_it_waits_for(self):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            it = ledger.Ledger(closed.getsockname())
            it.try_once()
        self.assertEqual(
            it.health(), (False, f"waiting for upstream ledger at 127.0.0.1:{it.address[1]}: connection refused")
        )
