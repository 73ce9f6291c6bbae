"""Which failure stays where: every supervised child is killed at every kind of message that it handles.

Requests of all kinds are in flight, and operators are at work. Nothing may be lost: each reservation is settled, each
row of the ledger closed, each block free (`assert_clean`), and each client has an answer, or an error that the table
names. The faults come in through `ActorTypes`.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from actors.api.errors import Refusal
from actors.api.request import ChatMessage, ChatPrompt
from actors.api.response import Done
from actors.breakers.breakers import AskPermit
from actors.kernel.actor import Reply
from actors.kernel.errors import ServiceFailed
from actors.supervision_tree import ActorTypes
from config.source import ConfigSource
from engine.errors import EngineError
from policies.records.trace import read_trace
from tests.actors.fakes import CONFIG, Answer, Stage, says, stage
from tests.actors.upstream.network import Network
from tests.actors.upstream.network import says as upstream_says
from tests.sampling import named

TEXT = "the quick brown fox jumps over 0123456789"
HI = (ChatPrompt((ChatMessage("user", "Hi there"),)),)
TREE = (
    CONFIG.replace('stall = "30s"', 'stall = "1s"')
    .replace("[models.whole]", "[models.whole]\n[models.checked]\n[models.cloud]")
    .replace(
        "[[routes]]",
        """[upstreams.cloud]
urls = ["http://a/v1"]
model = "llama"
concurrent = 4
[[ladders.cloud-only]]
to = "cloud"
[[ladders.either]]
to = "large"
[[ladders.either]]
to = "small"
[[shadows]]
name = "try"
route = ["cloud"]
to = "large"
share = 1.0
concurrent = 2
[[experiments]]
name = "arms"
route = ["small"]
unit = "request"
arms = { control = 50, b = 50 }
override.b = { "routes.small.midstream" = "continue" }
[cascades.checked]
stages = ["small", "large"]
emit = { mode = "verified", draft_tokens = 64, off_above_batch = 16 }
on_failure = "large-only"
[[routes]]
name = "cloud"
when = { model = ["cloud"] }
use = { ladder = "cloud-only" }
[[routes]]
name = "checked"
when = { model = ["checked"] }
use = { cascade = "checked" }
[[routes]]""",
        1,
    )
    .replace("[[routes]]", "[retry_budget]\nat_least = 100\n[[routes]]", 1)
    .replace('on_failure = "large-only"', 'on_failure = "either"')
    .replace("\nuse = { ", '\nmidstream = "continue"\nuse = { ')
)
When = Literal["before", "after"]


class Crash(Exception):  # noqa: N818
    """A fault of ours."""


class Fault:
    """Kills an actor at messages of one kind: before it has handled them, or after."""

    def __init__(self, kind: str, when: When = "before", times: float = 1, only: str = "") -> None:
        """`only`: messages of this backend, or the actors of it."""
        self.kind = kind
        self.when = when
        self.left = times
        self.only = only
        self.struck = 0

    def strike(self, actor: Any, message: object, when: When) -> None:
        backend = getattr(message, "engine", getattr(getattr(actor, "_published", None), "name", ""))
        if self.only and self.only != backend:
            return
        if type(message).__name__ == self.kind and when == self.when and self.left > 0:
            self.left -= 1
            self.struck += 1
            raise Crash(f"at {self.kind}")


def with_fault(child: str, fault: Fault) -> ActorTypes:
    """The service's actors, of which one has a fault."""
    base = getattr(ActorTypes(), child)
    if child == "policy_reloader":

        class Reloads(base):  # type: ignore[misc,valid-type]
            async def on(self, message: Any) -> None:
                fault.strike(self, message, "before")
                await super().on(message)
                fault.strike(self, message, "after")

        return ActorTypes(policy_reloader=Reloads)

    class Faulty(base):  # type: ignore[misc,valid-type]
        def on(self, message: Any, *rest: Any) -> None:
            fault.strike(self, message, "before")
            super().on(message, *rest)
            fault.strike(self, message, "after")

    return msgspec.structs.replace(ActorTypes(), **{child: Faulty})


