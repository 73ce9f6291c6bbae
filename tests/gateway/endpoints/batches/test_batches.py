"""Files and batches over HTTP: what the addresses do, for whom, and what they refuse by name."""

from contextlib import AbstractAsyncContextManager

import msgspec
import pytest
import trio

from actors.batches.file_rows import PIECE_BYTES
from engine.model.vectors import EmbeddingSizes
from policies.admission.keys import new_key
from tests.actors.batches.test_batches import line
from tests.actors.fakes import CONFIG, Stage, says, stage
from tests.gateway.harness import Client, Response, gateway
from tests.gateway.openai.batches.test_upload import form, part

KEYS = {
    name: new_key(name, bytes([number]) * 38, name)
    for number, name in enumerate(("acme", "other", "chats", "batch"), 1)
}
SETTINGS = (
    CONFIG
    + "[tenants.acme]\n[tenants.other]\n"
    + "".join(
        f'[[keys]]\nid = "{name}"\ntenant = "{tenant}"\nhash = "{KEYS[name].settings.hash}"\n{more}\n'
        for name, tenant, more in (
            ("acme", "acme", ""),
            ("other", "other", ""),
            ("chats", "acme", 'endpoints = ["chat"]'),
            ("batch", "acme", 'endpoints = ["batch", "embeddings"]'),
        )
    )
)
SCRIPTS = {"small": says("ok", prompt=2)}


def bearer(name: str) -> str:
    return f"authorization: Bearer {KEYS[name].raw}\r\n"


async def upload(client: Client, data: bytes, key: str = "acme", **fields: str) -> Response:
    fields = {"purpose": "batch", **fields}
    body = form(*[part(name, value.encode()) for name, value in fields.items()], part("file", data, "in.jsonl"))
    head = f"POST /v1/files HTTP/1.1\r\nHost: localhost\r\n{bearer(key)}Content-Type: multipart/form-data; boundary=b-1"
    await client.send(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return await client.response()


async def call(client: Client, method: str, path: str, body: object = None, key: str = "acme") -> Response:
    if method == "POST":
        return await client.request(path, body if body is not None else {}, headers=bearer(key))
    await client.send(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{bearer(key)}\r\n".encode())
    return await client.response()


def ask(file_id: str, **more: object) -> dict[str, object]:
    return {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h", **more}


async def ended(client: Client, batch_id: str) -> dict:
    while True:
        batch = (await call(client, "GET", f"/v1/batches/{batch_id}")).json
        if batch["status"] in {"completed", "failed", "expired", "cancelled"}:
            return batch
        await trio.lowlevel.checkpoint()


def served() -> AbstractAsyncContextManager[Stage]:
    return stage(SCRIPTS, settings=SETTINGS, step_s=0.001, clean=False)


async def test_a_file_is_uploaded_listed_read_and_deleted() -> None:
    async with served() as service, gateway(service.service) as clients:
        client = await clients.connect()
        data = bytes(range(256)) * 2 * (PIECE_BYTES // 256) + b"end"
        made = (
            await upload(client, data, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "7200"})
        ).json
        assert (made["object"], made["bytes"], made["filename"], made["status"]) == (
            "file",
            len(data),
            "in.jsonl",
            "processed",
        )
        assert made["expires_at"] - made["created_at"] == 7200
        assert (await call(client, "GET", f"/v1/files/{made['id']}")).json == made
        content = await call(client, "GET", f"/v1/files/{made['id']}/content")
        assert content.body == data
        second = (await upload(client, b"x")).json
        listed = (await call(client, "GET", "/v1/files?limit=1")).json
        assert ([each["id"] for each in listed["data"]], listed["has_more"]) == ([second["id"]], True)
        after = (await call(client, "GET", f"/v1/files?after={second['id']}&purpose=batch")).json
        assert [each["id"] for each in after["data"]] == [made["id"]]
        # Of another tenant none of it is there, and it has the same address.
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            assert (await call(client, method, f"/v1/files/{made['id']}{path}", key="other")).status == 404
        assert (await call(client, "GET", "/v1/files", key="other")).json["data"] == []
        deleted = await call(client, "DELETE", f"/v1/files/{made['id']}")
        assert deleted.json == {"id": made["id"], "object": "file", "deleted": True}
        assert (await call(client, "GET", f"/v1/files/{made['id']}")).error["code"] == "file_not_found"


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"purpose": "fine-tune"}, "purpose", "invalid_value"),
        ({"expires_after[anchor]": "created_at"}, "expires_after.seconds", "invalid_value"),
        ({"expires_after[anchor]": "now", "expires_after[seconds]": "7200"}, "expires_after.anchor", "invalid_value"),
        (
            {"expires_after[anchor]": "created_at", "expires_after[seconds]": "60"},
            "expires_after.seconds",
            "invalid_value",
        ),
        (
            {"expires_after[anchor]": "created_at", "expires_after[seconds]": "x"},
            "expires_after.seconds",
            "invalid_value",
        ),
        ({"color": "red"}, "color", "unknown_field"),
    ],
)
async def test_a_refused_upload_leaves_nothing(fields: dict[str, str], param: str, code: str) -> None:
    async with served() as service, gateway(service.service) as clients:
        refused = await upload(await clients.connect(), b"x" * 600_000, **fields)
        assert (refused.status, refused.error["param"], refused.error["code"]) == (400, param, code)
        client = await clients.connect()
        assert (await call(client, "GET", "/v1/files")).json["data"] == []


