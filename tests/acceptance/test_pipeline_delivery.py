"""A service's third pipeline: cd deploys the tag, and what runs afterwards is asked where it runs."""

from __future__ import annotations

import json
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bot.deployments.model import State
from tests.fakes.serving import serving
from tests.support.running import running
from tests.support.world import make_world

CD = """steps:
  - name: deploy
    run: [sh, cd.sh, "{effects}"]
artifact: null
"""
DEPLOY = """echo "$SLIPWAY_VERSION $SLIPWAY_COMMIT" >> "$1/deploys.log"
grep -q refused message.txt && { echo "cd.sh: error: the cluster said no"; exit 1; }
healthy=true; grep -q broken message.txt && healthy=false
printf '{"version": "%s", "digest": "%s", "healthy": %s}' "$SLIPWAY_VERSION" "$SLIPWAY_DIGEST" $healthy > "$1/state.new"
mv "$1/state.new" "$1/state.json"
"""


async def test_the_cd_pipeline_deploys_tells_why_it_failed_and_goes_back(tmp_path: Path) -> None:
    """Seen running by its digest; the lines that matter; and the way back is the same pipeline for the tag before."""
    world = make_world(tmp_path / "world")
    state = world.effects / "state.json"

    async def version(_request: Request) -> Response:
        return Response(state.read_bytes() if state.exists() else b"null")

    (world.source / ".slipway" / "cd.yaml").write_text(CD.replace("{effects}", str(world.effects)))
    (world.source / "cd.sh").write_text(DEPLOY)
    good = world.push("good")
    world.tag("v1")
    async with serving(Starlette(routes=[Route("/{service}", version)])) as url:
        (world.directory / "services" / "all.yaml").write_text(
            "app:\n  team: shop\n  owners: [owner]\n"
            "  cd: {options: {file: .slipway/cd.yaml}}\n"
            f"  delivery: {{provider: pipeline, options: {{running_url: '{url}/{{service}}'}}}}\n"
        )
        async with running(world) as slipway:
            await slipway.say("owner", "/deploy app prod v1")
            seen = await slipway.ends(1)
            assert (seen.state, seen.release_version) == (State.SUCCEEDED, "v1")
            assert json.loads(state.read_text())["digest"] == seen.digest
            assert (world.effects / "deploys.log").read_text() == f"v1 {good}\n"
            world.push("refused")
            world.tag("v2")
            await slipway.say("owner", "/deploy app prod v2")
            seen = await slipway.ends(2)
            assert seen.state is State.ROLLED_BACK
            assert seen.data.failure is not None
            assert "cd.sh: error: the cluster said no" in seen.data.failure.lines
            assert json.loads(state.read_text())["version"] == "v1"
            assert (world.effects / "deploys.log").read_text().splitlines()[-1] == f"v1 {good}"