@asynccontextmanager
async def tree(tmp_path: Path, types: ActorTypes, **options: Any) -> AsyncIterator[Stage]:
    file = tmp_path / "service.toml"
    file.write_text(TREE)
    right = says(TEXT)

    def unsure(sample: Any) -> tuple[int, float]:
        """The small model: wrong in one place, so that a second draft is made, and unsure in another."""
        token_id, margin = right(sample)
        return (300 if sample.position == 9 else token_id), (0.1 if sample.position == 12 else margin)

    # Else each crash prints its traceback.
    with capture_logs():
        async with trio.open_nursery() as nursery:
            network = Network(nursery, {"a": upstream_says("Hel", "lo", "!", pause_s=0.4)})
            async with stage(
                {"small": unsure, "large": right},
                source=ConfigSource(file),
                network=network.connect,
                record=tmp_path / "trace.jsonl",
                actor_types=types,
                **options,
            ) as service:
                yield service
            nursery.cancel_scope.cancel()


class Crowd:
    """Clients and operators, all at once, and what each of them has seen."""

    def __init__(self, service: Stage, folder: Path, *, fails: bool) -> None:
        """`fails`: an engine fails meanwhile."""
        self.service = service
        self._fails = fails
        self.folder = folder
        self.seen: dict[str, str] = {}

    async def run(self) -> None:
        """Return when all have gone."""
        failing, began_at = iter([self._fails]), trio.current_time()

        def fails_once(number: int, batch: object) -> None:
            if trio.current_time() - began_at > 3 and next(failing, False):
                raise EngineError("device_lost", "the device fell off the bus")

        self.service.on_step["small"] = fails_once
        async with trio.open_nursery() as nursery:
            for name, model, options in (
                ("streamed", "small", {}),
                ("whole", "small", {"streamed": False, "ignore_eos": True, "max_tokens": 50}),
                ("long", "small", {"ignore_eos": True, "max_tokens": 50}),
                ("cascade", "both", {}),
                ("gate", "whole", {}),
                ("drafted", "checked", {}),
                ("cloud", "cloud", {"prompts": HI}),
            ):
                nursery.start_soon(self._client, name, model, options)
            nursery.start_soon(self._leaves, "leaves", "small", {"ignore_eos": True})
            nursery.start_soon(self._leaves, "cloud leaves", "cloud", {"prompts": HI})
            admin = self.service.service.admin
            for name, ask in (
                ("reload", admin.reload),
                ("roll back", lambda: admin.roll_back("arms")),
                ("adapter", self._adapter),
            ):
                nursery.start_soon(self._operator, name, ask)
        del self.service.on_step["small"]
        # Copies may still run, and alarms come after the last step, too.
        await trio.sleep(5)

    async def _client(self, name: str, model: str, options: dict[str, Any]) -> None:
        self.seen[name] = outcome(await self.service.ask(model, **options))

    async def _leaves(self, name: str, model: str, options: dict[str, Any]) -> None:
        try:
            response = await self.service.open(model, **options)
        except Refusal as refusal:
            self.seen[name] = refusal.body.code
            return
        try:
            await response.next_events()
            self.seen[name] = "left"
        except Refusal as refusal:
            self.seen[name] = refusal.body.code
        finally:
            response.close()

    async def _operator(self, name: str, ask: Callable[[], Any]) -> None:
        await trio.sleep(0.5)
        try:
            await ask()
            self.seen[name] = "done"
        except Refusal as refusal:
            self.seen[name] = refusal.body.code

    async def _adapter(self) -> None:
        adapters = self.service.service.admin.adapters
        await adapters.load("small", "legal", self.folder)
        await adapters.unload("small", "legal")


