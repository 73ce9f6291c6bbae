"""Hundreds of streams on real sockets while the policy changes under them: none is lost, none changes its policy."""

from pathlib import Path

import trio

from config.source import ConfigSource
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.routes import Routes
from gateway.http.bounds.limits import ServerLimits
from gateway.http.server import Server, listen
from policies.admission.keys import new_key
from policies.lifecycle.reload import ReloadRefused, Swapped
from tests.actors.fakes import CONFIG, stage
from tests.gateway.harness import Client, Response, events
from tests.patience import PATIENCE_S

STREAMS, WAVES, TOKENS = 240, 6, 25
KEYS = [new_key(f"t{number}", bytes([number]) * 38, f"k{number}") for number in range(4)]
ROOM = CONFIG.replace("max_running = 4", "max_running = 250").replace("requests = 8", "requests = 500")


def policy(tenants: dict[int, str], *, route: str, large_first: bool = False) -> str:
    """Some of the tenants, each in a tier of its own or in the default one."""
    text = ROOM.replace('name = "small"\nwhen', f'name = "{route}"\nwhen')
    if large_first:
        text = text.replace('[[ladders.small-first]]\nto = "small"\nretries = 1\n', "")
    for number, tier in tenants.items():
        key = KEYS[number].settings
        text += f'\n[[keys]]\nid = "{key.id}"\ntenant = "{key.tenant}"\nhash = "{key.hash}"\n'
        text += f'[tenants.{key.tenant}]\ntier = "{tier}"\ntokens = {{ per_minute = 1_000_000 }}\n'
    for tier in {*tenants.values()} - {"default"}:
        text += f"[tiers.{tier}]\npriority = {len(tier)}\nqueue = {{ requests = 500 }}\n"
    return text


GOOD = [
    policy({0: "default", 1: "gold", 2: "gold", 3: "default"}, route="first"),
    policy({0: "gold", 1: "silver"}, route="second", large_first=True),
    policy({0: "silver", 1: "default", 2: "default", 3: "bronze"}, route="third"),
]
BAD = [GOOD[0][: len(GOOD[0]) // 2], GOOD[1].replace("ladder =", "lader ="), GOOD[2].replace(":memory:", "other.db")]


def write(file: Path, text: str) -> None:
    file.write_text(text)


async def test_no_stream_is_lost_and_none_changes_its_policy(tmp_path: Path) -> None:
    file = tmp_path / "service.toml"
    write(file, GOOD[0])
    answers: list[Response] = []
    refused: list[Response] = []
    async with stage(source=ConfigSource(file), blocks=8192, step_s=0.02) as service:
        routes = Routes(ApiContext(service=service.service, max_choices=4, max_inputs=4), ServerLimits(), frozenset())
        server = Server(listen("127.0.0.1", 0), ServerLimits(), routes)

        async def client(number: int) -> None:
            who = Client(await trio.open_tcp_stream("127.0.0.1", server.port))
            body = {
                "model": "small",
                "prompt": [5, 6, 7, 8],
                "stream": True,
                "max_tokens": TOKENS,
                "ignore_eos": True,
                "seed": number,
            }
            # The third and fourth tenant come and go.
            key = f"Authorization: Bearer {KEYS[number % 4].raw}\r\n"
            response = await who.request("/v1/completions", body, headers=key)
            (answers if response.status == 200 else refused).append(response)
            await who.aclose()

        def begun() -> int:
            statistics = service.service.statistics()
            return statistics.in_flight + sum(statistics.requests_total.values())

        results = []
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as serving:
                await serving.start(server.run)
                async with trio.open_nursery() as clients:
                    for wave in range(WAVES):
                        before = begun()
                        for number in range(STREAMS // WAVES):
                            clients.start_soon(client, wave * STREAMS + number)
                        # So many under this policy, on a busy machine, too.
                        while begun() < before + 10:  # noqa: ASYNC110  (their sockets are real)
                            await trio.sleep(0.01)
                        write(file, BAD[wave % 3])
                        results.append(await service.service.admin.reload())
                        write(file, GOOD[(wave + 1) % 3])
                        results.append(await service.service.admin.reload())
                await server.finish(PATIENCE_S)
        assert service.restarts == dict.fromkeys(service.restarts, 0)
    assert [type(each) for each in results] == [ReloadRefused, Swapped] * WAVES
    assert len(answers) + len(refused) == STREAMS
    # Only whoever came with a key that was gone was turned away.
    assert {response.error["code"] for response in refused} <= {"invalid_api_key"}
    assert len(refused) <= STREAMS // 4
    policies = {result.policy for result in results if isinstance(result, Swapped)}
    told = set()
    for response in answers:
        *chunks, done = events(response.body)
        assert done == "[DONE]"
        decided = response.headers["x-penstock-policy"]
        told.add(decided)
        assert {chunk["system_fingerprint"] for chunk in chunks} == {f"fp_{decided}"}
        last = chunks[-1]
        assert (last["choices"][0]["finish_reason"], last["penstock"]["policy"]) == ("length", decided)
        # Token ids of the vocabulary's end have no text, so choices are counted by their finish alone.
        route = response.headers["x-penstock-route"]
        assert route in {"first", "second", "third"}
    assert told == policies
