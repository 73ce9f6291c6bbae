"""Makes the bytes of requests from their plans. Pure."""

from collections.abc import Mapping, Sequence

from actors.upstream.http.address import Address, address
from loadtests.client.request_bytes import Message, PreparedRequest, chat_messages, header_lines, prepared
from loadtests.model.scenario import Behaviour, RequestKind, Scenario
from loadtests.schedule.request_plan import RequestPlan

_PLAIN = Behaviour()


class RequestMaker:
    """`keys`: API keys by tenant; "": of requests without one."""

    def __init__(self, scenario: Scenario, mix: Sequence[RequestKind], keys: Mapping[str, str]) -> None:
        base = scenario.target.url.rstrip("/").removesuffix("/v1")
        self.addresses: dict[str, Address] = {
            "chat": address(base, "/v1/chat/completions"),
            "completions": address(base, "/v1/completions"),
        }
        self.socket_target = address(base, "/v1/stream").target
        self._model = scenario.target.model
        self._max_tokens_field = scenario.target.max_tokens_field
        self.behaviours = [scenario.behaviours.get(kind.behaviour, _PLAIN) for kind in mix]
        """By place in the mix, as `headers`."""
        self.headers = [
            header_lines(
                keys.get(kind.tenant) or keys.get(""),
                scenario.target.headers,
                scenario.tenants[kind.tenant].headers if kind.tenant in scenario.tenants else {},
                {"x-penstock-resumable": "true"} if behaviour.reconnect_after_tokens is not None else {},
                kind.headers,
            )
            for kind, behaviour in zip(mix, self.behaviours, strict=True)
        ]

    def make(self, plan: RequestPlan, turn: int, history: Sequence[Message]) -> PreparedRequest:
        """The request of one turn; `history`: the messages of those before it."""
        kind, this = plan.kind, plan.turns[turn]
        messages = chat_messages(plan.system, history, this.text)
        model = kind.model or self._model
        headers = self.headers[plan.kind_index]
        where = self.addresses[kind.endpoint]
        field = self._max_tokens_field
        return prepared(kind, model, messages, this.max_tokens, where, headers, max_tokens_field=field)


def trimmed(history: Sequence[Message], words: int) -> list[Message]:
    """The latest messages, of about so many words together; 0: all. It begins with a user's."""
    if not words:
        return list(history)
    kept: list[Message] = []
    for message in reversed(history):
        words -= message["content"].count(" ") + 1
        if words < 0:
            break
        kept.append(message)
    while kept and kept[-1]["role"] != "user":
        kept.pop()
    return kept[::-1]
