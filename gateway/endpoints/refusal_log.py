"""Logs requests that fail before they reach the service, so that every request has one log line."""

from types import TracebackType
from typing import Self

from actors.service import Service
from gateway.errors import ClientGone


class RefusalLog:
    """A context manager around the reading of a request: logs it if that raises. Later failures the service logs."""

    __slots__ = ("_arrived_at", "_key", "_path", "_request_id", "_service")

    def __init__(self, service: Service, request_id: str, path: str, arrived_at: float, key: str | None) -> None:
        self._service = service
        self._key = key
        self._request_id = request_id
        self._path = path
        self._arrived_at = arrived_at

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        if error is not None:
            gone = isinstance(error, ClientGone)
            tenant = self._service.known_tenant(self._key)
            self._service.request_log.not_read(
                self._request_id, self._path, self._arrived_at, error, tenant=tenant, gone=gone
            )
