"""Adapters in the service: chosen by name or by policy, loaded, replaced and unloaded while it serves."""

from pathlib import Path

import pytest
import trio

from actors.api.errors import Conflict, InvalidRequest, NotFound
from actors.api.response import Done
from config.source import ConfigSource
from policies.lifecycle.reload import ReloadRefused, Swapped
from tests.actors.fakes import CONFIG, Stage, settings_of, stage

MODELS = CONFIG.replace("[models.small]", "[models.small]\nadapters = true")
ENGINE = """
[engines.small.adapters.legal]
path = "{legal}"
"""
RUNG = MODELS.replace('to = "small"\nretries = 1', 'to = "small"\nadapter = "legal"\nretries = 1')


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for name in ("legal", "newer", "sql"):
        found[name] = tmp_path / name
        found[name].mkdir()
        (found[name] / "adapter_model.safetensors").write_text(name)
    found["none"] = tmp_path / "none"
    return found


def config(text: str, folders: dict[str, Path]) -> str:
    return text + ENGINE.format(legal=folders["legal"])


async def tokens(service: Stage, model: str = "small") -> list[int]:
    answer = await service.ask(model, max_tokens=6, ignore_eos=True)
    assert isinstance(answer.end, Done), answer.refusal
    return answer.tokens()


async def test_a_client_asks_by_name(autojump_clock, folders):
    async with stage(settings=settings_of(config(MODELS, folders))) as service:
        plain = await service.ask("small", max_tokens=6, ignore_eos=True)
        legal = await service.ask("small:legal", max_tokens=6, ignore_eos=True)
        assert plain.tokens() != legal.tokens()
        assert (plain.start.adapter, plain.end.served.adapter) == ("", None)
        assert (legal.start.adapter, legal.end.served.adapter) == ("legal", "legal@1")
        record = service.service.admin.decision("r2")
        assert (record.adapter, record.plan.rungs[0].adapter, record.attempts[0].adapter) == (
            "legal@1",
            "legal",
            "legal",
        )
        assert record.features.model == "small"
        assert service.row("r2")["model"] == "small:legal"
        cards = {card.id: card.parent for card in service.service.models()}
        assert cards == {"small": None, "small:legal": "small", "large": None, "both": None, "whole": None}
        unknown = await service.ask("small:leagl")
        assert unknown.refusal.body.code == "model_not_found"
        assert "small:legal" in unknown.refusal.body.message
        # `large` says nothing of adapters, and its engine has none.
        assert (await service.ask("large:legal")).refusal.body.status == 404


async def test_a_ladder_names_one_and_goes_on_without_it(autojump_clock, folders):
    async with stage(settings=settings_of(config(RUNG, folders))) as service:
        legal = await service.ask("small", max_tokens=6, ignore_eos=True)
        assert legal.end.served.adapter == "legal@1"
        assert legal.tokens() == await tokens(service, "small:legal")
        await service.service.admin.adapters.unload("small", "legal")
        without = await service.ask("small", max_tokens=6, ignore_eos=True)
        assert (without.end.served.rung, without.end.served.adapter) == ("large", None)
        assert without.end.served.attempts[0].why == "adapter_not_loaded"
        assert (await service.ask("small:legal")).refusal.body.code == "model_not_found"


async def test_the_same_engine_without_its_adapter_is_the_next_rung(autojump_clock, folders):
    text = RUNG.replace("retries = 1\n", 'retries = 1\n[[ladders.small-first]]\nto = "small"\nmark = "plain"\n', 1)
    async with stage(settings=settings_of(config(text, folders))) as service:
        await service.service.admin.adapters.unload("small", "legal")
        answer = await service.ask("small", max_tokens=6, ignore_eos=True)
        assert (answer.end.served.rung, answer.end.served.mark) == ("small", "plain")