async def test_a_client_that_leaves_in_the_middle_leaves_nothing() -> None:
    async with served() as service, gateway(service.service) as clients:
        client = await clients.connect()
        begin = part("purpose", b"batch") + part("file", b"x" * 600_000, "in.jsonl")
        head = f"POST /v1/files HTTP/1.1\r\nHost: localhost\r\n{bearer('acme')}"
        await client.send(
            f"{head}Content-Type: multipart/form-data; boundary=b-1\r\nContent-Length: 9000000\r\n\r\n".encode()
        )
        await client.send(begin)
        await client.aclose()
        other = await clients.connect()
        assert (await call(other, "GET", "/v1/files")).json["data"] == []


async def test_a_batch_from_its_file_to_its_results() -> None:
    async with served() as service, gateway(service.service) as clients:
        client = await clients.connect()
        file_id = (await upload(client, b"\n".join([line("a"), line("b"), line("c", messages=[])]))).json["id"]
        made = (await call(client, "POST", "/v1/batches", ask(file_id, metadata={"run": "1"}))).json
        assert (made["object"], made["status"], made["metadata"]) == ("batch", "validating", {"run": "1"})
        batch = await ended(client, made["id"])
        assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 3, "completed": 2, "failed": 1})
        content = (await call(client, "GET", f"/v1/files/{batch['output_file_id']}/content")).body
        results = [msgspec.json.decode(each) for each in content.splitlines()]
        assert {each["custom_id"] for each in results} == {"a", "b"}
        assert all(each["response"]["body"]["choices"][0]["message"]["content"] == "ok" for each in results)
        assert all(each["error"] is None for each in results)
        assert (await call(client, "GET", f"/v1/files/{batch['output_file_id']}/content", key="other")).status == 404
        listed = (await call(client, "GET", "/v1/batches?limit=5")).json
        assert [each["id"] for each in listed["data"]] == [made["id"]]
        for method, path in (("GET", ""), ("POST", "/cancel")):
            assert (await call(client, method, f"/v1/batches/{made['id']}{path}", key="other")).status == 404
        assert (await call(client, "GET", "/v1/batches", key="other")).json["data"] == []
        assert (await call(client, "POST", f"/v1/batches/{made['id']}/cancel")).error["code"] == "batch_ended"


MINI = """
[engines.mini]
model = "mini"
[models.mini]
[[routes]]
name = "mini"
when = { model = ["mini"] }
use = { ladder = "mini" }
[[ladders.mini]]
to = "mini"
"""


