"""What every answer and every request of the server must keep to, whatever page it is.

Knows headers: a policy under which no page runs a script or loads a thing from elsewhere, addresses that other sites
could point at this machine (DNS rebinding), and posts that come from other sites. Leaves tokens in forms to Datasette.
"""

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Any

from curate.review.web.log import logger

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:/@]+)(:\d{1,5})?")
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def policy(templates: Path) -> str:
    """The Content-Security-Policy: scripts of the server, and the few that stand in Datasette's own pages."""
    own = ["DATASETTE_ALLOW_FACET = true;", "DATASETTE_ALLOW_FACET = false;"]
    for name in ("_close_open_menus.html", "_codemirror_foot.html"):
        file = templates / name
        own += _SCRIPT.findall(file.read_text(encoding="utf-8")) if file.exists() else []
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in own
    )
    return (
        f"default-src 'none'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


class Guard:
    """Wraps the server: refuses what comes from another site, and adds the headers to what goes out."""

    def __init__(self, application: Application, content_policy: str, hosts: Iterable[str] | None) -> None:
        """``hosts``: names under which the server may be asked for; None: any (it was bound to the network)."""
        self.application = application
        self.hosts = None if hosts is None else frozenset(hosts)
        self.headers = [
            (b"content-security-policy", content_policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            (b"referrer-policy", b"same-origin"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cross-origin-resource-policy", b"same-origin"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return

        begun: list[Message] = []

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun.append(message)
                ours = {name for name, _ in self.headers}
                kept = [(name, value) for name, value in message.get("headers", []) if name.lower() not in ours]
                message = {**message, "headers": [*kept, *self.headers]}
            await send(message)

        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refused(scope["method"], headers)
        if refused:
            await _plain(guarded, 403, refused)
            return
        if not scope.get("raw_path", b"").isascii():
            await _plain(guarded, 400, "an address is written in signs of ASCII")
            return
        try:
            await self.application(scope, receive, guarded)
        except Exception:  # a boundary: whatever a page raises is one line in the log, and the server goes on
            logger.exception("500 %s", scope["path"])
            if not begun:
                await _plain(guarded, 500, "this page could not be made")

    def _refused(self, method: str, headers: dict[bytes, str]) -> str | None:
        host = headers.get(b"host", "")
        if self.hosts is not None and _name(host) not in self.hosts:
            return f"this server answers under {', '.join(sorted(self.hosts))} only; give --host to change that"
        if method in ("GET", "HEAD", "OPTIONS"):
            return None
        site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
        if site not in (None, "same-origin") or (origin is not None and origin.partition("://")[2] != host):
            return "posts from other sites are refused"
        return None


async def _plain(send: Send, status: int, text: str) -> None:
    content_type = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": content_type})
    await send({"type": "http.response.body", "body": f"{text}\n".encode()})


def _name(host: str) -> str:
    """The host without its port; empty for what is no host, such as ``[::1].evil.com``."""
    found = _HOST.fullmatch(host)
    return found[1].lower() if found else ""
