"""What people read of a log names files as their repository does."""

from __future__ import annotations

from pathlib import Path

from bot.deployments.model import State
from tests.support.running import running
from tests.support.world import make_world


async def test_error_lines_name_files_as_in_the_repository(tmp_path: Path) -> None:
    """The place of the checkout on the bot's machine is nobody's business, and long."""
    world = make_world(tmp_path / "world")
    world.push("second", test='echo "File \\"$PWD/src/fees.py\\", line 13: AssertionError" >&2; exit 1')
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        seen = await slipway.ends()
        logs = await slipway.say("owner", "/logs d-1 test")
    assert seen.state is State.FAILED
    assert seen.data.failure is not None
    assert any('File "src/fees.py"' in line for line in seen.data.failure.lines)
    assert logs[-1].card is not None
    assert "workspace/" not in logs[-1].card["excerpt"]
