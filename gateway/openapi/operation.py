"""What the API's description says of one address and method."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Schema = Mapping[str, Any]
JSON = "application/json"
EVENTS = "text/event-stream"
PLAIN = "text/plain"
HTML = "text/html"
BYTES = "application/octet-stream"
FORM = "multipart/form-data"

ErrorStyle = Literal["openai", "anthropic", "both"]
"""Whose format the errors have; both: by the header `anthropic-version`."""
KeyKind = Literal["client", "scraper", "operator", "none"]
Listener = Literal["api", "admin", "both"]


class OneOf(msgspec.Struct, frozen=True):
    """Any of these types."""

    types: tuple[Any, ...]


class Parameter(msgspec.Struct, frozen=True):
    """A part of the address, of the query or of the head."""

    name: str
    where: Literal["path", "query", "header"]
    schema: Schema
    text: str = ""
    example: Any = None


class AnswerForm(msgspec.Struct, frozen=True, kw_only=True):
    """What comes back where nothing is refused."""

    text: str
    content: Mapping[str, Any] = {}
    """By media type: a type, a `OneOf`, or a schema. For an event stream: the data of one event."""
    last_event: str = ""
    """The data of a stream's last event, if that is no JSON."""
    headers: tuple[str, ...] = ()
    """Beside those of every answer."""
    links: Mapping[str, Mapping[str, str]] = {}
    """By the name of another operation: where its parameters are found in this answer."""


class Parts(msgspec.Struct, frozen=True):
    """Objects in a field that are told apart by their `type` when the body is read."""

    owner: type[msgspec.Struct]
    field: str
    kinds: Mapping[str, type[msgspec.Struct]]
    default: str | None = None
    """The kind of an object without a `type`."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One address and method."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    """With names in braces."""
    name: str
    """Unique; names of generated functions."""
    tag: str
    summary: str
    text: str = ""
    """Markdown."""
    body: type[msgspec.Struct] | None = None
    """What is decoded from JSON, or the fields of a form."""
    needs: tuple[str, ...] = ()
    """Fields of the body that only this operation requires."""
    body_text: str = ""
    body_optional: bool = False
    body_media: str = JSON
    """JSON, a form, or the type of a text, `body` being None."""
    parts: tuple[Parts, ...] = ()
    examples: Mapping[str, Any] = {}
    """Bodies by a short name; each is answered without an error."""
    parameters: tuple[Parameter, ...] = ()
    answers: Mapping[int, AnswerForm]
    refused: frozenset[int] = frozenset()
    """Statuses of its errors, beside those of every request."""
    errors: ErrorStyle = "openai"
    key: KeyKind = "client"
    listener: Listener = "api"
    same_as: tuple[str, ...] = ()
    """Other addresses that do the same."""
