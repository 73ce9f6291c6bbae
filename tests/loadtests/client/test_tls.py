"""The client over TLS, with an authority of its own."""

import contextlib
import ssl
import time
from pathlib import Path

import pytest
import trio
import trustme

from config.model.table import Seconds
from loadtests.client import failures
from loadtests.model.lengths import Lengths
from loadtests.model.scenario import Arrivals, LoadTarget, RequestKind, Scenario
from loadtests.running.tally import WorkerTally
from loadtests.running.worker import Worker, WorkerShare
from tests.loadtests.scripted_server import Conversation, ScriptedServer, events


async def whole(conversation: Conversation) -> None:
    await conversation.stream_events(events(50))


@pytest.mark.parametrize("trusted", [True, False])
async def test_an_answer_over_tls(tmp_path: Path, trusted: bool) -> None:
    authority, other = trustme.CA(), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    (authority if trusted else other).cert_pem.write_to_path(tmp_path / "ca.pem")
    server = ScriptedServer(whole)

    async def serve(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await server.serve(trio.SSLStream(stream, context, server_side=True, https_compatible=True))

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        port = listener.socket.getsockname()[1]
        scenario = Scenario(
            schema=1,
            duration=Seconds(0.02),
            warm_up=Seconds(0),
            target=LoadTarget(url=f"https://127.0.0.1:{port}/v1", authorities=tmp_path / "ca.pem"),
            arrivals=Arrivals(kind="constant", rate=100),
            mix=(RequestKind(output=Lengths(exactly=50)),),
        )
        tally: WorkerTally = await Worker(WorkerShare(scenario, {}), lambda _: None).run(time.perf_counter())
        nursery.cancel_scope.cancel()
    assert {row.outcome for row in tally.rows} == {"ok" if trusted else failures.CONNECT_FAILED}
    if trusted:
        assert [row.output_tokens for row in tally.rows] == [50, 50]
        assert tally.lag.by_kernel
    else:
        assert "certificate" in tally.failures[0].example.lower()
