"""What probes read of a service whose parts fail."""

import trio

from engine.errors import EngineError
from tests.actors.fakes import CONFIG, stage

ONE_EACH = CONFIG.replace('[[ladders.small-first]]\nto = "large"\nmark = "fallback"\n', "")


def fails(number, batch) -> None:
    raise EngineError("device_lost", "the device fell off the bus")


async def test_a_model_is_ready_as_long_as_one_of_its_rungs_is(autojump_clock):
    async with stage(settings=ONE_EACH, load_s=2.0) as service:
        ready = service.service.readiness()
        assert {name: each.ready for name, each in ready.models.items()} == dict.fromkeys(
            ("small", "large", "both", "whole"), True
        )
        service.on_step["small"] = fails
        await service.ask("small")
        ready = service.service.readiness()
        assert (ready.ready, ready.state) == (True, "serving")
        assert not ready.models["small"].ready
        assert set(ready.models["small"].rungs.values()) <= {"failed", "loading"}
        assert ready.models["large"].ready
        assert ready.models["both"].ready
        service.on_step["large"] = fails
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.ask, "small")
            nursery.start_soon(service.ask, "large")
            await trio.sleep(1)
            ready = service.service.readiness()
            assert (ready.ready, ready.state) == (False, "no_rung_available")
            nursery.cancel_scope.cancel()
        service.on_step.clear()
        await trio.sleep(10)
        assert service.service.readiness().ready


async def test_an_open_breaker_is_no_way_to_a_model(autojump_clock):
    async with stage(settings=ONE_EACH) as service:
        await service.service.admin.breakers.force("small", "open", 60.0)
        ready = service.service.readiness()
        assert dict(ready.models["small"].rungs) == {"small": "breaker_open"}
        assert not ready.models["small"].ready
        assert ready.ready


async def test_nothing_is_ready_once_it_drains(autojump_clock):
    async with stage(settings=ONE_EACH) as service:
        await service.service.drain(trio.current_time())
        ready = service.service.readiness()
        assert (ready.ready, ready.state) == (False, "dead")
        assert not any(each.ready for each in ready.models.values())
