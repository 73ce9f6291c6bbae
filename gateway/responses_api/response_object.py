"""The response object: what a whole answer is, and what the first and the last event of a stream contain."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from actors.api.errors import ErrorBody
from actors.api.request import AskedResponse, ParsedBody
from actors.api.response import Delta, Served, Usage
from gateway.openai.json_text import encode
from gateway.openai.responses.completion import Identity
from gateway.responses_api.output import ResponseOutput, Status
from gateway.responses_api.tools import custom_names

ID_PREFIX = "resp_"
ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
_CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}
_LAST_ITEM: Mapping[str, Status] = {"queued": "in_progress", "in_progress": "in_progress", "completed": "completed"}
_ERROR_CODES = {429: "rate_limit_exceeded", 400: "invalid_prompt", 422: "invalid_prompt"}
"""The API has few codes, and clients may know no others."""


class ResponseObject:
    """Makes the objects of one response."""

    def __init__(self, identity: Identity, body: ParsedBody) -> None:
        asked = asked_of(body)
        self.id = ID_PREFIX + identity.request_id
        self.output = ResponseOutput(identity.request_id, custom_names(asked.fields["tools"]))
        self._created = identity.created
        self._head = {
            "id": self.id,
            "object": "response",
            "created_at": identity.created,
            "model": identity.model,
        }
        self._fields = asked.fields

    def fields(
        self,
        status: ResponseStatus,
        *,
        usage: Usage | None = None,
        served: Served | None = None,
        error: ErrorBody | None = None,
    ) -> dict[str, Any]:
        """The object with the output so far."""
        output = self.output
        cut = _CUT.get(output.finish_reason or "") if status == "incomplete" else None
        return {
            **self._head,
            "status": status,
            "completed_at": self._completed_at(served) if status == "completed" else None,
            "error": None if error is None else _error_fields(error),
            "incomplete_details": None if cut is None else {"reason": cut},
            **self._fields,
            **({} if output.service_tier is None else {"service_tier": output.service_tier}),
            "output": output.fields(_LAST_ITEM.get(status, "incomplete")),
            "usage": None if usage is None else usage_fields(usage),
            **({} if served is None else {"penstock": served}),
        }

    def ended(self, usage: Usage, served: Served) -> dict[str, Any]:
        """The object of a whole answer."""
        if not self.output.items and not self.output.is_cut:
            self.output.text()
        return self.fields(self.end_status, usage=usage, served=served)

    def _completed_at(self, served: Served | None) -> int:
        """The same each time that this answer is read."""
        timings = None if served is None else served.timings
        if timings is None:
            return self._created
        parts = (timings.queue_ms, timings.prefill_ms, timings.decode_ms)
        return self._created + round(sum(each for each in parts if each is not None) / 1000)

    @property
    def end_status(self) -> Literal["incomplete", "completed"]:
        return "incomplete" if self.output.is_cut else "completed"


class WholeResponse:
    """Collects the output of a response that is not streamed."""

    def __init__(self) -> None:
        self._deltas: list[Delta] = []
        self.echo = ""

    def take(self, delta: Delta) -> None:
        self._deltas.append(delta)

    def body(self, identity: Identity, usage: Usage, served: Served, body: ParsedBody) -> bytes:
        made = ResponseObject(identity, body)
        for delta in self._deltas:
            made.output.take(delta)
        return encode(made.ended(usage, served))


def response_body(
    identity: Identity, choices: Sequence[WholeResponse], usage: Usage, served: Served, body: ParsedBody
) -> bytes:
    """The body of a response; it has one choice."""
    return choices[0].body(identity, usage, served, body)


def asked_of(body: ParsedBody) -> AskedResponse:
    """What a request for a response always has."""
    assert body.response is not None
    return body.response


def usage_fields(usage: Usage) -> dict[str, Any]:
    """The API's `usage`."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _error_fields(error: ErrorBody) -> Mapping[str, Any]:
    """Our own code is `reason`."""
    fields = error.fields()
    return {**fields, "code": _ERROR_CODES.get(error.status, "server_error"), "reason": error.code}
