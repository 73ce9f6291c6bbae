"""The document beside the routes and the readers of bodies: what is served is described, and as it is read."""

import ast
import inspect
import itertools
import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator.schemas import openapi_v31_schema_validator

from engine.model.vectors import EmbeddingSizes
from gateway.anthropic import blocks, turns
from gateway.anthropic.message_request import MessagesBody, read_count
from gateway.decisions.decision_request import DecisionBody, read_decision
from gateway.endpoints.admin_routes import create_admin_app
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.completions import CHAT, COMPLETION, MESSAGE
from gateway.endpoints.info_routes import create_info_app
from gateway.endpoints.operations.all_operations import OPERATIONS, described
from gateway.endpoints.responses.responses import RESPONSE
from gateway.endpoints.routes import Routes
from gateway.endpoints.vectors.embeddings import parse_embedding
from gateway.endpoints.vectors.scoring import CLASSIFY, RERANK, SCORE, parse_scoring
from gateway.errors import HttpError
from gateway.http.bounds.limits import ServerLimits
from gateway.openai.batches.batch_object import read_batch
from gateway.openai.requests.json_body import BodyDecoder
from gateway.openai.requests.moderation_request import ModerationBody, read_moderation
from gateway.responses_api.conversations import ConversationFields, check_items, read_conversation
from gateway.vllm.tokenize_request import DetokenizeBody, TokenizeBody, read_detokenize, read_tokenize
from tests.actors.fakes import says, stage
from tests.gateway.endpoints.test_refusal_log import GATE, KEY, SETTINGS
from tests.gateway.endpoints.test_who_may_what import ROWS
from tests.gateway.fakes import FakeService
from tests.gateway.harness import gateway
from tests.gateway.openapi.checks import JSON, check_answer

DOCUMENT = described(keyless=False)
ADD = (
    "served and not described. Add an Operation for each to the file of its API in gateway/endpoints/operations/ "
    "(vllm.py is a short one to copy from); a new file there is named in all_operations.py. Its answers are Structs "
    "beside the module that writes them (gateway/vllm/answer_types.py). Then run this test and "
    "tests/e2e/test_api_description.py, which sends its examples."
)
GONE = "described and not served: take them out of gateway/endpoints/operations/, or correct their paths."


def routes() -> Routes:
    api = ApiContext(service=FakeService(), max_choices=1, max_inputs=1)
    return Routes(api, ServerLimits(), frozenset())


def template(rule: str) -> str:
    """Quart's `<path:name>` as OpenAPI's `{name}`."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)


def words_of(function: Callable[[bytes], bytes]) -> set[str]:
    """The words that a module has for parts of its addresses."""
    module = inspect.getmodule(function)
    assert module is not None
    constants = [
        node.value for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.Constant)
    ]
    whole = [each.decode().strip("/") for each in constants if isinstance(each, bytes) and each.isascii()]
    return {each for each in whole if re.fullmatch(r"[a-z_]+", each)}


def served() -> set[tuple[str, str]]:
    """Methods and paths of all tables of routes; {} for each name in a path."""
    made = routes()
    found = {
        (method, path.decode()) for path, (methods, *_) in made.hot.items() for method in methods.decode().split(", ")
    }
    for folder, methods_of, *_ in made.folders:
        parts = ["{}", *sorted(words_of(methods_of))]
        for depth in (1, 2, 3, 4):
            for below in itertools.product(parts, repeat=depth):
                path = folder.decode() + "/".join(below)
                if below[0] == "{}" and path.encode() not in made.hot:
                    methods = methods_of(path.replace("{}", "x").encode()).decode()
                    found |= {(method, path) for method in methods.split(", ") if method}
    api = ApiContext(service=FakeService(), max_choices=1, max_inputs=1)
    for app in (create_info_app(api, lambda: 0), create_admin_app(FakeService(), lambda: b"")):
        for rule in app.url_map.iter_rules():
            found |= {(method, template(rule.rule)) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    return {(method, nameless(path)) for method, path in found}


def nameless(path: str) -> str:
    return re.sub(r"\{\w*\}", "{}", path)


def operations() -> set[tuple[str, str]]:
    return {
        (method.upper(), nameless(path))
        for path, item in DOCUMENT["paths"].items()
        for method in item
        if method in {"get", "post", "delete", "put", "patch"}
    }


def test_what_is_served_is_described() -> None:
    missing = sorted(shadowed(served() - operations()))
    assert not missing, f"{', '.join(map(' '.join, missing))}: {ADD}"


def shadowed(found: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Without addresses that differ from a described one by a word in place of a name."""
    known = operations()
    return {
        (method, path)
        for method, path in found
        if not any(
            method == other and re.fullmatch(re.escape(described_path).replace(r"\{\}", "[^/]+"), path)
            for other, described_path in known
        )
    }


