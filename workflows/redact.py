"""Takes secrets out of text that is going to be shown or kept: logs, run records, outcomes, tables, reports."""

from __future__ import annotations

import re

HIDDEN = "***"
_USERINFO = re.compile(r"://[^/?#\s'\"]+@")
_SIGNATURE = re.compile(
    r"(?P<name>(?:[?&;#]|%3F|%26)(?:[\w-]{0,40}(?:signature|credential|secret|token|password|passwd|api_?key)"
    r"|awsaccesskeyid|googleaccessid|sig|auth(?:orization)?|jwt|key-pair-id|policy)(?:=|%3D))"
    r"(?:(?!%26)[^&#;\s'\"])+",
    re.IGNORECASE,
)
_ACCESS_KEY = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")


def redact(text: str) -> str:
    """The text without user names and passwords in addresses, values of signed queries, and AWS access keys."""
    text = _USERINFO.sub(f"://{HIDDEN}@", text)
    text = _SIGNATURE.sub(rf"\g<name>{HIDDEN}", text)
    return _ACCESS_KEY.sub(HIDDEN, text)


def require_no_secrets(address: str) -> None:
    """Raise ValueError, without repeating them, when an address holds a password, an access key or a signature."""
    shown = redact(address)
    if shown != address:
        raise ValueError(f"{shown[:500]}: an address holds no credentials; they come from the standard chain")