def outcome(answer: Answer) -> str:
    if answer.refusal is not None:
        return answer.refusal.body.code
    return "answered" if isinstance(answer.end, Done) else answer.end.error.code


def troubles(seen: dict[str, str]) -> dict[str, str]:
    return {name: each for name, each in seen.items() if each not in {"answered", "left", "done"}}


KINDS = {
    "ledger": ("OpenEntry", "CloseEntry", "WriteRollBack", "Flush", "FlushDue", "WorkerEvents"),
    "admission": ("Reserve", "Settle", "RestoreUsage"),
    "breakers": ("AskPermit", "Record"),
    "dispatcher": ("Enqueue", "Withdraw", "EngineUp", "EngineDown", "JobsFinished", "QueueAlarm"),
    "engine": ("StartJob", "CancelJob", "WorkerEvents", "StallAlarm", "Install", "Uninstall"),
    "upstream": ("StartJob", "CancelJob"),
    "recorder": ("RecordedRequest",),
    "shadows": ("Copy",),
    "policy_reloader": ("Reload",),
}
ACTORS = {"dispatcher": "dispatch", "upstream": "upstream cloud", "policy_reloader": "policy reloader"}
"""As supervisors name them."""
COSTS = {
    # Its task has waited for the answer, and nobody knows whether it took effect.
    ("admission", "Reserve"): {"admission_busy"},
    # The attempt is refused, and the route of the upstream has no other rung.
    ("dispatcher", "Enqueue"): {"no_rung_available"},
    # All calls of the upstream end with its actor.
    ("upstream", "StartJob"): {"no_rung_available"},
    ("upstream", "CancelJob"): {"no_rung_available"},
    # Whoever loads an adapter just then is told to try again.
    **{("engine", kind): {"engine_not_ready"} for kind in KINDS["engine"]},
}
"""What clients and operators may see of a crash at such a message. At all others everybody is answered."""


def charged(row: dict[str, Any]) -> int:
    """Of a tenant's quota."""
    used = row["prompt_tokens"] + row["completion_tokens"]
    return min(used + (row["discarded_tokens"] if row["outcome"] == "gone" else 0), row["reserved_tokens"])


def assert_the_books_agree(service: Stage) -> None:
    """Each request is in the file, in the totals and in its tenant's quota, once."""
    rows = [row for row in service.rows().values() if row["outcome"] != "refused"]
    usage: dict[tuple[str, str, str], tuple[int, int, int]] = {}
    for row in service.rows().values():
        key = (row["tenant"], row["rung"], row["outcome"])
        requests, prompt, completion = usage.get(key, (0, 0, 0))
        usage[key] = (requests + 1, prompt + row["prompt_tokens"], completion + row["completion_tokens"])
    assert service.service.statistics().usage == usage
    assert service.quota_use().spent_total == sum(charged(row) for row in rows if row["tenant"] == "anonymous")


CRASHES = [
    (f"{child} {when} {kind}", (child, kind, when))
    for child, kinds in KINDS.items()
    for kind in kinds
    for when in ("before", "after")
]
# What an answer, a row or a reservation would be lost with.
ALWAYS = [f"ledger before {kind}" for kind in ("OpenEntry", "CloseEntry", "WriteRollBack")]
ALWAYS += [f"dispatcher before {kind}" for kind in ("EngineUp", "EngineDown", "JobsFinished")]
ALWAYS += ["admission before Settle", "engine before StartJob", "upstream before StartJob", "shadows before Copy"]