def test_what_is_described_is_served() -> None:
    gone = sorted(operations() - served())
    assert not gone, f"{', '.join(map(' '.join, gone))}: {GONE}"


def test_a_missing_address_would_be_noticed() -> None:
    assert ("POST", "/v1/rerank") in served() & operations()
    assert ("GET", "/v1/conversations/{}/items/{}") in served() & operations()
    assert ("DELETE", "/admin/keys/{}") in served() & operations()
    assert shadowed({("POST", "/v1/nothing")}) == {("POST", "/v1/nothing")}


def test_the_document_is_one_of_openapi_3_1() -> None:
    """By the specification's own schema, which comes with a development dependency."""
    for keyless in (False, True):
        errors = list(openapi_v31_schema_validator.iter_errors(json.loads(json.dumps(described(keyless=keyless)))))
        assert not errors, errors[:3]
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def references(value: Any) -> set[str]:
    match value:
        case {"$ref": str(name), **rest}:
            return {name} | references(rest)
        case dict():
            return set().union(*map(references, value.values()))
        case list():
            return set().union(*map(references, value))
    return set()


def test_every_component_is_used_and_there() -> None:
    parts = DOCUMENT["components"]
    there = {f"#/components/{kind}/{name}" for kind in ("schemas", "headers", "responses") for name in parts[kind]}
    used = references(DOCUMENT)
    assert used <= there
    assert {each for each in there - used if "/responses/" not in each} == set()


def test_names_are_unique_and_links_lead_somewhere() -> None:
    found = [each for item in DOCUMENT["paths"].values() for each in item.values() if isinstance(each, dict)]
    names = [each["operationId"] for each in found]
    assert len(names) == len(set(names))
    links = [name for each in found for answer in each["responses"].values() for name in answer.get("links", {})]
    assert links
    assert set(links) <= set(names)


def test_nothing_of_this_server_is_in_it() -> None:
    """So it may be read without a key."""
    assert list(inspect.signature(described.__wrapped__).parameters) == ["keyless"]
    keyed, keyless = (json.dumps(described(keyless=each)) for each in (False, True))
    assert keyed != keyless
    assert keyed.replace(", {}]", "]") == keyless.replace(", {}]", "]")


def test_keys_are_needed_where_the_server_asks_for_them() -> None:
    """`tests/gateway/endpoints/test_who_may_what.py` has the truth as a table."""
    opened = {(row.method, nameless(template(row.rule))) for row in ROWS if set(row.expected.split()) == {"200"}}
    said = {
        (method.upper(), nameless(path))
        for path, item in DOCUMENT["paths"].items()
        for method, each in item.items()
        if isinstance(each, dict) and each.get("security") == []
    }
    assert said == opened


def test_every_kind_of_block_is_described() -> None:
    kinds = {
        cls
        for module in (blocks, turns)
        for cls in vars(module).values()
        if inspect.isclass(cls)
        and cls.__module__ == module.__name__
        and "type" in getattr(cls, "__struct_fields__", ())
    }
    assert set(turns.BLOCK_KINDS.values()) == kinds - {blocks.BlockSource}


Parse = Callable[[bytes], object]
SCORING = partial(parse_scoring, max_inputs=10_000, reads_pairs=lambda _: True)


def decoded(kind: Any, read: Callable[..., object], *, given: bool = False) -> Parse:
    decoder = BodyDecoder(kind)

    def parse(raw: bytes) -> object:
        body, fields = decoder.decode(raw)
        return read(body, fields) if given else read(body)

    return parse


def read_items(body: ConversationFields) -> object:
    change = read_conversation(body, "x")
    check_items(change)
    return change


def read_whole_batch(raw: bytes) -> object:
    body = read_batch(raw)
    return body, body.output_keep_s


