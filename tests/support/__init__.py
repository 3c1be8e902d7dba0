"""What several test folders share: clocks, ports, servers, the closed door to the outside."""

from tests.support.clock import FakeClock
from tests.support.network import OutsideConnection, free_port

__all__ = ["FakeClock", "OutsideConnection", "free_port"]
