"""The document beside a real process with keys: each example is answered, and every answer is as it is described."""

import http.client
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from gateway.endpoints.operations.all_operations import OPERATIONS
from gateway.openapi.operation import FORM, Operation
from policies.admission.keys import ADMIN_PREFIX, METRICS_PREFIX, new_key
from tests.e2e.conftest import write_model
from tests.e2e.process import GatewayProcess, until
from tests.gateway.openapi.checks import check_answer

CLIENT = new_key("acme", bytes(range(38)), "app")
OPERATOR = new_key("", bytes(range(1, 39)), "ops", prefix=ADMIN_PREFIX)
SCRAPER = new_key("", bytes(range(2, 40)), "prometheus", prefix=METRICS_PREFIX)
CONFIG = f"""
schema = 1
[ledger]
path = "ledger.sqlite3"
[admin]
keys_file = "keys.toml"
[[admin.keys]]
id = "ops"
hash = "{OPERATOR.settings.hash}"
[[metrics.keys]]
id = "prometheus"
hash = "{SCRAPER.settings.hash}"
[[keys]]
id = "app"
tenant = "acme"
hash = "{CLIENT.settings.hash}"
[tenants.acme]
requests_per_minute = 100_000
tokens = {{ per_minute = 10_000_000 }}
[engines.penstock]
model = "small"
kv = {{ memory = "4MiB" }}
[models.penstock]
[[routes]]
name = "penstock"
use = {{ ladder = "penstock" }}
[[ladders.penstock]]
to = "penstock"
"""
KEYS = {"client": CLIENT.raw, "operator": OPERATOR.raw, "scraper": SCRAPER.raw, "none": None}


BOUNDARY = "between"