PARSERS: dict[str, Parse] = {
    "createChatCompletion": partial(CHAT.parse, max_choices=10_000),
    "createCompletion": partial(COMPLETION.parse, max_choices=10_000),
    "createMessage": partial(MESSAGE.parse, max_choices=1),
    "countMessageTokens": decoded(MessagesBody, read_count, given=True),
    "createResponse": partial(RESPONSE.parse, max_choices=1),
    "createBatch": read_whole_batch,
    "createDecision": decoded(DecisionBody, read_decision),
    "createModeration": decoded(ModerationBody, lambda body: read_moderation(body, "labels", 10_000)),
    "createEmbeddings": partial(parse_embedding, max_inputs=10_000),
    "rerank": partial(SCORING, RERANK),
    "score": partial(SCORING, SCORE),
    "classify": partial(SCORING, CLASSIFY),
    "tokenize": decoded(TokenizeBody, read_tokenize, given=True),
    "detokenize": decoded(DetokenizeBody, read_detokenize),
    "createConversation": decoded(ConversationFields, lambda body: read_conversation(body, "x")),
    "addItems": decoded(ConversationFields, read_items),
}
"""How the body of each operation is read, without a server."""
READ_ALIKE = {"countInputTokens", "changeConversation"}
"""Those whose body is read as that of another one."""
DESCRIBED = {
    each.name: each
    for each in OPERATIONS
    if each.body is not None and each.body_media == JSON and each.key == "client" and each.name not in READ_ALIKE
}
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, -2, -3, 2, 3, 20, 21, 0.5, 1.5, 100, 101, -100, -101, 1023, 1024, 2**31 - 1, 2**31,
    2**53, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, "", "a", "A1", "a b", "x" * 64, "x" * 65, "x" * 256, "x" * 257,
    "auto", "default", "low", "none", "text", "disabled", "standard", "global", [], ["a"], [""], ["a"] * 16, ["a"] * 17,
    ["x" * 257], ["a"] * 65, [1], [-1], [1] * 64, [1] * 65, [2**31], [1] * 1025, [[1]], [[]], ["a", 1], {}, {"a": "b"},
    {"a": 1}, {"1": 1}, {"1": 101}, {"12345678": 1}, {"a": "x" * 513}, {"x" * 65: "a"},
    {str(n): "v" for n in range(17)},
    {"type": "text"}, {"type": "json_object"}, {"type": "nothing"}, {"name": "x"}, {"enable_thinking": True},
    {"enable_thinking": 1}, {"mode": "implicit"}, {"edits": [{"keep": "all"}]}, {"edits": [{}]},
    {"previous_message_id": None}, ["text"], [["text"]], {"include_usage": True}, {"user_id": "a"},
    {"type": "enabled", "budget_tokens": 1024}, {"type": "disabled"}, {"effort": "high"}, {"effort": "most"},
    {"type": "auto"}, {"type": "never"}, {"text": "a"}, [{"text": "a"}], [{"text": 1}], [{"type": "message"}],
]  # fmt: skip
"""What is tried in every field of every body."""
WITH: dict[tuple[str, str], dict[str, Any]] = {
    ("createChatCompletion", "max_tokens"): {"prompt_logprobs": 0},
    ("createCompletion", "max_tokens"): {"prompt_logprobs": 0},
    ("createChatCompletion", "top_logprobs"): {"logprobs": True},
    ("createDecision", "messages"): {"input": None},
    ("createChatCompletion", "max_completion_tokens"): {"max_tokens": None, "prompt_logprobs": 0},
}
"""What a field needs beside it."""
Related = Callable[[Any], bool]


def every(_: Any) -> bool:
    return True


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_empty(value: Any) -> bool:
    return value in (None, [])