@pytest.mark.sample(14, always=ALWAYS)
@pytest.mark.parametrize("crash", named(CRASHES))
async def test_a_crash_at_any_message_loses_nothing(autojump_clock, tmp_path, crash):
    child, kind, when = crash
    # The upstream's jobs, for the engine is going to fail, and that forgets all jobs that it had.
    fault = Fault(kind, when, only="cloud" if kind == "JobsFinished" else "")
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_text("weights")
    async with tree(tmp_path, with_fault(child, fault)) as service:
        # Where an engine is killed no other one fails: with both down no rung would be left.
        crowd = Crowd(service, folder, fails=child != "engine")
        with trio.fail_after(300):
            await crowd.run()
        assert fault.struck == 1
        assert len(crowd.seen) == 12
        trouble = troubles(crowd.seen)
        assert set(trouble.values()) <= COSTS.get((child, kind), set()), trouble
        assert len(trouble) <= (1 if child != "upstream" else 2), trouble
        assert (await service.ask("large")).text() == TEXT
        for model in ("small", "cloud"):
            assert outcome(await service.ask(model, prompts=HI)) == "answered"
        await service.assert_clean()
        assert_the_books_agree(service)
        roll_backs = [each.experiment for each in service.workers.store_file.spent(0.0).roll_backs]
        assert roll_backs == (["arms"] if crowd.seen["roll back"] == "done" else [])
        restarts = {name: count for name, count in service.service.statistics().actor_restarts_total.items() if count}
        assert restarts.pop(ACTORS.get(child, child), 1) == 1
        # The engine that fails, and the one that the test kills.
        assert restarts.keys() <= {"engine small", "engine large"}, restarts
        assert sum(restarts.values()) <= 1, restarts
        shadow = service.service.admin.shadows()["try"]
        assert (shadow.running, shadow.begun) == (0, shadow.answered + shadow.failed + shadow.cut)
    # Each request that a client has sent is in the recording once.
    assert len(read_trace(tmp_path / "trace.jsonl")) == 12


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("child", ["dispatcher", "engine"])
async def test_a_crash_at_a_draft_costs_nobody_the_answer(autojump_clock, tmp_path, child, when):
    fault = Fault("DraftTokens", when)
    async with tree(tmp_path, with_fault(child, fault)) as service:
        # Else the second draft comes too late to be of use.
        service.worker("small").step_s = 0.02
        answer = await service.ask("checked")
        assert fault.struck == 1
        assert (answer.text(), outcome(answer)) == (TEXT, "answered")
        await service.assert_clean()
        assert_the_books_agree(service)


CORE = [
    ("ledger", "OpenEntry"),
    ("admission", "Settle"),
    ("breakers", "Record"),
    ("dispatcher", "Enqueue"),
]


@pytest.mark.parametrize(("child", "kind"), CORE)
async def test_the_core_escalates(autojump_clock, tmp_path, child, kind):
    fault = Fault(kind, times=float("inf"))
    name = ACTORS.get(child, child)
    told = f"^core ended: {name} ended after 5 restarts within 60 s: at {kind}$"
    with pytest.RaisesGroup(pytest.RaisesExc(ServiceFailed, match=told), flatten_subgroups=True):
        async with tree(tmp_path, with_fault(child, fault), clean=False) as service:
            for _ in range(10):
                with trio.move_on_after(2):
                    await service.ask("small")
                    # Outcomes do not wake the breakers' actor, a question does.
                    service.service._breakers_mail.put_unbounded(AskPermit("small", False, Reply()))
    assert fault.struck == 6


async def test_timers_that_do_not_run_end_the_process(autojump_clock, tmp_path):
    class Broken(ActorTypes().timers):  # type: ignore[misc]
        async def run(self) -> None:
            raise Crash("at its start")

    with pytest.RaisesGroup(
        pytest.RaisesExc(ServiceFailed, match="core ended: timers ended after 5 restarts within 60 s: at its start"),
        flatten_subgroups=True,
    ):
        async with tree(tmp_path, ActorTypes(timers=Broken), clean=False):
            await trio.sleep_forever()


