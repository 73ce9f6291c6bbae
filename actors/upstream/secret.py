"""An upstream's API key: read once at startup from the configured source, never printed."""

import os

from actors.api.errors import UpstreamKeyMissing
from config.model.upstreams import SecretSource

_MAX_LENGTH = 8192


class Secret:
    """A text that `repr` and `str` do not show."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text, for the request header only."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(...)"


def read_secret(upstream: str, source: SecretSource | None) -> Secret | None:
    """The key of the upstream of this name; None if it needs none. Raises UpstreamKeyMissing."""
    if source is None:
        return None
    if source.env is not None:
        where = f"the environment variable {source.env}"
        text = os.environ.get(source.env)
        if text is None:
            raise UpstreamKeyMissing(f"upstream '{upstream}': {where} is not set; it must hold the upstream's key")
    else:
        assert source.file is not None, "config.check lets exactly one of the two through"
        where = f"the file {source.file}"
        try:
            with source.file.open(encoding="ascii") as file:
                text = file.read(_MAX_LENGTH + 1)
        except OSError as error:
            raise UpstreamKeyMissing(f"upstream '{upstream}': {where} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            text = ""
    text = text.strip()
    if not text or len(text) > _MAX_LENGTH or not all("!" <= character <= "~" for character in text):
        raise UpstreamKeyMissing(
            f"upstream '{upstream}': {where} does not hold a key: one line of printable ASCII without spaces"
        )
    return Secret(text)