# `max_tokens` of the example is smaller; `max_choices` of the server is; 'stream' is not set; nothing is offered; the
# text is no JSON Schema; texts beside token ids; as many as the other list has; the one or the other must be given.
SAMPLED: dict[str, Related] = {"min_tokens": every, "n": lambda n: n > 10_000, "stream_options": every}
WRITTEN: dict[str, Related] = {**SAMPLED, "guided_json": is_text}
MIXED: dict[str, Related] = {"prompt": lambda value: value == ["a", 1], "input": lambda value: value == ["a", 1]}
RESPONSE_RELATIONS: dict[str, Related] = {**WRITTEN, "input": is_empty, "tool_choice": every}
RELATIONS: dict[str, dict[str, Related]] = {
    "addItems": {"items": is_empty},
    "createChatCompletion": {**WRITTEN, "tool_choice": every},
    "createCompletion": {**WRITTEN, **MIXED, "best_of": every},
    "createDecision": {"input": lambda value: value is None},
    "createEmbeddings": MIXED,
    "createMessage": {"max_tokens": lambda value: value is None, "thinking": lambda value: "budget_tokens" in value},
    "createResponse": RESPONSE_RELATIONS,
    "score": {"text_1": lambda value: isinstance(value, list)},
    "tokenize": {"prompt": lambda value: value is None, "tools": every, "add_generation_prompt": every},
}
"""By operation and field: values that the schema allows and that are refused for what a schema does not say."""


@pytest.mark.parametrize("name", sorted(DESCRIBED))
def test_a_schema_allows_what_is_read_and_nothing_else(name: str) -> None:
    assert name in PARSERS, f"say in PARSERS how the body of {name} is read"
    operation, parse = DESCRIBED[name], PARSERS[name]
    schema = DOCUMENT["components"]["schemas"][operation.body.__name__]
    base = dict(next(iter(operation.examples.values())))
    wrong = []
    for field, own in schema["properties"].items():
        validator = Draft202012Validator({**own, "components": DOCUMENT["components"]})
        is_related = RELATIONS.get(name, {}).get(field, lambda _: False)
        for value in VALUES:
            body = {**base, **WITH.get((name, field), {}), field: value}
            allowed = validator.is_valid(value)
            refusal = ""
            try:
                parse(json.dumps(body).encode())
            except HttpError as error:
                if (error.body.param or field).startswith(field):
                    refusal = error.body.message
            if allowed == bool(refusal) and not (allowed and is_related(value)):
                wrong.append(
                    f"{field} = {json.dumps(value)[:60]}: {'allowed' if allowed else 'not allowed'}; {refusal}"
                )
    assert not wrong, "\n".join(wrong)


def test_a_name_that_is_not_described_is_refused() -> None:
    for name, operation in DESCRIBED.items():
        assert DOCUMENT["components"]["schemas"][operation.body.__name__]["additionalProperties"] is False
        body = {**next(iter(operation.examples.values())), "nothing_like_it": 1}
        with pytest.raises(HttpError, match="nothing_like_it"):
            PARSERS[name](json.dumps(body).encode())


ENCODERS = {"minilm": EmbeddingSizes(8), "labels": EmbeddingSizes(3, labels=("no", "yes", "so"))}
JUDGES = """
[moderations.safety]
model = "labels"
categories = { hate = { labels = ["yes"] } }
"""
LABELS = """
[engines.labels]
model = "labels"
[models.labels]
[[routes]]
name = "labels"
when = { model = ["labels"] }
use = { ladder = "labels" }
[[ladders.labels]]
to = "labels"
"""


async def test_examples_of_encoders_are_answered() -> None:
    """All others are sent in `tests/e2e/test_api_description.py`."""
    settings = SETTINGS.replace("mini", "minilm").replace(GATE, LABELS + JUDGES + GATE)
    asked = [
        (each, path, body)
        for each in OPERATIONS
        for path in (each.path, *each.same_as)
        for body in each.examples.values()
        if body.get("model") in {*ENCODERS, "safety"}
    ]
    assert len(asked) >= 12
    async with (
        stage({"small": says("ok")}, settings=settings, encoders=ENCODERS) as service,
        gateway(service.service) as running,
    ):
        client = await running.connect()
        for each, path, body in asked:
            answer = await client.request(path, body, headers=f"Authorization: Bearer {KEY.raw}\r\n")
            assert answer.status == 200, answer.body
            check_answer(each.method, each.path, 200, answer.headers["content-type"], answer.headers, answer.body)


def test_each_tag_is_used_and_each_operation_has_a_summary() -> None:
    assert {each.tag for each in OPERATIONS} == {each["name"] for each in DOCUMENT["tags"]}
    assert all(each.summary and each.summary[0].isupper() for each in OPERATIONS)
