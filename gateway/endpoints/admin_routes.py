"""The admin API: its addresses, in quart, and the checks before a body is read; documented in docs/operations.md."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from quart import Response, g, request
from quart_trio import QuartTrio

from actors.api.errors import Refusal
from actors.control.admin_service import AdminService
from actors.control.breaker_control import DEFAULT_S, LONGEST_S
from actors.control.key_control import MadeKey
from config.model.tenancy import KeyEndpoint
from gateway.endpoints.quart_app import answer_errors, create_app, head, json_response
from gateway.errors import HttpError
from gateway.http.asgi import AsgiRoute
from gateway.http.gate import RefusedHandler, Route
from gateway.http.loopback import check_local
from gateway.http.request import Request
from gateway.telemetry.metrics import CONTENT_TYPE
from policies.fallback.breaker import Force
from policies.lifecycle.reload import ReloadRefused
from policies.records.decision_record import encode_record

B = TypeVar("B")


class AdapterFolder(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request to load an adapter."""

    path: str | None = None


class WantedForce(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request to force a breaker."""

    force: Force
    for_s: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_S)] = DEFAULT_S


class WantedKey(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request for a new key."""

    tenant: str
    id: str | None = None
    expires: str | None = None
    models: tuple[str, ...] = ()
    endpoints: tuple[KeyEndpoint, ...] = ()


class WantedRotation(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request to replace a key."""

    overlap: str = "7d"
    expires: str | None = None


def create_admin_app(admin: AdminService, exposition: Callable[[], bytes]) -> QuartTrio:
    """The quart app. Every address needs a key if any is configured. `exposition`: makes the text of `/metrics`."""
    app = create_app("penstock-admin")

    @app.before_request
    async def authorize() -> None:
        g.operator = admin.check_key(head().key, request.method, request.path)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(exposition(), content_type=CONTENT_TYPE)

    @app.get("/admin/policy")
    async def policy() -> Response:
        return json_response(admin.policy())

    @app.post("/admin/policy/reload")
    async def reload() -> Response:
        result = await admin.reload()
        return json_response(result, 422 if isinstance(result, ReloadRefused) else 200)

    @app.post("/admin/policy/check")
    async def check() -> Response:
        raw = await request.get_data(as_text=False)
        assert isinstance(raw, bytes)
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise HttpError(400, "bad_encoding", "The body must be TOML in UTF-8.") from None
        return json_response(await admin.check(text))

    @app.get("/admin/decisions/<request_id>")
    async def decision(request_id: str) -> Response:
        record = admin.decision(request_id)
        if record is None:
            raise HttpError(
                404,
                "decision_not_found",
                "No decision of that request is kept: the id is unknown, its key was refused, or newer decisions "
                "have replaced it (see `decisions` in [admin]).",
            )
        return Response(encode_record(record), content_type="application/json")

    @app.get("/admin/keys")
    async def keys() -> Response:
        return json_response({"keys": admin.keys.states()})

    @app.post("/admin/keys")
    async def create_key() -> Response:
        wanted = await _body(WantedKey, '{"tenant": NAME, "id", "expires", "models", "endpoints"}')
        made = await admin.keys.create(
            wanted.tenant,
            key_id=wanted.id,
            expires=wanted.expires,
            models=wanted.models,
            endpoints=wanted.endpoints,
            by=g.operator,
        )
        return _secret(made, 201)

    @app.post("/admin/keys/<key_id>/rotate")
    async def rotate_key(key_id: str) -> Response:
        wanted = await _body(WantedRotation, '{"overlap": "7d", "expires"}, or empty')
        made = await admin.keys.rotate(key_id, overlap=wanted.overlap, expires=wanted.expires, by=g.operator)
        return _secret(made, 200)

    @app.delete("/admin/keys/<key_id>")
    async def revoke_key(key_id: str) -> Response:
        await admin.keys.revoke(key_id, by=g.operator)
        return json_response({"revoked": key_id})

    @app.get("/admin/experiments")
    async def experiments() -> Response:
        return json_response({"experiments": admin.experiments()})

    @app.get("/admin/shadows")
    async def shadows() -> Response:
        return json_response({"shadows": admin.shadows()})

    @app.post("/admin/experiments/<path:name>/roll_back")
    async def roll_back(name: str) -> Response:
        if not await admin.roll_back(name):
            raise HttpError(404, "experiment_not_found", "The policy has no experiment with that name.")
        return json_response({"experiment": name, "rolled_back": True})

    @app.get("/admin/breakers")
    async def breakers() -> Response:
        return json_response({"breakers": admin.breakers.views()})

    @app.post("/admin/breakers/<rung>")
    async def force_breaker(rung: str) -> Response:
        wanted = await _body(
            WantedForce,
            '{"force": "open" | "closed" | "none", "for_s": SECONDS}, with at most '
            f"{LONGEST_S:.0f} s, or {DEFAULT_S:.0f} if it is left out",
        )
        view = await admin.breakers.force(rung, wanted.force, wanted.for_s)
        if view is None:
            raise HttpError(404, "rung_not_found", "The configuration has no engine or upstream with that name.")
        return json_response({"rung": rung, **msgspec.structs.asdict(view)})

    @app.get("/admin/engines/<engine>/adapters")
    async def adapters(engine: str) -> Response:
        return json_response({"adapters": admin.adapters.views(engine)})

    @app.post("/admin/engines/<engine>/adapters/<name>")
    async def load_adapter(engine: str, name: str) -> Response:
        wanted = await _body(AdapterFolder, '{"path": FOLDER} or empty')
        path = None if wanted.path is None else Path(wanted.path)
        return json_response(await admin.adapters.load(engine, name, path))

    @app.delete("/admin/engines/<engine>/adapters/<name>")
    async def unload_adapter(engine: str, name: str) -> Response:
        await admin.adapters.unload(engine, name)
        return json_response({"adapters": admin.adapters.views(engine)})

    answer_errors(app, ("not_found", "There is nothing at this address."), {})
    return app


async def _body(kind: type[B], form: str) -> B:
    """The JSON body in hand; an empty one is {}. Raises HttpError."""
    raw = await request.get_data(as_text=False)
    assert isinstance(raw, bytes)
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except msgspec.DecodeError as error:
        raise HttpError(400, "bad_json", f"The body must be {form}: {error}.") from None


def _secret(made: MadeKey, status: int) -> Response:
    response = json_response(made, status)
    response.headers["cache-control"] = "no-store"
    return response


class AdminRoutes:
    """The routing function of the admin API's server."""

    def __init__(self, admin: AdminService, exposition: Callable[[], bytes]) -> None:
        self._admin = admin
        self._app = AsgiRoute(create_admin_app(admin, exposition))

    def __call__(self, request: Request) -> Route:
        try:
            if self._admin.keyless:
                check_local(request, None)
            reads = request.method == b"POST"
            if reads:
                # The quart app checks keys, too, but only when the body has been read.
                path = unquote_to_bytes(request.path).decode("utf-8", "replace")
                self._admin.check_key(request.key, "POST", path)
        except Refusal as refusal:
            return Route(RefusedHandler(refusal.body))
        return Route(self._app, body=reads, works=reads)
