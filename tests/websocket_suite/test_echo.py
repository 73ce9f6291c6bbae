"""The endpoint that the suite talks to, and some cases of the suite where its runner is installed."""

from pathlib import Path

import pytest
import trio
from trio_websocket import open_websocket

from tests.patience import PATIENCE_S
from tests.websocket_suite.__main__ import GOOD, RUNNER, run
from tests.websocket_suite.echo import server


async def test_each_text_comes_back() -> None:
    serving = server()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(serving.run)
            async with open_websocket("127.0.0.1", serving.port, "/", use_ssl=False) as socket:
                for text in ("", "naïve 東京", "x" * 70_000):
                    await socket.send_message(text)
                    assert await socket.get_message() == text
            await serving.finish(0)
            nursery.cancel_scope.cancel()


@pytest.mark.skipif(not RUNNER.exists(), reason="kosoku is installed by `make websocket-suite`")
async def test_some_cases(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE_S):
        behaviors = await run(tmp_path, ("1.1.*", "5.*", "7.*"))
    assert len(behaviors) > 40
    assert GOOD.issuperset(behaviors.values())