async def test_a_cascade_names_them_by_stage(autojump_clock, folders):
    text = MODELS.replace(
        '[cascades.gate]\nstages = ["small", "large"]',
        '[cascades.gate]\nstages = ["small", "large"]\nadapters = { small = "legal" }',
    )
    async with stage(settings=settings_of(config(text, folders))) as service:
        answer = await service.ask("whole", max_tokens=6, ignore_eos=True)
        first = answer.end.served.attempts[0]
        assert first.rung == "small"
        record = service.service.admin.decision("r1")
        assert record.attempts[0].adapter == "legal"
        assert record.plan.cascade.large.adapter == ""


async def test_whoever_has_begun_ends_with_the_version_it_began_with(autojump_clock, folders):
    async with stage(settings=settings_of(config(MODELS, folders))) as service:
        registry = service.service.admin.adapters
        old = await tokens(service, "small:legal")
        running = await service.open("small:legal", max_tokens=6, ignore_eos=True)
        events = await running.next_events()
        view = await registry.load("small", "legal", folders["newer"])
        assert (view.version, view.current, view.running) == (2, True, 0)
        # After a restart it would be the folder that the configuration names.
        assert not view.configured
        new = await service.ask("small:legal", max_tokens=6, ignore_eos=True)
        rest = await service.read(running)
        rest.events = events + rest.events
        assert rest.tokens() == old != new.tokens()
        assert (rest.end.served.adapter, new.end.served.adapter) == ("legal@1", "legal@2")
        assert [(each.version, each.running) for each in registry.views("small")] == [(2, 0)]


async def test_loading_and_unloading_under_load_loses_nothing(autojump_clock, folders):
    async with stage(settings=settings_of(config(MODELS, folders)), step_s=0.01) as service:
        registry = service.service.admin.adapters
        wanted = {}
        for version, folder in enumerate(("legal", "newer"), 1):
            if version > 1:
                await registry.load("small", "legal", folders[folder])
            wanted[version % 2] = await tokens(service, "small:legal")
        wanted[None] = await tokens(service)
        answers = []

        async def client(model: str) -> None:
            for _ in range(10):
                answers.append((model, await service.ask(model, max_tokens=6, ignore_eos=True)))

        async def operator() -> None:
            for round_ in range(20):
                await registry.load("small", "legal", folders["legal" if round_ % 2 == 0 else "newer"])
                await registry.load("small", "sql", folders["sql"])
                await trio.sleep(0.02)
                await registry.unload("small", "sql")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(operator)
            for model in ("small", "small:legal", "small:legal"):
                nursery.start_soon(client, model)
        assert len(answers) == 30
        versions = set()
        for _, answer in answers:
            assert isinstance(answer.end, Done)
            name = answer.end.served.adapter
            version = None if name is None else int(name.rpartition("@")[2])
            versions.add(version)
            assert answer.tokens() == wanted[None if version is None else version % 2]
        assert len(versions) > 4
        service.worker("small").engine.check_integrity()
        assert [(each.name, each.running) for each in registry.views("small")] == [("legal", 0)]
        await service.assert_clean()


async def test_a_bad_folder_is_refused_and_the_old_version_serves_on(autojump_clock, folders):
    async with stage(settings=settings_of(config(MODELS, folders))) as service:
        before = await tokens(service, "small:legal")
        with pytest.raises(InvalidRequest, match="holds no adapter") as refused:
            await service.service.admin.adapters.load("small", "legal", folders["none"])
        assert refused.value.body.code == "adapter_files"
        assert await tokens(service, "small:legal") == before


async def test_what_cannot_be_done_is_said(autojump_clock, folders):
    text = config(MODELS, folders).replace('model = "small"', 'model = "small"\nmax_adapters = 1', 1)
    async with stage(settings=settings_of(text)) as service:
        registry = service.service.admin.adapters
        with pytest.raises(Conflict, match="unload one"):
            await registry.load("small", "sql", folders["sql"])
        with pytest.raises(NotFound, match="no engine 'tiny'"):
            await registry.load("tiny", "sql", folders["sql"])
        with pytest.raises(NotFound, match="no adapter 'sql'"):
            await registry.unload("small", "sql")
        with pytest.raises(InvalidRequest, match="absolute"):
            await registry.load("small", "legal", Path("legal"))
        with pytest.raises(InvalidRequest, match="folder"):
            await registry.load("large", "sql", None)
        with pytest.raises(InvalidRequest, match="name"):
            await registry.load("small", "a:b", folders["sql"])
        (folders["legal"] / "adapter_model.safetensors").write_text("changed in place")
        assert (await registry.load("small", "legal", None)).version == 2