def form(fields: Mapping[str, str]) -> bytes:
    """As multipart/form-data; the field `file` has a filename."""
    parts = []
    for name, value in fields.items():
        named = '; filename="in.jsonl"' if name == "file" else ""
        parts.append(f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"{named}\r\n\r\n{value}\r\n')
    return f"{''.join(parts)}--{BOUNDARY}--\r\n".encode()


class Answered(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Served(NamedTuple):
    """A server, and its admin API."""

    api: str
    admin: str

    def ask(
        self,
        operation: Operation,
        path: str = "",
        body: Any = None,
        *,
        key: str | None = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        """Send it with its own kind of key, and check the answer against the document. `path`: in place of its own."""
        address = urlsplit(self.admin if operation.listener == "admin" else self.api)
        raw = KEYS[operation.key] if key == "" else key
        sent = {"content-type": operation.body_media, **(headers or {})}
        if operation.body_media == FORM:
            sent["content-type"] += f"; boundary={BOUNDARY}"
            body = form(body) if isinstance(body, dict) else body
        if raw is not None:
            sent["authorization"] = f"Bearer {raw}"
        connection = http.client.HTTPConnection(address.hostname or "", address.port)
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        if data is None and operation.method == "POST":
            data = b""
        connection.request(operation.method, path or operation.path, data, sent)
        response = connection.getresponse()
        found = Answered(
            response.status, {name.lower(): value for name, value in response.headers.items()}, response.read()
        )
        connection.close()
        content_type = found.headers.get("content-type", "")
        check_answer(operation.method, operation.path, found.status, content_type, found.headers, found.body)
        return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("described")
    write_model(folder / "small", 1)
    (folder / "config.toml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    process = GatewayProcess("--config", str(folder / "config.toml"), "--admin-port", "0", log=folder / "log")
    admin = next(word for word in process.said().split() if word.endswith("/admin")).removesuffix("/admin")
    yield Served(process.url, admin)
    process.end()


BY_NAME = {each.name: each for each in OPERATIONS}
NEED_AN_ID = {"changeConversation", "addItems", "createBatch", "rotateKey", "loadAdapter", "forceBreaker"}
EXAMPLES = [
    pytest.param(each, path, body, id=f"{each.method} {path}: {name}")
    for each in OPERATIONS
    for path in (each.path, *each.same_as)
    for name, body in each.examples.items()
    if each.name not in NEED_AN_ID and body.get("model") in {None, "penstock"}
]
"""The others, of encoders, are sent in `tests/gateway/endpoints/operations/test_all_operations.py`."""


@pytest.mark.parametrize(("operation", "path", "body"), EXAMPLES)
def test_each_example_is_answered(served: Served, operation: Operation, path: str, body: Any) -> None:
    answer = served.ask(operation, path, body)
    assert answer.status in {200, 201}, answer.body


def test_what_has_no_body_is_answered(served: Served) -> None:
    for operation in OPERATIONS:
        if operation.method == "GET" and "{" not in operation.path and 101 not in operation.answers:
            assert served.ask(operation).status == 200, operation.path
    assert served.ask(BY_NAME["postPing"]).status == 200
    page = served.ask(BY_NAME["getConsole"], headers={"accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    known = {"accept": "text/html", "if-none-match": page.headers["etag"]}
    assert served.ask(BY_NAME["getConsole"], headers=known).status == 304
    for name in ("main.js", "nothing.js"):
        status = served.ask(BY_NAME["getConsoleFile"], f"/console/{name}").status
        assert status == (200 if name == "main.js" else 404)
    assert served.ask(BY_NAME["getModel"], "/v1/models/penstock").json["id"] == "penstock"
    assert served.ask(BY_NAME["openStream"]).status == 426
    assert served.ask(BY_NAME["openResponses"]).status == 426
    for name in ("listModels", "getModel"):
        path = BY_NAME[name].path.replace("{name}", "penstock")
        assert served.ask(BY_NAME[name], path, headers={"anthropic-version": "2023-06-01"}).status == 200


def test_a_stored_response_from_its_beginning_to_its_end(served: Served) -> None:
    create = BY_NAME["createResponse"]
    made = served.ask(create, body=create.examples["question"]).json["id"]
    path = f"/v1/responses/{made}"
    assert served.ask(BY_NAME["getResponse"], path).json["id"] == made
    assert served.ask(BY_NAME["listInputItems"], f"{path}/input_items?limit=1&order=asc").json["data"]
    assert served.ask(BY_NAME["cancelResponse"], f"{path}/cancel").status == 400
    assert served.ask(BY_NAME["deleteResponse"], path).json["deleted"]
    assert served.ask(BY_NAME["getResponse"], path).status == 404
    background = served.ask(create, body=create.examples["background"]).json["id"]
    assert served.ask(BY_NAME["getResponse"], f"/v1/responses/{background}?stream=true&starting_after=0").status == 200
    assert served.ask(BY_NAME["cancelResponse"], f"/v1/responses/{background}/cancel").status == 200


def test_a_conversation_from_its_beginning_to_its_end(served: Served) -> None:
    create, add = BY_NAME["createConversation"], BY_NAME["addItems"]
    made = served.ask(create, body=create.examples["items"]).json["id"]
    path = f"/v1/conversations/{made}"
    assert served.ask(BY_NAME["getConversation"], path).json["metadata"] == {"topic": "sums"}
    assert (
        served.ask(BY_NAME["changeConversation"], path, BY_NAME["changeConversation"].examples["metadata"]).status
        == 200
    )
    added = served.ask(add, f"{path}/items", add.examples["message"]).json["data"][0]["id"]
    assert len(served.ask(BY_NAME["listItems"], f"{path}/items").json["data"]) == 2
    assert served.ask(BY_NAME["getItem"], f"{path}/items/{added}").json["id"] == added
    assert served.ask(BY_NAME["deleteItem"], f"{path}/items/{added}").status == 200
    assert served.ask(BY_NAME["deleteConversation"], path).json["deleted"]


def test_a_batch_from_its_beginning_to_its_end(served: Served) -> None:
    upload, create = BY_NAME["uploadFile"], BY_NAME["createBatch"]
    wanted = {**upload.examples["requests"], "expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = served.ask(upload, body=wanted).json["id"]
    assert file in [each["id"] for each in served.ask(BY_NAME["listFiles"], "/v1/files?limit=2&order=asc").json["data"]]
    assert served.ask(BY_NAME["getFile"], f"/v1/files/{file}").json["filename"] == "in.jsonl"
    assert served.ask(BY_NAME["getFileContent"], f"/v1/files/{file}/content").body.decode() == wanted["file"]
    for example in create.examples.values():
        made = served.ask(create, body={**example, "input_file_id": file}).json["id"]
        path = f"/v1/batches/{made}"
        until(lambda path=path: served.ask(BY_NAME["getBatch"], path).json["status"] == "completed")
    batch = served.ask(BY_NAME["listBatches"], "/v1/batches?limit=1").json["data"][0]
    assert (batch["id"], batch["request_counts"]["completed"]) == (made, 1)
    assert served.ask(BY_NAME["cancelBatch"], f"{path}/cancel").status == 409
    assert served.ask(BY_NAME["getFileContent"], f"/v1/files/{batch['output_file_id']}/content").status == 200
    faulty = served.ask(upload, body={**wanted, "file": "nothing"}).json["id"]
    failed = served.ask(create, body={**create.examples["chat"], "input_file_id": faulty}).json["id"]
    until(lambda: served.ask(BY_NAME["getBatch"], f"/v1/batches/{failed}").json["errors"])
    assert served.ask(BY_NAME["deleteFile"], f"/v1/files/{file}").json["deleted"]
    assert served.ask(BY_NAME["deleteFile"], f"/v1/files/{file}").status == 404


@pytest.mark.parametrize("name", ["createChatCompletion", "createCompletion", "createMessage", "createResponse"])
def test_a_kept_answer_from_its_beginning_to_its_end(served: Served, name: str) -> None:
    create = BY_NAME[name]
    stream = served.ask(create, body=create.examples["stream"], headers={"x-penstock-resumable": "true"})
    kept = f"/v1/streams/{stream.headers['x-penstock-stream']}"
    assert served.ask(BY_NAME["readAnswer"], f"{kept}?after=1").status == 200
    assert served.ask(BY_NAME["readAnswer"], kept, headers={"last-event-id": "2"}).status == 200
    assert served.ask(BY_NAME["getAnswerStatus"], f"{kept}/status").json["status"] == "ended"
    assert served.ask(BY_NAME["deleteAnswer"], kept).json["deleted"]
    begun = served.ask(create, body=next(iter(create.examples.values())), headers={"x-penstock-background": "true"})
    assert begun.status == (200 if name == "createResponse" else 202)
    for _ in range(2):
        again = served.ask(create, body=next(iter(create.examples.values())), headers={"idempotency-key": name})
        assert again.status == 200


def test_the_admin_api(served: Served, folder: Path) -> None:
    create = BY_NAME["createKey"]
    made = served.ask(create, body={**create.examples["key"], "id": "second"}).json["made"]["id"]
    assert (
        served.ask(BY_NAME["rotateKey"], f"/admin/keys/{made}/rotate", BY_NAME["rotateKey"].examples["a week"]).status
        == 200
    )
    assert served.ask(BY_NAME["revokeKey"], f"/admin/keys/{made}").status == 200
    assert served.ask(BY_NAME["checkPolicy"], body=(folder / "config.toml").read_bytes()).json["good"]
    assert served.ask(BY_NAME["checkPolicy"], body=b"schema = 2").json["problems"]
    for body in BY_NAME["forceBreaker"].examples.values():
        assert served.ask(BY_NAME["forceBreaker"], "/admin/breakers/penstock", body).status == 200
    asked = served.ask(BY_NAME["createChatCompletion"], body=BY_NAME["createChatCompletion"].examples["question"])
    assert served.ask(BY_NAME["getDecision"], f"/admin/decisions/{asked.headers['x-request-id']}").status == 200
    adapters = "/admin/engines/penstock/adapters"
    assert served.ask(BY_NAME["listAdapters"], adapters).json == {"adapters": []}
    assert served.ask(BY_NAME["loadAdapter"], f"{adapters}/legal", {"path": "legal"}).status == 400
    assert served.ask(BY_NAME["unloadAdapter"], f"{adapters}/legal").status == 404
    assert served.ask(BY_NAME["rollBack"], "/admin/experiments/none/roll_back").status == 404
    assert served.ask(BY_NAME["reloadPolicy"]).json["type"] == "unchanged"
    good = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(good + "\n[nonsense]\n")
    assert served.ask(BY_NAME["reloadPolicy"]).status == 422
    (folder / "config.toml").write_text(good.replace("100_000", "200_000"))
    assert served.ask(BY_NAME["reloadPolicy"]).json["type"] == "swapped"


WRONG = {"none": None, "unknown": "penstock_app_wrong", "another kind": SCRAPER.raw}


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.key != "none"], ids=lambda each: each.name)
def test_a_wrong_key_is_refused_as_it_is_described(served: Served, operation: Operation) -> None:
    for name, key in WRONG.items():
        if operation.key == "scraper" and name == "another kind":
            continue
        body = next(iter(operation.examples.values()), None)
        path = operation.path.replace("{", "").replace("}", "")
        assert served.ask(operation, path, body, key=key).status == 401, name


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.body], ids=lambda each: each.name)
def test_a_wrong_body_is_refused_as_it_is_described(served: Served, operation: Operation) -> None:
    path = operation.path.replace("{", "").replace("}", "")
    for body in (b"", b"{", b"[]", b'{"nothing_like_it": 1}', b"\xff"):
        if not (operation.body_optional and not body):
            assert served.ask(operation, path, body).status == 400, body
