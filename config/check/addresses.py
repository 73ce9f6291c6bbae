"""Checks what says where another server is and with which key it is asked."""

import re
from urllib.parse import parse_qsl, urlsplit

from config.model.upstreams import SecretSource
from config.problems.problems import Problems
from config.problems.secrets import is_secret_name
from config.problems.source_map import Path

_SIGNATURES = frozenset({"sig", "signature", "code"})
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_url(here: Path, url: str, problems: Problems) -> bool:
    """Whether nothing was found to be wrong."""
    expected = "http:// or https://, a host, and a path such as /v1"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        problems.add(here, "this is not an address", expected=expected)
        return False
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or not url.isprintable() or " " in url:
        problems.add(here, "this is not an address", expected=expected)
    elif parts.username is not None or parts.password is not None:
        problems.add(here, "an address may not contain a user or password", expected="key = { env = ... }, or a header")
    elif any(is_secret_name(name) or name.lower() in _SIGNATURES for name, _ in parse_qsl(parts.query)):
        problems.add(here, "an address may not contain a key", expected="key = { env = ... }, and key_header")
    elif parts.fragment:
        problems.add(here, "an address may not contain a '#'", expected=expected)
    else:
        return True
    return False


def check_secret_source(path: Path, key: SecretSource | None, problems: Problems) -> None:
    """`path`: the key's."""
    if key is None:
        return
    if (key.env is None) == (key.file is None):
        got = "neither is given" if key.env is None else "both are given"
        problems.add(path, f"a key is in exactly one of 'env' and 'file'; {got}")
    elif key.env is not None and not _VARIABLE.fullmatch(key.env):
        # It may be the key itself, so the message does not quote it.
        problems.add(
            (*path, "env"), "this is not the name of an environment variable", expected="its name, not the key"
        )