async def test_a_backend_past_its_intensity_is_down_and_the_others_serve_on(autojump_clock, tmp_path):
    fault = Fault("StartJob", times=float("inf"), only="small")
    async with tree(tmp_path, with_fault("engine", fault)) as service:
        seen = []
        with capture_logs() as logs:
            while service.service._tree.restarts["engine small"] < 5:
                seen.append(outcome(await service.ask("small")))
                await trio.sleep(0.5)
            seen.append(outcome(await service.ask("small")))
            await trio.sleep(0.1)
        assert set(seen) == {"answered"}
        (down,) = [each for each in logs if each["event"] == "backend_down"]
        assert (down["log_level"], down["backend"]) == ("error", "small")
        assert down["reason"] == "engine small ended after 5 restarts within 60 s: at StartJob"
        statistics, readiness = service.service.statistics(), service.service.readiness()
        assert statistics.backends_down == {"small": True, "large": False, "cloud": False}
        assert statistics.breakers == {"small": "open", "large": "closed", "cloud": "closed"}
        assert (readiness.ready, readiness.state) == (True, "serving")
        assert readiness.engines["small"].state == "failed"
        assert "marked down: engine small ended after 5 restarts" in str(readiness.engines["small"].why)
        # Nobody waits for its actor: work goes to the next rung at once, and an operator is told.
        answer = await service.ask("small")
        assert next((each.rung, each.why) for each in answer.end.served.attempts) == ("small", "breaker_open")
        assert (answer.text(), answer.end.served.rung) == (TEXT, "large")
        with trio.fail_after(1):
            with pytest.raises(Refusal) as refused:
                await service.service.admin.adapters.load("small", "legal", tmp_path)
        assert refused.value.body.code == "engine_not_ready"
        # It is tried again, still fails, and its pauses grow; when it is mended it serves again.
        tries = fault.struck
        await trio.sleep(31)
        assert service.service.readiness().engines["small"].state == "ready"
        assert not service.service.statistics().backends_down["small"]
        fault.left = 0
        assert (await service.ask("small")).end.served.rung == "small"
        assert fault.struck == tries


async def test_an_adapter_is_unloaded_from_a_backend_that_is_down_without_waiting_for_it(autojump_clock, tmp_path):
    fault = Fault("StartJob", times=6, only="small")
    (tmp_path / "adapter_model.safetensors").write_text("weights")
    async with tree(tmp_path, with_fault("engine", fault)) as service:
        await service.service.admin.adapters.load("small", "legal", tmp_path)
        while not service.service.statistics().backends_down["small"]:
            await service.ask("small")
            await trio.sleep(0.5)
        with trio.fail_after(0.1):
            await service.service.admin.adapters.unload("small", "legal")
        await trio.sleep(31)
        assert service.service.readiness().engines["small"].state == "ready"
        assert service.service.admin.adapters.views("small") == ()


async def test_with_no_backend_left_the_service_is_not_ready_and_comes_back(autojump_clock, tmp_path):
    fault = Fault("StartJob", times=float("inf"))
    one = with_fault("engine", fault)
    types = msgspec.structs.replace(one, upstream=with_fault("upstream", fault).upstream)
    async with tree(tmp_path, types) as service:
        seen, seeds = set(), count()
        while not all(service.service.statistics().backends_down.values()):
            for model in ("small", "large", "cloud"):
                # Each time another request: one that crashes two engines is quarantined.
                prompts, seed = HI if model == "cloud" else None, next(seeds)
                seen.add(outcome(await service.ask(model, prompts=prompts, seed=seed)))
            await trio.sleep(0.5)
        # As those that ran on small and on large, and crashed both.
        assert seen == {"no_rung_available", "request_quarantined"}
        readiness = service.service.readiness()
        assert (readiness.ready, readiness.state) == (False, "backends_down")
        assert not any(card.available for card in service.service.models())
        with trio.fail_after(1):
            refusal = (await service.ask("small")).refusal
        assert (refusal.body.status, refusal.body.code) == (503, "no_rung_available")
        assert 0 < refusal.body.retry_after_s <= 30
        fault.left = 0
        await trio.sleep(31)
        assert service.service.readiness().ready
        assert all(card.available for card in service.service.models())
        assert outcome(await service.ask("small")) == "answered"