async def test_embeddings_in_a_batch() -> None:
    """The same vectors as without it."""
    gate = '[[routes]]\nname = "gate"'
    settings = SETTINGS.replace(gate, f"{MINI}\n{gate}")
    path = "/v1/embeddings"
    async with (
        stage(SCRIPTS, settings=settings, step_s=0.001, clean=False, encoders={"mini": EmbeddingSizes(8)}) as service,
        gateway(service.service) as clients,
    ):
        client = await clients.connect()
        bodies = [{"model": "mini", "input": "a"}, {"model": "mini", "input": ["b", "c"], "encoding_format": "base64"}]
        lines = [
            msgspec.json.encode({"custom_id": str(number), "method": "POST", "url": path, "body": body})
            for number, body in enumerate(bodies)
        ]
        file_id = (await upload(client, b"\n".join(lines), key="batch")).json["id"]
        made = (await call(client, "POST", "/v1/batches", ask(file_id, endpoint=path), key="batch")).json
        batch = await ended(client, made["id"])
        assert (batch["status"], batch["request_counts"]["completed"]) == ("completed", 2)
        content = (await call(client, "GET", f"/v1/files/{batch['output_file_id']}/content")).body
        found = {each["custom_id"]: each["response"]["body"] for each in map(msgspec.json.decode, content.splitlines())}
        for number, body in enumerate(bodies):
            alone = (await call(client, "POST", path, body)).json
            assert found[str(number)]["data"] == alone["data"]


async def test_what_is_wrong_with_a_file_is_told_by_its_lines() -> None:
    async with served() as service, gateway(service.service) as clients:
        client = await clients.connect()
        file_id = (await upload(client, line("a") + b"\n{")).json["id"]
        batch = await ended(client, (await call(client, "POST", "/v1/batches", ask(file_id))).json["id"])
        assert batch["status"] == "failed"
        (fault,) = batch["errors"]["data"]
        assert (fault["code"], fault["line"]) == ("invalid_json_line", 2)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (ask("file-0"), 404, None),
        (ask("file-0", endpoint="/v1/images/generations"), 400, "endpoint"),
        (ask("file-0", completion_window="1h"), 400, "completion_window"),
        (ask("file-0", metadata={"x" * 65: "y"}), 400, "metadata"),
        (ask("file-0", metadata={str(number): "y" for number in range(17)}), 400, "metadata"),
        (
            ask("file-0", output_expires_after={"anchor": "created_at", "seconds": 1}),
            400,
            "output_expires_after.seconds",
        ),
        (ask("file-0", priority=1), 400, "priority"),
        ({"endpoint": "/v1/embeddings"}, 400, "input_file_id"),
    ],
)
async def test_what_a_batch_cannot_be(body: dict, status: int, param: str | None) -> None:
    async with served() as service, gateway(service.service) as clients:
        refused = await call(await clients.connect(), "POST", "/v1/batches", body)
        assert (refused.status, refused.error["param"]) == (status, param)


async def test_a_batch_needs_the_scope_of_batches_and_of_its_endpoint() -> None:
    async with served() as service, gateway(service.service) as clients:
        client = await clients.connect()
        file_id = (await upload(client, line())).json["id"]
        for key, status in (("chats", 403), ("batch", 403), ("acme", 200)):
            answer = await call(await clients.connect(), "POST", "/v1/batches", ask(file_id), key=key)
            assert answer.status == status, key


@pytest.mark.parametrize(
    "path", ["/v1/files?limit=0", "/v1/files?limit=x", "/v1/files?order=up", "/v1/batches?limit=101"]
)
async def test_wrong_parameters_of_a_list(path: str) -> None:
    async with served() as service, gateway(service.service) as clients:
        assert (await call(await clients.connect(), "GET", path)).status == 400


async def test_after_an_upload_the_connection_goes_on() -> None:
    async with served() as service, gateway(service.service) as clients:
        client = await clients.connect()
        for _ in range(3):
            assert (await upload(client, b"x")).status == 200
        assert (await call(client, "GET", "/v1/files?after=file-none")).status == 404


async def test_a_client_that_expects_100_continue_is_told_to_go_on() -> None:
    async with served() as service, gateway(service.service) as clients:
        client = await clients.connect()
        body = form(part("purpose", b"batch"), part("file", b"x", "in.jsonl"))
        head = f"POST /v1/files HTTP/1.1\r\nHost: localhost\r\n{bearer('acme')}Expect: 100-continue\r\n"
        await client.send(
            f"{head}Content-Type: multipart/form-data; boundary=b-1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        assert (await client.head())[0] == 100
        await client.send(body)
        assert (await client.response()).status == 200
