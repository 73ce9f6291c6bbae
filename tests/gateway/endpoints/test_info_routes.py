"""Models, health, metrics and the page for people, through the same server."""

import importlib.metadata
import json
import shlex

from prometheus_client.parser import text_string_to_metric_families

from actors.api.errors import BadKey
from tests.gateway.fakes import FakeEngineReadiness, FakeModelReadiness, FakeReadiness, FakeService
from tests.gateway.harness import CHAT, gateway


async def test_models() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        listed = (await client.get("/v1/models")).json
        assert [each["id"] for each in listed["data"]] == ["penstock", "org/other"]
        assert listed["data"][0]["object"] == "model"
        assert [each["available"] for each in listed["data"]] == [True, False]
        assert (await client.get("/v1/models/org/other")).json["max_model_len"] == 512
        missing = await client.get("/v1/models/none")
        assert (missing.status, missing.error["code"]) == (404, "model_not_found")


async def test_a_page_of_models_is_for_clients_of_openai_too() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        for query, names in (("limit=1", ["penstock"]), ("after_id=penstock", ["org/other"]), ("other=1", None)):
            listed = (await client.get(f"/v1/models?{query}")).json["data"]
            assert [each["id"] for each in listed] == (names or ["penstock", "org/other"])
        for query in ("limit=null", "limit=0", "after_id=none"):
            refused = await client.get(f"/v1/models?{query}")
            assert (refused.status, refused.error["param"]) == (400, query.partition("=")[0])


async def test_health_tells_what_is_not_ready() -> None:
    service = FakeService()
    async with gateway(service) as running:
        client = await running.connect()
        assert (await client.get("/readyz")).status == 200
        service.ready = FakeReadiness(False, "loading", {"small": FakeEngineReadiness("failed", "no such file")})
        response = await client.get("/readyz")
        assert response.status == 503
        assert response.json["engines"] == {"small": {"state": "failed", "why": "no such file"}}
        assert response.json["models"] == {"small": True}
        assert (await client.get("/livez")).json == {"status": "ok"}


async def test_readiness_of_one_model() -> None:
    service = FakeService()
    service.ready.models["deep"] = FakeModelReadiness(False, {"large": "breaker_open"})
    async with gateway(service) as running:
        client = await running.connect()
        assert (await client.get("/readyz?model=small")).json["status"] == "ready"
        deep = await client.get("/readyz?model=deep")
        assert (deep.status, deep.json) == (
            503,
            {"status": "not ready", "state": "serving", "model": "deep", "rungs": {"large": "breaker_open"}},
        )
        missing = await client.get("/readyz?model=none")
        assert (missing.status, missing.error["code"]) == (404, "model_not_found")


