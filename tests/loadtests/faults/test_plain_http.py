"""One request over a connection of its own."""

import pytest
import trio

from loadtests.faults.plain_http import ask
from tests.loadtests.scripted_server import serving


async def test_status_and_body() -> None:
    async def script(conversation) -> None:
        await conversation.answer({"ok": True}, more="connection: close\r\n")
        await conversation.stream.aclose()

    async with serving(script) as server:
        assert await ask("GET", f"{server.url}/readyz?x=1") == (200, '{"ok": true}')
        assert server.asked[0].target == "/readyz?x=1"


@pytest.mark.parametrize("data", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1\r\n\r\n"])
async def test_what_is_no_http(data: bytes) -> None:
    async def script(conversation) -> None:
        await conversation.send(data)
        await conversation.stream.aclose()

    async with serving(script) as server:
        with pytest.raises(OSError, match="no HTTP server"):
            await ask("POST", server.url)


async def test_silence_ends() -> None:
    async def script(conversation) -> None:
        await trio.sleep_forever()

    async with serving(script) as server:
        with pytest.raises(OSError, match=r"no answer in 0\.2 s"):
            await ask("GET", server.url, timeout_s=0.2)
