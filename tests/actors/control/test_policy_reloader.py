"""The policy is swapped between two requests; a bad one is refused; whoever has begun ends as it began."""

from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs

from actors.api.errors import BadKey, Unavailable
from actors.api.response import Done
from config.model.settings import Settings
from config.source import ConfigSource
from policies.admission.keys import new_key
from policies.lifecycle.reload import ReloadRefused, Swapped, Unchanged
from tests.actors.fakes import CONFIG, says, stage

OTHER = CONFIG.replace('name = "small"\nwhen', 'name = "tiny"\nwhen')
KEY = new_key("acme", bytes(range(38)), "app")
KEYS = f"""
[[keys]]
id = "app"
tenant = "acme"
hash = "{KEY.settings.hash}"
[tenants.acme]
tier = "{{tier}}"
concurrent = 5
[tiers.{{tier}}]
priority = 3
"""


def write(file: Path, text: str) -> None:
    file.write_text(text)


def read(file: Path) -> str:
    return file.read_text()


def remove(file: Path) -> None:
    file.unlink()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "service.toml"
    path.write_text(CONFIG)
    return path


async def test_a_good_file_is_swapped_and_whoever_has_begun_keeps_the_old_one(autojump_clock, file: Path):
    async with stage({"small": says("a long answer that takes its time")}, source=ConfigSource(file)) as service:
        before = service.service.policy
        running = await service.open("small")
        first = await running.next_events()
        write(file, OTHER)
        result = await service.service.admin.reload()
        assert isinstance(result, Swapped)
        assert (result.before, result.policy, result.changed) == (
            before,
            service.service.policy,
            ("routes.small", "routes.tiny"),
        )
        assert before != service.service.policy
        new = await service.ask("small")
        assert (new.start.route, new.end.served.policy) == ("tiny", result.policy)
        old = await service.read(running)
        assert isinstance(old.end, Done)
        assert (first[0].route, old.end.served.route, old.end.served.policy) == ("small", "small", before)
        assert service.service.statistics().policy.reloads_total == {"swapped": 1, "unchanged": 0, "refused": 0}


async def test_a_bad_file_is_refused_with_all_its_problems_and_the_last_good_one_serves_on(autojump_clock, file: Path):
    async with stage({"small": says("ok")}, source=ConfigSource(file)) as service:
        before = service.service.policy
        write(file, CONFIG.replace("retries = 1", "retrys = 1").replace('"large-only" }', '"large-onyl" }', 1))
        result = await service.service.admin.reload()
        assert isinstance(result, ReloadRefused)
        assert {problem.suggestion for problem in result.problems} == {"retries", "large-only"}
        assert service.service.admin.policy().last_refusal == result.problems
        assert (await service.ask("small")).end.served.policy == before == service.service.policy
        write(file, OTHER)
        assert isinstance(await service.service.admin.reload(), Swapped)
        assert service.service.admin.policy().last_refusal == ()


async def test_what_needs_a_restart_refuses_the_whole_file(autojump_clock, file: Path):
    async with stage(source=ConfigSource(file)) as service:
        write(file, OTHER.replace("max_running = 4", "max_running = 2", 1))
        result = await service.service.admin.reload()
        assert isinstance(result, ReloadRefused)
        assert [problem.where for problem in result.problems] == ["engines.small"]
        write(file, CONFIG + "# a remark\n")
        assert isinstance(await service.service.admin.reload(), Unchanged)


async def test_a_hole_in_the_checks_does_not_take_the_service_down(autojump_clock, file: Path):
    holes: list[str] = []

    def finish(settings: Settings) -> Settings:
        if holes:
            raise ZeroDivisionError(holes[0])
        return settings

    async with stage({"small": says("ok")}, source=ConfigSource(file, finish)) as service:
        holes.append("nobody thought of this")
        for _ in range(10):
            with capture_logs():
                result = await service.service.admin.reload()
            assert isinstance(result, ReloadRefused)
            assert "nobody thought of this" in result.problems[0].message
        assert (await service.ask("small")).text() == "ok"
        assert service.restarts["policy reloader"] == 0


