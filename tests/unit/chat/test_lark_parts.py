"""One part of lark-oapi costs little; the whole of it costs seconds and must stay out of the process."""

from __future__ import annotations

import subprocess
import sys

MEASURE = """
import sys, time
import aiohttp, httpx, bot.chat.base, notifiers.base, notifiers.language, websockets.asyncio.client
def resident():
    return int(open('/proc/self/statm').read().split()[1]) * 4 // 1024
before, modules, start = resident(), len(sys.modules), time.process_time()
from bot.chat import lark_parts
from bot.chat import feishu_frames, feishu_socket, feishu_wire
feishu_frames.decode(feishu_frames.encode(feishu_frames.Frame()))
lark_parts.cipher_class()('test key').decrypt_str('P37w+VZImNgPEO1RBhJ6RtKl7n6zymIbEG1pReEzghk=')
feishu_socket
print(resident() - before, len(sys.modules) - modules, time.process_time() - start)
print(sorted(name for name in sys.modules if name.startswith('lark_oapi')))
"""
WHOLE = """
from bot.chat import lark_parts
lark_parts.cipher_class()
import lark_oapi
print(lark_oapi.Client.__name__, lark_oapi.AESCipher is not None)
"""


def run(script: str) -> list[str]:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_receiving_is_cheap() -> None:
    """A frame and a cipher are used too, because what imports more may do so at its first use.

    lark-oapi imported whole is 10,000 modules, 2 s and 170 MB: more than everything else together.
    """
    cost, left = run(MEASURE)
    megabytes, modules, _ = (float(value) for value in cost.split())
    assert megabytes < 15
    assert modules < 150
    assert left == "[]"


def test_a_whole_import_still_works_afterwards() -> None:
    """Somebody's tool or test in the same process must not meet an empty package."""
    assert run(WHOLE) == ["Client True"]


def test_only_one_module_touches_it() -> None:
    """A second importer would bring the cost back unseen."""
    from tests.unit.test_imports import imports, modules

    users = {
        name for name, path in modules() for _, imported in imports(name, path.read_text()) if "lark_oapi" in imported
    }
    assert users == set()
    assert "lark_oapi" not in sys.modules or "lark_oapi.api" in sys.modules
