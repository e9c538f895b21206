"""The server as it ends: within two seconds, whoever still asks for something.

Knows uvicorn, which waits for each request that has begun, for as long as the other side lets it.
"""

import socket
from types import FrameType
from typing import Any

import uvicorn

from curate.process import stopping

GRACE = 1
"""Seconds that requests which have begun are given."""


class Ending(uvicorn.Server):
    """A server that a signal ends, also if a request or a thread of it never does."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, at once for those who listen and soon for all."""
        stopping.end_soon(sig)
        super().handle_exit(sig, frame)


def run(application: Any, listening: socket.socket) -> None:
    """Serve on the socket until a signal comes, which is raised again then."""
    config = uvicorn.Config(
        application, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=GRACE
    )
    Ending(config).run(sockets=[listening])