async def test_what_tools_ask_before_they_measure() -> None:
    """Guidellm and vLLM's own benchmark ask /health, SageMaker /ping; none of them has a key for it."""

    def check_key(key: str | None) -> None:
        raise BadKey(missing=key is None)

    service = FakeService(check_key=check_key)
    async with gateway(service) as running:
        client = await running.connect()
        for path in ("/health", "/ping", "/health/", "/ping/"):
            answer = await client.get(path)
            assert (answer.status, answer.body) == (200, b"")
        await client.post("/ping", b"")
        assert (await client.response()).status == 200
        assert (await client.get("/version")).json == {"version": importlib.metadata.version("penstock")}
        service.ready = FakeReadiness(False, "loading", {})
        for path in ("/health", "/ping"):
            assert (await client.get(path)).status == 503
        await client.send(b"HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await client.head())[0] == 503


async def test_a_slash_at_the_end_changes_nothing() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        assert (await client.get("/v1/models/")).json["object"] == "list"
        for path in ("/v1/models/penstock", "/v1/models/penstock/", "/v1/models/org/other/"):
            assert (await client.get(path)).json["id"] in path
        assert (await client.request("/v1/chat/completions/", CHAT)).status == 200
        assert (await client.request("/v1/completions/", {"model": "m", "prompt": "x"})).status == 200
        assert (await client.get("/v1/chat/completions/")).status == 405


async def test_metrics_can_be_scraped() -> None:
    async with gateway(FakeService()) as running:
        response = await (await running.connect()).get("/metrics")
        assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = {each.name: each for each in text_string_to_metric_families(response.body.decode())}
        for prefix in ("penstock:", "vllm:"):
            running_now = families[prefix + "num_requests_running"].samples[0]
            labels = {"engine": "small", "model_name": "small", "replica": "0"}
            assert (running_now.labels, running_now.value) == (labels, 2)
            assert families[prefix + "kv_cache_usage_perc"].samples[0].value == 0.25
            for name, value in (("host", 5), ("swapped_out", 9), ("swapped_in", 4)):
                assert families[f"{prefix}kv_blocks_{name}"].samples[0].value == value
            for name in (
                "prefix_cache_queries",
                "prefix_cache_hits",
                "num_preemptions",
                "prompt_tokens",
                "generation_tokens",
                "spec_decode_num_draft_tokens",
                "spec_decode_num_accepted_tokens",
            ):
                assert families[prefix + name].type == "counter"
            ttft = {
                each.labels.get("le", each.name): each.value
                for each in families[prefix + "time_to_first_token_seconds"].samples
            }
            assert ttft == {
                "0.1": 3,
                "1.0": 5,
                "+Inf": 6,
                f"{prefix}time_to_first_token_seconds_count": 6,
                f"{prefix}time_to_first_token_seconds_sum": 4.5,
            }
        for name, value in (
            ("penstock:cost", 0.125),
            ("penstock:upstream_requests", 9),
            ("penstock:upstream_failures", 2),
            ("penstock:upstream_tokens", 70),
            ("penstock:upstream_running", 1),
            ("penstock:upstream_rests_seconds", 0.5),
            ("penstock:upstream_time_to_first_token_seconds", 3),
            ("penstock:budget_used_ratio", 0.25),
            ("penstock:cascade_large_share", 0.31),
            ("penstock:cascade_drifted", 1),
            ("penstock:cascade_spent_today", 1.5),
            ("penstock:experiment_requests", 9),
            ("penstock:experiment_bad", 2),
            ("penstock:experiment_rolled_back", 1),
            ("penstock:policy_notices", 1),
            ("penstock:actor_restarts", 6),
            ("penstock:auxiliary_off", 1),
        ):
            assert families[name].samples[0].value == value, name
        answered = families["penstock:requests"].samples[0]
        assert (answered.labels["rung"], answered.value) == ("small", 6)
        down = {each.labels["backend"]: each.value for each in families["penstock:backend_down"].samples}
        assert down == {"small": 0, "cloud": 1}
        states = {each.labels["state"]: each.value for each in families["penstock:breaker_state"].samples}
        assert states == {"closed": 0, "half_open": 1, "open": 0}
        assert families["penstock:connections"].samples[0].value == 1


HTML = "Accept: text/html,*/*;q=0.8\r\n"


async def test_a_browser_gets_the_console_and_others_get_text() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        page = await client.get("/", headers=HTML)
        assert (page.status, page.headers["content-type"], page.headers["vary"]) == (
            200,
            "text/html; charset=utf-8",
            "accept",
        )
        text = await client.get("/")
        assert (text.status, text.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert importlib.metadata.version("penstock") in text.body.decode()
        # A command that works as it stands: with a model that there is.
        command = shlex.split(text.body.decode().partition("Try it:\n")[2].partition("\n\n")[0])
        assert json.loads(command[command.index("-d") + 1])["model"] == "penstock"
        assert command[2] == "http://localhost/v1/chat/completions"
        head = await client.get("/livez")
        await client.send(b"HEAD /livez HTTP/1.1\r\nHost: t\r\n\r\n")
        _, headers = await client.head()
        assert headers["content-length"] == head.headers["content-length"]
        # No body came: what follows is the next answer.
        assert (await client.get("/livez")).status == 200


async def test_the_console_needs_no_key_and_tells_nothing_that_needs_one() -> None:
    def check_key(key: str | None) -> None:
        if key != "right":
            raise BadKey(missing=key is None)

    async with gateway(FakeService(check_key=check_key)) as running:
        client = await running.connect()
        for key in ("", "Authorization: Bearer wrong\r\n"):
            assert (await client.get("/", headers=HTML + key)).status == 200
            text = (await client.get("/", headers=key)).body.decode()
            assert "authorization: Bearer $PENSTOCK_KEY" in text
            assert '"penstock"' not in text
            assert "MODEL" in text
        assert "MODEL" not in (await client.get("/", headers="Authorization: Bearer right\r\n")).body.decode()


async def test_metrics_ask_for_a_key_of_their_own() -> None:
    def check_scraper(key: str | None) -> None:
        if key != "scraper":
            raise BadKey(missing=key is None)

    async with gateway(FakeService(check_scraper=check_scraper)) as running:
        client = await running.connect()
        assert (await client.get("/metrics")).status == 401
        assert (await client.get("/metrics", headers="Authorization: Bearer scraper\r\n")).status == 200


async def test_everything_but_health_needs_a_key_where_there_are_keys() -> None:
    def check_key(key: str | None) -> None:
        if key != "right":
            raise BadKey(missing=key is None)

    async with gateway(FakeService(check_key=check_key)) as running:
        client = await running.connect()
        for path in ("/v1/models", "/v1/models/penstock"):
            response = await client.get(path)
            assert (response.status, response.error["code"]) == (401, "invalid_api_key")
            assert response.headers["www-authenticate"].startswith("Bearer")
            assert (await client.get(path, headers="Authorization: Bearer wrong\r\n")).status == 401
            assert (await client.get(path, headers="Authorization: bearer right\r\n")).status == 200
        for path in ("/livez", "/readyz"):
            assert (await client.get(path)).status == 200
