"""What a limited tenant is told of its limits: OpenAI's headers, on every answer."""

import re
from typing import Any, NamedTuple

import pytest

from engine.model.vectors import EmbeddingSizes
from gateway.openai.responses.headers import duration
from policies.admission.keys import new_key
from tests.actors.fakes import CONFIG, says, stage
from tests.gateway.endpoints.test_refusal_log import CHAT, SETTINGS, START, bearer
from tests.gateway.fakes import FakeService
from tests.gateway.harness import connected, gateway

NAMES = [f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")]
DURATION = re.compile(r"(\d+h)?(\d+m)?\d+(\.\d+)?s|\d+ms")
FREE = new_key("free", bytes(range(3, 41)), "free")
HASH = FREE.settings.hash
OTHERS = f"""
[[keys]]
id = "free"
tenant = "free"
hash = "{HASH}"
[tenants.free]
concurrent = 9
"""
APP = new_key("acme", bytes(range(38)), "app").raw
POOR = new_key("poor", bytes(range(1, 39)), "poor").raw
SCRIPTS = {"small": says("okay then", prompt=18), "large": says("okay then", prompt=18)}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0s"),
        (0, "0s"),
        (0.0001, "1ms"),
        (0.012, "12ms"),
        (0.9991, "1s"),
        (1, "1s"),
        (8.64, "8.64s"),
        (59.9999, "1m0s"),
        (60, "1m0s"),
        (360, "6m0s"),
        (61.2, "1m2s"),
        (3600, "1h0m0s"),
        (86_399.5, "24h0m0s"),
        (86_341, "23h59m1s"),
    ],
)
def test_durations_as_openai_writes_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
    assert DURATION.fullmatch(said)


class Asked(NamedTuple):
    body: object
    status: int
    path: str = "/v1/chat/completions"
    headers: str = ""

    @property
    def counted(self) -> bool:
        """It is a request of the minute's."""
        return self.status == 200


ANSWERS = [
    Asked(CHAT, 200),
    Asked({**CHAT, "stream": True}, 200),
    Asked({"model": "small", "prompt": [5] * 18, "max_tokens": 4}, 200, "/v1/completions"),
    Asked({"model": "mini", "input": "x"}, 200, "/v1/embeddings"),
    Asked({**CHAT, "temperature": 9}, 400),
    Asked(b"{", 400),
    Asked({**CHAT, "max_tokens": 9999}, 400),
    Asked({**CHAT, "model": "x"}, 404),
    Asked({**CHAT, "stream": True, "model": "x"}, 404),
    Asked({"model": "mini", "input": []}, 400, "/v1/embeddings"),
    Asked(CHAT, 400, headers=f"x-penstock-tags: {'a' * 99}\r\n"),
]


@pytest.mark.parametrize("asked", ANSWERS)
async def test_every_answer_of_a_limited_tenant(asked: Asked) -> None:
    async with (
        stage(SCRIPTS, settings=SETTINGS, encoders={"mini": EmbeddingSizes(8)}, step_s=0.001) as service,
        gateway(service.service) as running,
    ):
        answer = await (await running.connect()).request(asked.path, asked.body, headers=bearer(APP) + asked.headers)
        said = answer.headers
        assert answer.status == asked.status
        assert set(NAMES) <= set(said)
        assert (said["x-ratelimit-limit-requests"], said["x-ratelimit-limit-tokens"]) == ("20", "5000")
        assert said["x-ratelimit-remaining-requests"] == ("19" if asked.counted else "20")
        assert (int(said["x-ratelimit-remaining-tokens"]) < 5000) is asked.counted
        for of in ("requests", "tokens"):
            reset = said[f"x-ratelimit-reset-{of}"]
            assert DURATION.fullmatch(reset)
            assert (reset != "0s") is asked.counted


async def test_a_refusal_for_tokens_says_what_is_left() -> None:
    async with stage(SCRIPTS, settings=SETTINGS, step_s=0.001) as service, gateway(service.service) as running:
        client = await running.connect()
        answer = await client.request("/v1/chat/completions", CHAT, headers=bearer(POOR))
        assert answer.status == 429
        # Only tokens are limited, and the refusal has taken none.
        assert answer.headers["x-ratelimit-remaining-tokens"] == "10"
        assert not {name for name in answer.headers if name.startswith("x-ratelimit") and name.endswith("requests")}


async def test_what_was_not_used_comes_back_to_the_next_answer() -> None:
    async with stage(SCRIPTS, settings=SETTINGS, step_s=0.001) as service, gateway(service.service) as running:
        client = await running.connect()
        ask: dict[str, Any] = {**CHAT, "max_tokens": 400}
        first = await client.request("/v1/chat/completions", ask, headers=bearer(APP))
        used = first.json["usage"]["total_tokens"]
        refused = await client.request("/v1/chat/completions", {**ask, "temperature": 9}, headers=bearer(APP))
        # The settlement of the first is in the book, although it ended well and nobody else came.
        assert refused.headers["x-ratelimit-remaining-tokens"] == str(5000 - used)


async def test_who_is_not_limited_and_who_is_nobody_get_no_headers() -> None:
    async with stage(SCRIPTS, settings=SETTINGS + OTHERS, step_s=0.001) as service, gateway(service.service) as running:
        client = await running.connect()
        for key, status in ((FREE.raw, 200), ("penstock_app_wrong", 401), ("", 401)):
            answer = await client.request("/v1/chat/completions", CHAT, headers=bearer(key) if key else "")
            assert answer.status == status
            assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
    async with gateway(FakeService()) as running:
        answer = await (await running.connect()).request("/v1/chat/completions", CHAT)
        assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


async def test_without_keys_the_limits_are_those_of_anonymous() -> None:
    settings = CONFIG + "[tenants.anonymous]\nrequests_per_minute = 3\n"
    async with stage(SCRIPTS, settings=settings, step_s=0.001) as service, gateway(service.service) as running:
        answer = await (await running.connect()).request("/v1/chat/completions", CHAT)
        assert answer.headers["x-ratelimit-remaining-requests"] == "2"
        assert "x-ratelimit-limit-tokens" not in answer.headers


async def test_over_a_socket_they_stand_in_started_and_in_errors() -> None:
    fields = {name.removeprefix("x-ratelimit-").replace("-", "_") for name in NAMES}
    async with stage(SCRIPTS, settings=SETTINGS + OTHERS, step_s=0.001) as service, gateway(service.service) as running:
        async with connected(running, [(b"authorization", b"Bearer " + APP.encode())]) as socket:
            await socket.send(START)
            started, *_, done = await socket.until("done")
            assert set(started["rate_limits"]) == fields
            assert started["rate_limits"]["remaining_requests"] == 19
            assert "rate_limits" not in done
            for wrong in ({**START, "top_p": 9}, {**START, "model": "x"}, {"type": "strat"}):
                await socket.send(wrong)
                (error,) = await socket.until("error")
                assert error["rate_limits"]["remaining_requests"] == 19
        async with connected(running, [(b"authorization", b"Bearer " + FREE.raw.encode())]) as socket:
            await socket.send(START)
            assert "rate_limits" not in (await socket.until("done"))[0]
