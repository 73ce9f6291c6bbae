"""A bare TCP relay on trio, the floor of a gateway: python -m benchmarks.upstream.gateways.relay PORT UPSTREAM_PORT.

It copies bytes in both directions and understands none of them.
"""

import sys

import trio

_READ_BYTES = 1 << 16
_BACKLOG = 4096


async def _copy(source: trio.SocketStream, target: trio.SocketStream) -> None:
    try:
        while data := await source.receive_some(_READ_BYTES):
            await target.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def serve(port: int, upstream_port: int) -> None:
    async def relay(client: trio.SocketStream) -> None:
        upstream = await trio.open_tcp_stream("127.0.0.1", upstream_port)
        async with client, upstream, trio.open_nursery() as nursery:

            async def copy(source: trio.SocketStream, target: trio.SocketStream) -> None:
                await _copy(source, target)
                nursery.cancel_scope.cancel()

            nursery.start_soon(copy, client, upstream)
            nursery.start_soon(copy, upstream, client)

    await trio.serve_tcp(relay, port, host="127.0.0.1", backlog=_BACKLOG)


if __name__ == "__main__":
    trio.run(serve, int(sys.argv[1]), int(sys.argv[2]))