async def test_an_engine_comes_back_with_what_is_wanted_of_it(autojump_clock, folders):
    async with stage(settings=settings_of(config(MODELS, folders))) as service:
        registry = service.service.admin.adapters
        await registry.load("small", "sql", folders["sql"])
        await registry.load("small", "legal", folders["newer"])
        assert [each.configured for each in registry.views("small")] == [False, False]
        before = [await tokens(service, model) for model in ("small:legal", "small:sql")]
        (folders["sql"] / "adapter_model.safetensors").unlink()

        def fail(number, batch):
            service.on_step.clear()
            raise RuntimeError("a fault")

        service.on_step["small"] = fail
        await service.ask("small")
        await trio.sleep(10)
        assert len(service.workers.lives["small"]) == 2
        assert await tokens(service, "small:legal") == before[0]
        assert (await service.ask("small:legal")).end.served.adapter == "legal@2"
        # What cannot be read any more is missing, and nothing else.
        assert (await service.ask("small:sql")).refusal.body.code == "model_not_found"


async def test_a_configured_folder_that_is_none_ends_the_start(autojump_clock, folders):
    text = config(MODELS, {**folders, "legal": folders["none"]})
    with pytest.RaisesGroup(
        pytest.RaisesExc(Exception, match="adapter 'legal' cannot be loaded"), flatten_subgroups=True
    ):
        async with stage(settings=settings_of(text)):
            pass


async def test_a_changed_file_loads_before_it_decides_and_unloads_after(autojump_clock, folders, tmp_path):
    file = tmp_path / "service.toml"
    file.write_text(CONFIG)
    async with stage(source=ConfigSource(file)) as service:
        plain = await tokens(service)
        file.write_text(config(RUNG, folders))
        result = await service.service.admin.reload()
        assert isinstance(result, Swapped), result
        assert "engines.small.adapters" in result.changed
        legal = await tokens(service)
        assert legal != plain
        registry = service.service.admin.adapters
        assert [each.configured for each in registry.views("small")] == [True]
        await registry.load("small", "sql", folders["sql"])
        assert {each.name: each.configured for each in registry.views("small")} == {"legal": True, "sql": False}
        await registry.unload("small", "sql")
        file.write_text(config(RUNG, {**folders, "legal": folders["none"]}))
        refused = await service.service.admin.reload()
        assert isinstance(refused, ReloadRefused)
        assert "holds no adapter" in refused.problems[0].message
        assert await tokens(service) == legal
        file.write_text(CONFIG)
        assert isinstance(await service.service.admin.reload(), Swapped)
        assert await tokens(service) == plain
        assert service.service.admin.adapters.views("small") == ()


async def test_every_replica_has_them(autojump_clock, folders):
    text = config(MODELS, folders).replace('model = "small"', 'model = "small"\nreplicas = 2', 1)
    async with stage(settings=settings_of(text)) as service:
        registry = service.service.admin.adapters
        await registry.load("small", "legal", folders["newer"])
        answers = []

        async def client() -> None:
            answers.append(await service.ask("small:legal", max_tokens=6, ignore_eos=True))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(client)
        assert {answer.end.served.adapter for answer in answers} == {"legal@2"}
        assert len({tuple(answer.tokens()) for answer in answers}) == 1
        assert [(view.version, view.memory_bytes) for view in registry.views("small")] == [(2, 2 * len("newer"))]
        await registry.unload("small", "legal")
        assert (await service.ask("small:legal")).refusal.body.status == 404
