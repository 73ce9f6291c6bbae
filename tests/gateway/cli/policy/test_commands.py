"""`penstock policy explain`, `test` and `diff`: what they print, and what they refuse."""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.load import load_settings
from gateway.cli.main import main
from policies.authoring.decision import Decider
from policies.authoring.situation import Situation
from policies.model.plan import AttemptRecord, Plan
from policies.records.decision_record import DecisionRecord, TokenCounts, decision_record, encode_record
from tests.policies.authoring.test_explanation import POLICY, asking

BODY = {
    "model": "chat",
    "messages": [{"role": "user", "content": "Hello"}, {"role": "user", "content": "Explain why 17 + 25 must be 42."}],
    "max_tokens": 50,
    "stream": True,
}


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return path


@pytest.fixture
def body(tmp_path: Path) -> Path:
    path = tmp_path / "body.json"
    path.write_text(json.dumps(BODY))
    return path


def said(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    assert main(["policy", *map(str, arguments)]) == status
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.out if status == 0 else captured.out + captured.err


# --- explain ---------------------------------------------------------------------------------------------------------


def test_explain_prints_the_whole_way(capsys: pytest.CaptureFixture[str], policy: Path, body: Path) -> None:
    out = said(
        capsys, "explain", "--config", policy, "--request", body, "--tenant", "acme", "--tag", "support",
        "--unit", "x", "--load", "large.queue_wait=300ms",
    )  # fmt: skip
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 100
    for part in (
        "route support-chat, arm control: starts on small and may escalate",
        "✓ tagged support",
        "0.0 % of 50 a day used; when spent: small_only",
        "reasoning +0.6",
        "✗ queue_wait_over_slo of large 0.6 < 0.8",
        "if queue_wait_over_slo of large >= 0.8  (now 0.6)",
        "deadlines: first token 2s, total 1m after the arrival; at most 1s in a queue, 5s between",
        "a rung refuses at once if its first token is expected after more than 2s",
        "no tokenizer on this machine: prompt tokens are estimated",
        "2 further routes were not evaluated",
    ):
        assert part in out, out


def test_explain_as_data(capsys: pytest.CaptureFixture[str], policy: Path, body: Path) -> None:
    found = json.loads(
        said(capsys, "explain", "--config", policy, "--request", body, "--turn", "7", "--prompt-tokens", "9", "--json")
    )
    assert found["outcome"]["route"] == "everything-else"
    features = found["features"]
    assert (features["turn"], features["prompt_tokens"], features["max_tokens"]) == (7, 9, 50)
    assert (features["has"], features["tenant"], features["tier"]) == (["stream"], "anonymous", "batch")
    assert [route["taken"] for route in found["routes"]] == [False, False, True]


def test_explain_reads_bodies_as_the_server_does(
    capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path
) -> None:
    def features(body: dict[str, Any], *arguments: object) -> dict[str, Any]:
        path = tmp_path / "asked.json"
        path.write_text(json.dumps(body))
        found = json.loads(said(capsys, "explain", "--config", policy, "--request", path, *arguments, "--json"))
        return dict(found["features"])

    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    asked = features({**BODY, "stream": False, "n": 2, "seed": 1, "tools": [tool], "user": "u"})
    assert (asked["has"], asked["choices"], asked["turn"]) == (["choices", "seed", "tools"], 2, 2)
    assert (asked["user"], asked["complexity"] > 0.1) == ("u", True)
    text = features({"model": "chat", "prompt": "Once upon a time", "max_tokens": 3})
    assert (text["path"], text["max_tokens"], text["turn"]) == ("/v1/completions", 3, 1)
    told = features(BODY, "--has", "schema", "--complexity", "0.9", "--max-tokens", "1")
    assert (told["has"], told["complexity"], told["max_tokens"], told["turn"]) == (["schema"], 0.9, 1, 2)


EVERY_API: tuple[tuple[str | None, dict[str, Any], dict[str, Any]], ...] = (
    (
        "/v1/messages",
        {"model": "chat", "max_tokens": 7, "system": "Be brief.", "messages": BODY["messages"]},
        {"path": "/v1/messages", "max_tokens": 7, "turn": 1},  # messages in a row are one turn there
    ),
    (
        None,
        {"model": "chat", "input": "Hello", "instructions": "Be brief.", "max_output_tokens": 9, "stream": True},
        {"path": "/v1/responses", "max_tokens": 9, "has": ["stream"]},
    ),
    ("/v1/responses", {"model": "chat", "input": "Hello"}, {"path": "/v1/responses", "turn": 1}),
    ("/v1/moderations", {"input": ["a", "b"]}, {"path": "/v1/moderations", "model": "chat", "choices": 2}),
    ("/v1/moderations", {"model": "m", "input": "a"}, {"path": "/v1/moderations", "model": "chat"}),
)


def test_explain_reads_the_bodies_of_every_api(
    capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path
) -> None:
    table = '[moderations.m]\nmodel = "chat"\n[moderations.m.categories.hate]\nlabels = ["toxic"]\n'
    policy.write_text(f"{POLICY}\n{table}")
    for path, body, expected in EVERY_API:
        file = tmp_path / "asked.json"
        file.write_text(json.dumps(body))
        arguments = ["--path", path] if path else []
        out = json.loads(said(capsys, "explain", "--config", policy, "--request", file, *arguments, "--json"))
        assert {name: out["features"].get(name) for name in expected} == expected
        # A model of text makes no scores, which a moderation needs.
        assert bool(out["rungs"]) is (path != "/v1/moderations")


def test_explain_names_an_unknown_moderation(capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path) -> None:
    file = tmp_path / "asked.json"
    file.write_text('{"model": "n", "input": "a"}')
    arguments = ("explain", "--config", policy, "--request", file, "--path", "/v1/moderations")
    assert "This server has no moderation" in said(capsys, *arguments, status=2)


def test_explain_refuses_in_words(capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path) -> None:
    def complaint(*arguments: object) -> str:
        return said(capsys, "explain", "--config", policy, *arguments, status=2)

    assert "the policy has no 'amce'; did you mean 'acme'?" in complaint("--tenant", "amce")
    assert "'large.queue_wait=long' is not" not in complaint("--load", "large.queue_wait=long")
    assert "is not a duration" in complaint("--load", "large.queue_wait=long")
    assert "did you mean 'queue_wait'?" in complaint("--load", "large.queue_wit=3s")
    assert "expected RUNG.KEY=VALUE" in complaint("--load", "large=3s")
    assert "'maybe' is not true or false" in complaint("--load", "large.healthy=maybe")
    assert "expected NAME=VALUE" in complaint("--header", "x")
    assert "expected one with a zone" in complaint("--time", "2026-01-01")
    assert "cannot be read" in complaint("--request", tmp_path / "no.json")
    bad = tmp_path / "bad.json"
    bad.write_text('{"model": "chat", "mesages": []}')
    assert "mesages" in complaint("--request", bad)
    bad.write_text("[1]")
    assert "not a JSON object" in complaint("--request", bad)


@pytest.mark.parametrize(
    "flag",
    [
        "--prompt-tokens=-1",
        f"--prompt-tokens={2**70}",
        "--max-tokens=-1",
        "--turn=0",
        "--complexity=3",
        "--code=-0.1",
        "--code=nan",
        "--budget-used=nan",
        "--budget-used=-1",
        "--language=english",
        "--path=/v1/foo",
        "--load=large.kv_usage=5",
        "--load=large.kv_usage=nan",
        "--load=large.running=-1",
        "--busy=exact",
    ],
)
def test_explain_takes_what_a_test_in_the_file_takes(
    capsys: pytest.CaptureFixture[str], policy: Path, flag: str
) -> None:
    policy.write_text(policy.read_text() + CASCADE)
    try:
        status = main(["policy", "explain", "--config", str(policy), flag])
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status == 2
    assert flag.partition("=")[0] in capsys.readouterr().err


CASCADE = """
[cascades.exact]
stages = ["small", "large"]
defer = { threshold = 1.0 }
on_failure = "safe"
"""


@pytest.mark.parametrize(
    ("quota", "flags", "refused"),
    [
        ("per_minute = 250", ("--max-tokens", "200"), "tokens_per_minute_exceeded"),
        ("per_minute = 300", ("--max-tokens", "200"), ""),
        ("per_day = 299", ("--max-tokens", "200"), "tokens_per_day_exceeded"),
        # How much an engine that is not on this machine can make is not known.
        ("per_minute = 101", (), ""),
        ("per_minute = 100", (), "tokens_per_minute_exceeded"),
    ],
)
def test_explain_tells_of_a_request_that_no_quota_ever_allows(
    capsys: pytest.CaptureFixture[str], policy: Path, quota: str, flags: tuple[str, ...], refused: str
) -> None:
    policy.write_text(f"{policy.read_text()}\n[tenants.small]\ntokens = {{ {quota} }}\ntier = 'interactive'\n")
    arguments = ("explain", "--config", policy, "--tenant", "small", "--prompt-tokens", "100", *flags, "--json")
    found = json.loads(said(capsys, *arguments))
    assert (found["outcome"]["refused"] or "") == refused


@contextlib.contextmanager
def admin(answers: dict[str, bytes]) -> Iterator[tuple[str, list[str | None]]]:
    """A server that has these records, and the keys that it was asked with."""
    keys: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.append(self.headers["authorization"])
            found = answers.get(self.path)
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(found or b"")

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", keys
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def record(policy: Path, situation: Situation) -> DecisionRecord:
    decider = Decider(load_settings(policy), {"small": "t", "large": "t"})
    plan = decider.decide(situation)
    assert isinstance(plan, Plan)
    made = decision_record(
        request_id="r1", arrived_at=0.0, policy=decider.policy.digest, features=situation.features,
        load=situation.load, plan=plan,
    )  # fmt: skip
    tried = (AttemptRecord("small", "escalated", "low_margin"), AttemptRecord("large", "answered", "asked_for"))
    return msgspec.structs.replace(
        made, attempts=tried, outcome="ok", rung="large", statistic=0.12, tokens=TokenCounts(prompt=9, completion=4)
    )


def test_explain_a_real_request(
    capsys: pytest.CaptureFixture[str], policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_ADMIN_KEY", "k")
    made = record(policy, asking(tenant="acme", tag=("support",)))
    with admin({"/admin/decisions/r1": encode_record(made)}) as (url, keys):
        out = said(capsys, "explain", "--config", policy, "--id", "r1", "--admin", url)
        for part in (
            "What happened to r1",
            "ok, answered by large",
            "1. small: escalated (low_margin)",
            "the cascade's statistic 0.12",
            "✓ tagged support",
        ):
            assert part in out
        assert "note: it was decided by" not in out
        assert "decided then" not in out
        assert keys == ["Bearer k"]
        assert "has no record of r2" in said(
            capsys, "explain", "--config", policy, "--id", "r2", "--admin", url, status=1
        )
        policy.write_text(POLICY.replace("threshold = 0.46", "threshold = 0.5"))
        assert f"note: it was decided by policy {made.policy}" in " ".join(
            said(capsys, "explain", "--config", policy, "--id", "r1", "--admin", url).split()
        )
    assert "Connection refused" in said(capsys, "explain", "--config", policy, "--id", "r1", "--admin", url, status=1)
    assert "expected an address" in said(
        capsys, "explain", "--config", policy, "--id", "r1", "--admin", "file:///etc", status=2
    )


# --- test ------------------------------------------------------------------------------------------------------------

TESTS = """
[[tests]]
name = "long prompts of support are not for the small model"
given = { tenant = "acme", tag = ["support"], prompt_tokens = 9_000 }
expect = { route = "everything-else", first_rung = "large" }
[[tests]]
name = "support starts small"
given = { tenant = "acme", tag = ["support"], unit = "x" }
expect = { route = "support-chat", first_rung = "small", arm = "control", may_escalate = true }
"""
WRONG = """
[[tests]]
name = "nights go to the ladder"
given = { tag = ["job"], time = "2026-11-21T12:00:00+01:00" }
expect = { route = "nights", rungs = ["large"] }
"""


def test_a_policys_own_tests(capsys: pytest.CaptureFixture[str], policy: Path) -> None:
    assert "no [[tests]]" in said(capsys, "test", policy)
    policy.write_text(POLICY + TESTS)
    out = said(capsys, "test", policy)
    assert "✓ support starts small" in out
    assert "2 tests, 2 passed, 0 failed" in out


def test_a_test_that_fails_says_why(capsys: pytest.CaptureFixture[str], policy: Path) -> None:
    policy.write_text(POLICY + TESTS + WRONG)
    out = said(capsys, "test", policy, status=1)
    for part in (
        "✗ nights go to the ladder",
        'route  "nights"   "everything-else"',
        'rungs  ["large"]  ["large","small","static_answer"]',
        "decided: route everything-else: starts on large",
        "not route nights: time is sat 12:00, not 22:00 to 06:00 Europe/Berlin",
        "3 tests, 2 passed, 1 failed",
    ):
        assert part in out, out
    report = json.loads(said(capsys, "test", policy, "--json", status=1))
    assert (report["passed"], report["failed"]) == (2, 1)
    assert report["tests"][2]["differences"][0] == {"what": "route", "expected": "nights", "got": "everything-else"}


def test_the_embedded_policy_passes_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "test")


# --- diff ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def other(tmp_path: Path) -> Path:
    path = tmp_path / "other.toml"
    path.write_text(
        POLICY.replace("at_least = 4_000", "at_least = 2_000").replace("threshold = 0.46", "threshold = 0.3")
    )
    return path


def test_diff_in_words_and_shares(
    capsys: pytest.CaptureFixture[str], policy: Path, other: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "azure.csv"
    rows = [f"2023-11-16 18:15:4{second}.0000000,{tokens},20" for second, tokens in enumerate((100, 2500, 5000, 10))]
    trace.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    out = said(capsys, "diff", policy, other, "--trace", trace, "--samples", "500")
    assert max(map(len, out.splitlines())) <= 100
    for part in (
        "signal long: prompt_tokens.at_least 4000 → 2000",
        "cascade thrifty: defer.threshold 0.46 → 0.3",
        "Decisions over 500 generated requests",
        "support-chat → everything-else",
        "such as: chat, acme, support",
        "Decisions over the 4 requests of",
    ):
        assert part in out, out
    assert out == said(capsys, "diff", policy, other, "--trace", trace, "--samples", "500")


def test_diff_as_data(capsys: pytest.CaptureFixture[str], policy: Path, other: Path) -> None:
    found = json.loads(said(capsys, "diff", policy, other, "--samples", "200", "--json"))
    assert found["words"][0] == "signal long: prompt_tokens.at_least 4000 → 2000"
    assert (found["decides_the_same"], found["synthetic"]["requests"], found["trace"]) == (False, 200, None)
    same = json.loads(said(capsys, "diff", policy, policy, "--samples", "50", "--json"))
    assert (same["decides_the_same"], same["settings"], same["synthetic"]["aspects"]) == (True, [], [])


def test_diff_refuses_in_words(capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("hello\n")
    assert "this is no trace" in said(capsys, "diff", policy, policy, "--trace", bad, status=2)
    assert "must not be negative" in said(capsys, "diff", policy, policy, "--samples", "-1", status=2)
    assert "cannot be read" in said(capsys, "diff", policy, tmp_path / "no.toml", status=2)


# --- folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_is_as_good_as_a_file_to_the_other_commands(
    capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path
) -> None:
    folder, text = tmp_path / "policies", policy.read_text()
    folder.mkdir()
    head, mark, rest = text.partition("[[routes]]")
    (folder / "10-engines.toml").write_text(head)
    (folder / "20-routes.toml").write_text(f"schema = 1\n{mark}{rest}")
    asked = ("--model", "chat", "--tenant", "acme")
    whole = said(capsys, "explain", "--config", policy, *asked)
    assert said(capsys, "explain", "--config", folder, *asked) == whole
    test = '[[tests]]\nname = "chat"\ngiven = { model = "chat" }\nexpect = { route = "nights" }\n'
    (folder / "30-tests.toml").write_text(f"schema = 1\n{test}")
    assert "1 test, 0 passed, 1 failed" in said(capsys, "test", folder, status=1)
    assert "0.0 % decided differently" in said(capsys, "diff", folder, policy)
