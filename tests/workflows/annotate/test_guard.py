"""Requests that must not pass."""

import pytest
from fastapi.testclient import TestClient

from tests.workflows.annotate.conftest import client_of
from workflows.annotate.guard import LARGEST_BODY
from workflows.annotate.studio import Studio


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1"}, 200),
        ({"host": "localhost:99"}, 200),
        ({"host": "evil.example"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"host": "["}, 421),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "https://masks.example", "sec-fetch-site": "same-origin"}, 200),  # behind a proxy
        ({"origin": "https://masks.example", "sec-fetch-site": "cross-site"}, 403),
        ({"host": "evil.example", "origin": "http://evil.example", "sec-fetch-site": "same-origin"}, 421),
    ],
)
def test_only_this_site_on_this_machine_is_answered(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.get("/api/project", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("path", "mode", "dest", "status"),
    [
        ("/", "navigate", "document", 200),
        ("/", "navigate", "iframe", 403),
        ("/", "no-cors", "image", 403),
        ("/app.js", "no-cors", "script", 403),
        ("/api/project", "navigate", "document", 403),
    ],
)
def test_a_link_of_another_site_leads_to_the_page_alone(
    client: TestClient, path: str, mode: str, dest: str, status: int
) -> None:
    for site in ("cross-site", "same-site"):
        headers = {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest}
        assert client.get(path, headers=headers).status_code == status


def test_a_token_is_asked_for_where_there_is_one(studio: Studio) -> None:
    client = client_of(studio, token="secret")
    assert client.get("/").status_code == 200
    assert client.get("/api/project").status_code == 401
    assert client.get("/api/project", headers={"authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/api/project", headers={"authorization": "Bearer secret"}).status_code == 200
    assert client.get("/api/openapi.json").status_code == 401


def test_every_answer_tells_browsers_to_be_strict(client: TestClient) -> None:
    for path in ("/", "/app.js", "/api/project", "/api/nothing"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cross-origin-embedder-policy"] == "require-corp"
        assert headers["x-content-type-options"] == "nosniff"
    assert client.get("/api/project").headers["cache-control"] == "no-store"


def test_a_flood_is_cut_off(client: TestClient) -> None:
    data = b" " * (LARGEST_BODY + 1)
    answer = client.put("/api/sessions/s/parts/1", content=data, headers={"content-type": "application/json"})
    assert answer.status_code == 413
