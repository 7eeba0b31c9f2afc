"""The app, in real Chromium, behind a proxy that puts a path before it, as that of JupyterHub does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser, Page, expect

from tests.workflows.annotate.browser import NEEDS_CHROMIUM, new_page, sit_down
from tests.workflows.annotate.conftest import Running
from workflows.annotate.assets import Runtime
from workflows.annotate.commands import AnnotateConfig
from workflows.sql import connect

pytestmark = NEEDS_CHROMIUM
PREFIX = "/user/ada/proxy/8470"
_LEFT_OUT = ("connection", "content-encoding", "content-length", "date", "server", "transfer-encoding")
_FINISHED = "() => document.getAnimations().forEach((animation) => animation.finish())"


@pytest.fixture
def address(running: Callable[..., Running], config: AnnotateConfig, runtime: Runtime | None) -> Iterator[str]:
    """Of the proxy, with its path and without the slash behind it."""
    upstream = running(config, runtime=runtime).address

    class Proxy(BaseHTTPRequestHandler):
        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.removeprefix(PREFIX) if self.path.startswith(PREFIX) else "/not-here"
            answer = httpx.request(
                self.command, f"{upstream}{path}", headers=dict(self.headers), content=body, timeout=60
            )
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name not in _LEFT_OUT:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PUT = pass_on  # noqa: N815 - names of the library

        def log_message(self, *_: object) -> None:
            """Not on the screen."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}{PREFIX}"
    server.shutdown()
    server.server_close()


def test_clicks_are_decoded_here_and_masks_saved(
    browser: Browser, address: str, config: AnnotateConfig, runtime: Runtime | None
) -> None:
    ada = sit_down(browser, f"{address}/", "Ada")
    expect(ada.page.locator("#decoder")).to_contain_text("decoding here" if runtime else "decoding on the server")
    ada.click(0.5, 0.5)
    ada.press("Enter")
    ada.saved()
    assert connect(config.dataset).execute("SELECT count(*) FROM annotations").fetchall() == [(1,)]


def expect_to_be_told(page: Page) -> None:
    """The page says that it lacks its program, after a while in which it might have come."""
    page.evaluate(_FINISHED)
    expect(page.locator("#not-loaded")).to_be_visible()


def test_without_the_slash_it_says_what_is_wrong(browser: Browser, address: str) -> None:
    """Its files are asked for at another path then."""
    page = new_page(browser)
    page.goto(address)
    expect_to_be_told(page)


def test_a_refused_program_is_told(browser: Browser, address: str) -> None:
    """By a proxy that does not pass the Host on, say: styles come then, scripts do not."""
    page = new_page(browser)
    page.route("**/app.js", lambda route: route.fulfill(status=403))
    page.goto(f"{address}/")
    expect(page.locator("#not-loaded")).to_be_hidden()
    expect_to_be_told(page)
