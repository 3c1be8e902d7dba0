"""`/hooks/alertmanager`: Alertmanager tells which alerts fire and which are over.

Source: prometheus/alertmanager docs/configuration.md `<webhook_config>`: version 4, `{"status", "alerts": [{"status":
"firing"|"resolved", "labels", "annotations", "startsAt", "endsAt", "fingerprint"}]}`, all values text. A
5xx answer is sent again, a 4xx is not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot import logs
from bot.deployments.alarms import Alarm, Alarmed
from bot.errors import SlipwayError
from bot.web import signatures

log = structlog.get_logger(__name__)

BODY_LIMIT = 5_000_000


def alert_routes(secret: str, labels: tuple[str, str], alarmed: Alarmed) -> list[Route]:
    """The route, if there is a secret. labels: which say service and environment."""
    if not secret:
        return []

    async def receive(request: Request) -> Response:
        if not signatures.bearer(secret, request.headers, request.query_params):
            log.warning("webhook_refused", hook="alertmanager")
            return JSONResponse({"error": "The token is missing or wrong."}, 401)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_LIMIT:
                return JSONResponse({"error": "The body is too large."}, 413)
        try:
            alarms = [_alarm(one, labels) for one in json.loads(bytes(body))["alerts"]]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
            return JSONResponse({"error": "The body is not what Alertmanager sends."}, 400)
        try:
            taken = await alarmed.heard(alarms)
        except SlipwayError as error:
            return JSONResponse({"error": error.message}, 503)
        return JSONResponse({"status": "taken" if taken else "ignored", "alerts": taken}, 202 if taken else 200)

    return [Route("/hooks/alertmanager", receive, methods=["POST"])]


def _alarm(body: Mapping[str, Any], labels: tuple[str, str]) -> Alarm:
    told = {str(key): str(value) for key, value in body["labels"].items()}
    notes = body.get("annotations") or {}
    summary = str(notes.get("summary") or notes.get("description") or "")
    return Alarm(
        fingerprint=_fingerprint(str(body.get("fingerprint") or ""), told),
        name=logs.clean(told.get("alertname", "alert"))[:200],
        service=told.get(labels[0], ""),
        environment=told.get(labels[1], ""),
        summary=logs.redact(logs.clean(summary))[:300],
        started_at=_instant(str(body["startsAt"])),
        firing=body["status"] == "firing",
    )


def _fingerprint(given: str, labels: Mapping[str, str]) -> str:
    """Our own for what speaks like Alertmanager and names none."""
    if given.isascii() and given.isalnum() and len(given) <= 64:
        return given
    return hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)
