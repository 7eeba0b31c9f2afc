"""Who may speak to the server: the same machine and the same site, or whoever knows the token.

A page of another site can send requests to a server on this machine, and a name can be made to point here; so the Host
must be one of ours, the Origin that Host, and nothing rests on cookies. Behind a proxy the Host may be another one;
there a browser's own word counts that a request is of this site, which no page can make it say. Links to the page may
stand anywhere. Data needs the token where one is set.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workflows.annotate.commands import LOOPBACK

LARGEST_BODY = 64 << 20
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; style-src 'self'; "
        "img-src 'self' blob: data:; connect-src 'self' blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",  # these two give threads to WebAssembly
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True, slots=True)
class Guard:
    """ASGI middleware. `host` is what the server listens on; `token` is None where none is asked for."""

    app: ASGIApp
    host: str
    token: str | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        guarded = _with_headers(send, scope["path"])
        headers = Headers(scope=scope)
        refusal = self._refusal(scope["path"], headers)
        if refusal:
            status, message = refusal
            await JSONResponse({"detail": message}, status)(scope, receive, guarded)
            return
        await self.app(scope, _limited(receive), guarded)

    def _refusal(self, path: str, headers: Headers) -> tuple[int, str] | None:
        """Status and one line, when a request may not pass."""
        host, origin, site = (headers.get(name, "") for name in ("host", "origin", "sec-fetch-site"))
        if not self._is_ours(host):
            return 421, f"this server does not answer for the host {host!r}"
        if origin and _split(origin).netloc != host and site != "same-origin":
            return 403, f"requests from other sites are refused, such as of {origin}; a proxy has to pass on its Host"
        if site not in ("", "none", "same-origin") and not _is_followed_link(path, headers):
            return 403, "requests from other sites are refused"
        if path.startswith("/api/") and not self._has_token(headers):
            return 401, "a token is needed: open the address that `sam-engine annotate` printed"
        return None

    def _is_ours(self, host: str) -> bool:
        """Behind a token any name may lead here; without one only this machine's own."""
        return self.token is not None or (_split(f"//{host}").hostname or "") in (*LOOPBACK, self.host)

    def _has_token(self, headers: Headers) -> bool:
        if self.token is None:
            return True
        given = headers.get("authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode(), self.token.encode())


def _is_followed_link(path: str, headers: Headers) -> bool:
    """Whether somebody came by a link in a mail, a chat or a notebook: the page holds nothing of the data set."""
    goes = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    return goes == ("navigate", "document") and not path.startswith("/api/")


def _split(address: str) -> SplitResult:
    """The parts of an address; none where it is none."""
    try:
        return urlsplit(address)
    except ValueError:
        return SplitResult("", "", "", "", "")


def _with_headers(send: Send, path: str) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store" if path.startswith("/api/") else "no-cache")
        await send(message)

    return guarded


def _limited(receive: Receive) -> Receive:
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > LARGEST_BODY:
            raise HTTPException(413, f"the request is larger than {LARGEST_BODY >> 20} MiB")
        return message

    return limited
