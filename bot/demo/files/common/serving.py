"""The part of a service that every service has: a small HTTP server that says who it is and how it is.

It is told by its environment: PORT, SERVICE_NAME, SERVICE_ENVIRONMENT, SERVICE_VERSION, SERVICE_DIGEST.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


def identity():
    """What runs here, as `/version` answers."""
    return {
        "version": os.environ.get("SERVICE_VERSION", "unreleased"),
        "digest": os.environ.get("SERVICE_DIGEST", ""),
    }


def log(level, text):
    """One line for the log."""
    # In one piece, so that lines of two threads do not mix.
    sys.stderr.write(f"{level} {os.environ.get('SERVICE_NAME', 'service')}: {text}\n")
    sys.stderr.flush()


class Handler(BaseHTTPRequestHandler):
    """Answers GET by the server's table of pages: path -> function of the query, giving (status, type, text)."""

    def do_GET(self):
        address = urlsplit(self.path)
        page = self.server.pages.get(address.path)
        if page is None:
            status, kind, text = 404, "text/plain", f"There is no page {address.path} here; try /.\n"
        else:
            status, kind, text = self.answer(page, dict(parse_qsl(address.query)))
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, page, query):
        try:
            return page(query)
        except ValueError as error:
            return 400, "text/plain", f"{error}\n"

    def log_request(self, code="-", size="-"):
        if self.path not in ("/healthz", "/version"):
            log("INFO", f"{self.command} {self.path} {int(code)}")


def make_server(pages, port, healthy=lambda: (True, "ok")):
    """A server on loopback with these pages, /version and /healthz. healthy: gives (is it, why)."""

    def health(query):
        well, why = healthy()
        return (200 if well else 503), "text/plain", f"{why}\n"

    def version(query):
        return 200, "application/json", json.dumps(identity()) + "\n"

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.pages = {"/version": version, "/healthz": health, **pages}
    return server


def serve(pages, **options):
    """Serve until the process is ended."""
    server = make_server(pages, int(os.environ.get("PORT", "8000")), **options)
    log("INFO", f"{identity()['version']} listens on http://127.0.0.1:{server.server_port}")
    server.serve_forever()
