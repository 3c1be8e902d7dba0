"""Helm itself, as a library: lints or renders a chart with the values on standard input; one JSON object comes out.

    python tests/tools/helm.py lint|render CHART < values.json

Run with the folder on PYTHONPATH that `make tools` filled from `helm.txt`; nothing of ours is imported.
"""

from __future__ import annotations

import json
import sys

import helm_python as helm


def main() -> None:
    """`{"files": {path: text}}`, `{"lint": [messages]}`, or `{"error": sentence}`."""
    action, chart = sys.argv[1:]
    values = json.load(sys.stdin)
    try:
        if action == "lint":
            report = helm.lint(chart, values, strict=True)
            answer = {"lint": [one["error"] for one in report["messages"] if one["severity"] > 1] + report["errors"]}
        else:
            with helm.Chart.load(chart) as loaded:
                loaded.validate_schema(values)
                answer = {"files": loaded.render(values, name="bot", namespace="slipway")}
    except helm.HelmError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
