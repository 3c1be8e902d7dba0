import json
import os
import threading
import unittest
from unittest.mock import patch
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import serving

get = build_opener(ProxyHandler({})).open


class ServingTest(unittest.TestCase):
    """Over real HTTP, because that is how it is asked."""

    def setUp(self):
        quiet = patch.object(serving, "log")
        quiet.start()
        self.addCleanup(quiet.stop)

    def start(self, **options):
        server = serving.make_server({"/": lambda query: (200, "text/plain", "here\n")}, 0, **options)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}"

    def test_version_names_the_release(self):
        identity = {"SERVICE_VERSION": "v1.2.3", "SERVICE_DIGEST": "sha256:abc"}
        with patch.dict(os.environ, identity), get(self.start() + "/version") as answer:
            self.assertEqual(json.load(answer), {"version": "v1.2.3", "digest": "sha256:abc"})

    def test_health_says_ok(self):
        with get(self.start() + "/healthz") as answer:
            self.assertEqual(answer.read(), b"ok\n")

    def test_health_says_why_not(self):
        with self.assertRaises(HTTPError) as refused:
            get(self.start(healthy=lambda: (False, "still warming up")) + "/healthz")
        with refused.exception as answer:
            self.assertEqual((answer.code, answer.read()), (503, b"still warming up\n"))

    def test_an_unknown_page_is_not_found(self):
        with self.assertRaises(HTTPError) as refused:
            get(self.start() + "/nowhere")
        with refused.exception as answer:
            self.assertEqual(answer.code, 404)


if __name__ == "__main__":
    unittest.main()
