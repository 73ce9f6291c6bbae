"""Asks a server for files and batches, with errors that say what to do."""

import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO

import msgspec
import trio

from gateway.errors import CliError

_PATIENCE_S = 60.0
"""How long a server may be away: it may be restarted while its batch goes on."""
_RETRY_S = 1.0
_PIECE_BYTES = 1 << 20
_UPLOAD_S, _CALL_S = 600.0, 30.0


class BatchClient:
    """One server, by the OpenAI API. Raises CliError."""

    def __init__(self, url: str, key_env: str | None) -> None:
        """`key_env`: the environment variable with the API key; None: no key is sent."""
        self._url = url.rstrip("/")
        if not self._url.startswith(("http://", "https://")):
            raise CliError(f"--url {url}: an address such as http://127.0.0.1:8080", 2)
        if self._url.endswith("/v1"):
            self._url = self._url.removesuffix("/v1")
        self._headers: dict[str, str] = {}
        if key_env is not None:
            key = os.environ.get(key_env)
            if not key:
                raise CliError(f"--key-env {key_env}: this environment variable is not set", 2)
            self._headers["authorization"] = f"Bearer {key}"

    def upload(self, path: Path) -> str:
        """The id of the file."""
        boundary = token_hex(16)
        name = path.name.replace('"', "'")
        head = (
            f'--{boundary}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n'
            "content-type: application/jsonl\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        try:
            with path.open("rb") as file:
                headers = {
                    "content-type": f"multipart/form-data; boundary={boundary}",
                    "content-length": str(len(head) + path.stat().st_size + len(tail)),
                }
                request = self._request("POST", "/v1/files", _parts(head, file, tail), headers)
                return str(self._once(request, _UPLOAD_S)["id"])
        except urllib.error.URLError as error:
            raise self._gone(error) from None
        except OSError as error:
            raise CliError(f"{path} cannot be read: {error.strerror or error}", 2) from None

    def create(self, file_id: str, endpoint: str) -> dict[str, Any]:
        """The new batch."""
        body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h"}
        return self._ask("POST", "/v1/batches", body, patience_s=0.0)

    def batch(self, batch_id: str) -> dict[str, Any]:
        return self._ask("GET", f"/v1/batches/{batch_id}")

    def batches(self, limit: int) -> list[dict[str, Any]]:
        """The newest first."""
        found: list[dict[str, Any]] = self._ask("GET", f"/v1/batches?limit={limit}")["data"]
        return found

    def cancel(self, batch_id: str) -> dict[str, Any]:
        return self._ask("POST", f"/v1/batches/{batch_id}/cancel", {})

    def fetch(self, file_id: str, to: Path) -> None:
        """Write the content of a file."""
        part = to.with_name(f"{to.name}.part")
        try:
            with self._open(self._request("GET", f"/v1/files/{file_id}/content"), _CALL_S) as answer:
                expected, size = int(answer.headers.get("content-length", "0")), 0
                with part.open("wb") as file:
                    while data := answer.read(_PIECE_BYTES):
                        size += file.write(data)
            if size != expected:
                raise CliError(f"only {size} of {expected} bytes of {file_id} came; try again")
            part.replace(to)
        except urllib.error.URLError as error:
            raise self._gone(error) from None
        except OSError as error:
            raise CliError(f"{to} cannot be written: {error.strerror or error}") from None
        finally:
            part.unlink(missing_ok=True)

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, patience_s: float = _PATIENCE_S
    ) -> dict[str, Any]:
        until = time.monotonic() + patience_s
        data = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"content-type": "application/json"}
        while True:
            try:
                return self._once(self._request(method, path, data, headers), _CALL_S)
            except OSError as error:
                if time.monotonic() >= until:
                    raise self._gone(error) from None
            pause(_RETRY_S)

    def _request(
        self, method: str, path: str, data: Any = None, headers: dict[str, str] | None = None
    ) -> urllib.request.Request:
        headers = {**self._headers, **(headers or {})}
        return urllib.request.Request(f"{self._url}{path}", data, headers, method=method)  # noqa: S310  (checked)

    def _once(self, request: urllib.request.Request, timeout_s: float) -> dict[str, Any]:
        """Raises OSError if the server does not answer, or is busy."""
        with self._open(request, timeout_s) as answer:
            try:
                value: dict[str, Any] = msgspec.json.decode(answer.read(), type=dict)
            except msgspec.DecodeError:
                raise CliError(f"{self._url} does not answer as the OpenAI API does") from None
        return value

    @staticmethod
    def _open(request: urllib.request.Request, timeout_s: float) -> Any:
        try:
            return urllib.request.urlopen(request, timeout=timeout_s)  # noqa: S310  (its scheme was checked)
        except urllib.error.HTTPError as error:
            message = _message_of(error)
            if error.code == 503:
                raise ConnectionError(message) from None
            raise CliError(message) from None

    def _gone(self, error: OSError) -> CliError:
        why = getattr(error, "reason", None) or error
        return CliError(f"no answer from {self._url}: {why}; start the server, or give its address by --url")


def pause(seconds: float) -> None:
    """Ctrl-C ends it at once."""
    trio.run(trio.sleep, seconds)


def _message_of(error: urllib.error.HTTPError) -> str:
    try:
        return str(msgspec.json.decode(error.read())["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError, OSError):
        return f"the server answered with status {error.code}"


def _parts(head: bytes, file: BinaryIO, tail: bytes) -> Iterator[bytes]:
    yield head
    while data := file.read(_PIECE_BYTES):
        yield data
    yield tail
