"""What the audit makes of pip-audit's answers."""

import json

import pytest

from tests.audit import verdict


def test_holes_are_named_and_fail(capsys: pytest.CaptureFixture[str]) -> None:
    found = [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1"}]}, {"name": "b", "version": "2", "vulns": []}]
    assert verdict(json.dumps({"dependencies": found}), "") == 1
    assert "a 1 has CVE-1" in capsys.readouterr().out
    assert verdict(json.dumps({"dependencies": found[1:]}), "") == 0


def test_an_index_without_a_list_is_no_clean_bill(capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(json.dumps({"dependencies": [{"name": "a", "skip_reason": "not found"}]}), "") == 0
    assert "SKIPPED, nothing was checked (the index knows of none of 1 packages" in capsys.readouterr().out


@pytest.mark.parametrize("out", ["", "{}", "no JSON"])
def test_no_answer_is_said_and_breaks_nothing(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(out, "cannot reach\nConnectionError: no network") == 0
    assert capsys.readouterr().out == ("audit: SKIPPED, nothing was checked (ConnectionError: no network)\n")