async def test_a_recorder_past_its_intensity_is_off_and_the_service_serves_on(autojump_clock, tmp_path):
    fault = Fault("RecordedRequest", times=float("inf"))
    async with tree(tmp_path, with_fault("recorder", fault)) as service:
        with capture_logs() as logs:
            for _ in range(6):
                assert outcome(await service.ask("small")) == "answered"
                await trio.sleep(4)
        assert fault.struck == 6
        (off,) = [each for each in logs if each["event"] == "auxiliary_off"]
        assert (off["log_level"], off["auxiliary"]) == ("error", "recorder")
        assert off["reason"] == "recorder ended after 5 restarts within 60 s: at RecordedRequest"
        assert service.service.statistics().auxiliaries_off == {
            "recorder": True,
            "shadows": False,
            "kept answers": False,
            "batches": False,
            "stored responses": False,
            "policy reloader": False,
        }
        assert service.service.readiness().ready


async def test_shadows_past_their_intensity_are_off_and_no_copy_is_left(autojump_clock, tmp_path):
    fault = Fault("Copy", times=float("inf"))
    async with tree(tmp_path, with_fault("shadows", fault)) as service:
        for _ in range(8):
            assert outcome(await service.ask("cloud", prompts=HI)) == "answered"
            await trio.sleep(2)
        assert fault.struck == 6
        assert service.service.statistics().auxiliaries_off["shadows"]
        view = service.service.admin.shadows()["try"]
        assert (view.begun, view.cut, view.running, view.dropped) == (6, 6, 0, {"shutting_down": 2})


async def test_a_policy_reloader_past_its_intensity_is_off_and_says_so(autojump_clock, tmp_path):
    fault = Fault("Reload", times=float("inf"))
    async with tree(tmp_path, with_fault("policy_reloader", fault)) as service:
        admin = service.service.admin
        codes = []
        for _ in range(4):
            with trio.fail_after(10), pytest.raises(Refusal) as refused:
                await admin.reload()
            codes.append((refused.value.body.status, refused.value.body.code))
            await trio.sleep(2)
        # Each attempt is made twice: the second life gets it once more.
        assert codes == [(503, "reload_busy")] * 3 + [(503, "reloader_off")]
        with capture_logs() as logs:
            admin.reload_soon("signal")
        assert [(each["event"], each["log_level"]) for each in logs] == [("policy_reloader_off", "error")]
        assert service.service.statistics().auxiliaries_off["policy reloader"]
        assert outcome(await service.ask("small")) == "answered"


async def test_replicas_stand_in_for_each_other_until_all_of_them_fail(autojump_clock):
    text = CONFIG.replace('model = "small"', 'model = "small"\nreplicas = 2')
    fault = Fault("StartJob", times=0, only="small")
    with capture_logs() as logs:
        async with stage({"large": says(TEXT)}, settings=text, actor_types=with_fault("engine", fault)) as service:
            # Both have run for a whole period: one of them may fail as often as it likes.
            await trio.sleep(61)
            fault.left, seeds = 3, count()
            while fault.left:
                await service.ask("small", seed=next(seeds))
            await trio.sleep(61)
            assert not service.service.statistics().backends_down["small"]
            fault.left = float("inf")
            while not service.service.statistics().backends_down["small"]:
                # Those that crash both replicas are quarantined; while it restarts, the next rung answers.
                assert outcome(await service.ask("small", seed=next(seeds))) in {"answered", "request_quarantined"}
                await trio.sleep(0.5)
            states = {each.state for each in service.service.statistics().replicas["small"]}
            assert states == {"failed"}
            fault.left = 0
            await trio.sleep(31)
            assert service.service.readiness().engines["small"].state == "ready"
    assert [each["backend"] for each in logs if each["event"] == "backend_down"] == ["small"]