async def test_a_changed_file_is_noticed_when_it_is_written(autojump_clock, file: Path):
    async with stage({"small": says("ok")}, source=ConfigSource(file)) as service:
        await trio.sleep(5)
        write(file, OTHER[: len(OTHER) // 2])
        await trio.sleep(1)
        write(file, OTHER)
        await trio.sleep(3)
        assert (await service.ask("small")).start.route == "tiny"
        # The half-written file was not even tried.
        assert service.service.statistics().policy.reloads_total == {"swapped": 1, "unchanged": 0, "refused": 0}
        remove(file)
        await trio.sleep(10)
        assert service.service.statistics().policy.reloads_total["refused"] == 1
        assert "cannot be read" in service.service.admin.policy().last_refusal[0].message
        write(file, OTHER)
        await trio.sleep(3)
        assert service.service.admin.policy().last_refusal == ()


async def test_a_file_that_changes_while_the_service_starts_is_noticed(autojump_clock, file: Path):
    def finish(settings: Settings) -> Settings:
        write(file, OTHER)
        return settings

    async with stage({"small": says("ok")}, source=ConfigSource(file, finish)) as service:
        await trio.sleep(5)
        assert (await service.ask("small")).start.route == "tiny"
        assert service.service.statistics().policy.reloads_total == {"swapped": 1, "unchanged": 0, "refused": 0}


async def test_a_file_whose_reader_fails_is_read_again(autojump_clock, file: Path):
    async with stage({"small": says("ok")}, source=ConfigSource(file)) as service:
        await trio.sleep(5)
        service.workers.reader_fails = True
        write(file, OTHER)
        await trio.sleep(25)
        assert service.service.statistics().policy.reloads_total == {"swapped": 0, "unchanged": 0, "refused": 3}
        service.workers.reader_fails = False
        await trio.sleep(11)
        assert (await service.ask("small")).start.route == "tiny"
        assert service.service.statistics().policy.reloads_total == {"swapped": 1, "unchanged": 0, "refused": 3}


async def test_a_tenant_and_a_tier_that_go_end_what_they_began(autojump_clock, file: Path):
    write(file, CONFIG + KEYS.format(tier="gold"))
    async with stage({"small": says("a long answer that takes its time")}, source=ConfigSource(file)) as service:
        # Four run, the fifth waits; the sixth has not begun to ask for an engine.
        running = [await service.open("small", api_key=KEY.raw) for _ in range(5)]
        answers = []
        async with trio.open_nursery() as nursery:
            for each in running:

                async def finish(each=each):
                    answers.append(await service.read(each))

                nursery.start_soon(finish)
            await trio.sleep(0.5)
            assert (
                service.service.statistics().queues["small"].requests > 0
                or service.service.statistics().queues["small"].inside == 5
            )
            write(file, CONFIG.replace('name = "small"\nwhen', 'name = "tiny"\nwhen'))
            assert isinstance(await service.service.admin.reload(), Swapped)
            # Keyless now: the key is not looked at any more.
            assert (await service.ask("small")).start.route == "tiny"
        assert [answer.text() for answer in answers] == ["a long answer that takes its time"] * 5
        assert service.restarts == dict.fromkeys(service.restarts, 0)


async def test_a_key_that_is_taken_away_is_refused_at_once(autojump_clock, file: Path):
    write(file, CONFIG + KEYS.format(tier="gold"))
    async with stage({"small": says("ok")}, source=ConfigSource(file)) as service:
        assert (await service.ask("small", api_key=KEY.raw)).text() == "ok"
        other = new_key("acme", bytes(range(1, 39)), "other")
        write(file, read(file).replace('id = "app"', 'id = "other"').replace(KEY.settings.hash, other.settings.hash))
        assert isinstance(await service.service.admin.reload(), Swapped)
        refused = await service.ask("small", api_key=KEY.raw)
        assert refused.refusal.body.status == 401
        with pytest.raises(BadKey):
            service.service.clients.tenant_of(KEY.raw)
        assert (await service.ask("small", api_key=other.raw)).text() == "ok"


async def test_a_tenant_that_goes_while_its_request_is_being_let_in_is_refused(autojump_clock, file: Path):
    write(file, CONFIG + KEYS.format(tier="gold"))
    async with stage({"small": says("ok")}, source=ConfigSource(file)) as service:
        snapshot = service.service._router.snapshot
        write(file, CONFIG)
        assert isinstance(await service.service.admin.reload(), Swapped)
        # As if the swap had come between the look at the key and the reservation.
        service.service._router.snapshot = snapshot
        refused = await service.ask("small", api_key=KEY.raw)
        assert refused.refusal.body.code == "invalid_api_key"
        assert service.restarts["admission"] == 0


async def test_many_who_ask_at_once_are_bounded_and_swap_once(autojump_clock, file: Path):
    async with stage(source=ConfigSource(file)) as service:
        results: list[str] = []
        messages: set[str] = set()

        async def ask() -> None:
            try:
                results.append(type(await service.service.admin.reload()).__name__)
            except Unavailable as busy:
                results.append(busy.body.code)
                messages.add(busy.body.message)

        async with trio.open_nursery() as nursery:
            write(file, OTHER)
            for _ in range(50):
                nursery.start_soon(ask)
                service.service.admin.reload_soon("signal")
        assert set(results) <= {"Swapped", "Unchanged", "reload_busy"}
        assert "reload_busy" in results
        assert messages == {"A reload is already in progress; try again."}
        while len(service.service.admin._reloader):  # noqa: ASYNC110  (of what a signal asked for nobody hears)
            await trio.sleep(0.1)
        assert isinstance(await service.service.admin.reload(), Unchanged)
        assert service.service.statistics().policy.reloads_total["swapped"] == 1
