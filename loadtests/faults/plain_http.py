"""One request to a server over a connection of its own: is it ready, and reload."""

import contextlib
import ssl

import trio

from actors.upstream.http.address import address

_MOST_BYTES = 64 * 1024


async def ask(method: str, url: str, *, key: str = "", timeout_s: float = 10.0) -> tuple[int, str]:
    """The status, and the beginning of the body. Raises OSError."""
    where = address(url, "")
    lines = [f"{method} {where.target or '/'} HTTP/1.1", f"Host: {where.authority}", "Connection: close"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    if method == "POST":
        lines.append("Content-Length: 0")
    received = b""
    try:
        with trio.fail_after(timeout_s):
            stream: trio.abc.Stream = await trio.open_tcp_stream(where.host, where.port)
            async with contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(stream)
                if where.tls:
                    context = ssl.create_default_context()
                    stream = trio.SSLStream(stream, context, server_hostname=where.host, https_compatible=True)
                await stream.send_all("\r\n".join([*lines, "", ""]).encode())
                while len(received) < _MOST_BYTES and (data := await stream.receive_some(_MOST_BYTES)):
                    received += data
    except trio.TooSlowError:
        raise OSError(f"no answer in {timeout_s:g} s") from None
    except (trio.BrokenResourceError, ssl.SSLError) as error:
        raise OSError(str(error) or "the connection was lost") from None
    head, _, body = received.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise OSError("this is no HTTP server")
    return int(words[1]), body.decode(errors="replace")
