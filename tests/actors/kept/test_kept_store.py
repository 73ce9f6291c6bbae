"""The file of kept answers: what comes back of it, what is not in it, and who may read it."""

import re
import sqlite3
import stat
from types import MappingProxyType

import msgspec
import pytest

from actors.api.content import MediaPart, TextPart
from actors.api.errors import ErrorBody
from actors.api.request import ChatMessage, ChatPrompt, Credentials, InferenceRequest, ParsedBody
from actors.api.response import DecisionInfo, Delta, Done, Failed, MadeCall, Served, Start, Usage
from actors.kept.kept_store import (
    AppendEvents,
    DeleteAnswer,
    ForgetDelivered,
    KeptBatch,
    KeptCommitted,
    KeptOpened,
    KeptStore,
    KeptStoreClosed,
    KeptStoreFailed,
    append_events,
    delivered_before,
    keep_on_disk,
    put_answer,
)
from actors.protocol.ledger import Delivered
from engine.messages import TokenLogprobs
from engine.sampling.grammar import Grammar
from engine.sampling.params import SamplingParams
from engine.text.tool_calls import Tool, ToolSet

TOOL = Tool("f", {"type": "function", "function": {"name": "f"}}, {"type": "object"})
PARTS = (
    TextPart("What?", {"type": "ephemeral"}),
    MediaPart(medium="image", where="w", data="aW1n", media_type="image/png", size=3, digest=b"\xff", detail="low"),
)
REQUEST = InferenceRequest(
    request_id="a1",
    credentials=Credentials(
        "pk-CANARY", "/v1/chat/completions", ((b"x-team", b"blue"), (b"cookie", b"CANARY"), (b"x-api-key", b"CANARY"))
    ),
    body=ParsedBody(
        model="m",
        prompts=(ChatPrompt((ChatMessage("user", "What?", parts=PARTS),), ToolSet((TOOL,))),),
        params=SamplingParams(max_tokens=7, logit_bias=((3, -1.5),)),
        grammar=Grammar("regex", "a+"),
        written=MappingProxyType({"metadata": {"n": [1, None, 2.5]}}),
    ),
    arrived_at=1.0,
    seed=99,
    media_tokens=5,
)
DECIDED = DecisionInfo("policy", "e", "b", ("x",))
EVENTS = [
    Start("r", "small", 5, ("echo",), tokenizer="t"),
    Delta(
        0,
        "tëxt",
        (1, 2),
        (TokenLogprobs(1, -0.5, b"\xff", ((2, -1.0, b"a"),)),),
        calls=(MadeCall(0, "call_1", "f", "{}", {"k": "v"}),),
    ),
    Delta(0, "", (), finish_reason="tool_calls", stop=3, unnamed=-1),
    Done(Usage(5, 2), Served("r", "small", "asked_for", ())),
]
FAILED = Failed(ErrorBody(503, "server_error", "c", "m", stream="a1", delivered_tokens=2), Usage(5, 2))


def put(request: InferenceRequest = REQUEST, key: str = "k"):
    return put_answer(request, "us", "completions", 17, key, b"digest", background=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kept.sqlite3"


def written(path, *writes) -> None:
    store = KeptStore(path)
    for write in writes:
        store.commit(KeptBatch((write,)))
    store.close()


def test_what_was_written_comes_back(path):
    appends = [
        append_events("a1", 0, EVENTS[:1], DECIDED, Delivered(5, 0, 0.5)),
        append_events(
            "a1", 1, EVENTS[1:], msgspec.structs.replace(DECIDED, policy="a later one"), Delivered(5, 2, 0.75)
        ),
    ]
    written(path, put(), *appends)
    store = KeptStore(path)
    (answer,) = store.answers
    assert answer.put == put()
    assert list(answer.events) == EVENTS
    assert answer.decided == DECIDED
    found = answer.request
    assert found.body == REQUEST.body
    assert (found.seed, found.credentials.path) == (99, "/v1/chat/completions")
    store.close()


def test_no_key_and_no_secret_header_is_in_it(path):
    written(path, put())
    assert b"CANARY" not in path.read_bytes()
    (answer,) = KeptStore(path).answers
    assert answer.request.credentials == Credentials(None, "/v1/chat/completions", ((b"x-team", b"blue"),))


def test_only_its_owner_may_read_it(path):
    path.touch(0o644)
    store = KeptStore(path)
    store.commit(KeptBatch((put(),)))
    for each in path.parent.iterdir():
        assert stat.S_IMODE(each.stat().st_mode) == 0o600, each
    store.close()


def test_what_is_deleted_is_not_left_in_it(path):
    secret = msgspec.structs.replace(REQUEST, body=msgspec.structs.replace(REQUEST.body, user="SECRET" * 100))
    written(path, put(secret), put(msgspec.structs.replace(REQUEST, request_id="a2")))
    assert b"SECRET" in path.read_bytes()
    written(path, DeleteAnswer("a1"))
    assert b"SECRET" not in path.read_bytes()
    assert [answer.put.answer_id for answer in KeptStore(path).answers] == ["a2"]


def test_a_file_that_was_emptied_is_small_again(path):
    big = [append_events("a1", place, [EVENTS[1]] * 1000, DECIDED, Delivered()) for place in range(0, 20_000, 1000)]
    written(path, put(), *big)
    full = path.stat().st_size
    written(path, *[DeleteAnswer("a1")] * 20)
    assert path.stat().st_size < full / 10


def test_a_batch_is_written_whole_or_not_at_all(path):
    store = KeptStore(path)
    append = append_events("a1", 0, EVENTS[:1], DECIDED, Delivered())
    store.commit(KeptBatch((put(), append)))
    other = put(msgspec.structs.replace(REQUEST, request_id="a2"))
    with pytest.raises(sqlite3.IntegrityError):
        store.commit(KeptBatch((other, append)))
    store.close()
    assert [answer.put.answer_id for answer in KeptStore(path).answers] == ["a1"]


@pytest.mark.parametrize(
    "broken",
    [
        AppendEvents("a1", 0, b"\xc1", msgspec.msgpack.encode(DECIDED), Delivered()),
        append_events("a1", 3, EVENTS[:1], DECIDED, Delivered()),
    ],
)
def test_an_unreadable_answer_is_left_out_and_deleted(path, broken):
    written(path, put(), broken, put(msgspec.structs.replace(REQUEST, request_id="a2")))
    for unreadable in (1, 0):
        store = KeptStore(path)
        assert ([answer.put.answer_id for answer in store.answers], store.unreadable) == (["a2"], unreadable)
        store.close()


def test_a_fresh_file_has_nothing_of_the_old_one(path):
    written(path, put(), append_events("a1", 0, EVENTS[:1], DECIDED, Delivered()))
    KeptStore(path, fresh=True).close()
    assert KeptStore(path).answers == ()


def test_what_the_ledger_reads(path):
    assert delivered_before(path) == {}
    written(path, put(), append_events("a1", 0, EVENTS[:2], DECIDED, Delivered(5, 2, 0.75)))
    assert delivered_before(path) == {"a1": Delivered(5, 2, 0.75)}
    written(path, ForgetDelivered("a1"))
    assert delivered_before(path) == {"a1": Delivered()}
    path.write_bytes(b"no database " * 100)
    assert delivered_before(path) == {}


def other_database(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()


def later_version(path):
    KeptStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()


UNUSABLE = {
    "is another program's": (other_database, r"\[server\] kept_file = .*: it holds something else"),
    "is of a later version": (later_version, "another version \\(9; this program writes 1\\): delete it"),
    "is none": (lambda path: path.write_bytes(b"no database " * 100), "not a database"),
    "is a folder": (lambda path: path.mkdir(), "directory"),
    "is in no folder": (lambda path: path.parent.rmdir(), "No such file"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_file_that_cannot_be_used_says_why(tmp_path, name):
    spoil, why = UNUSABLE[name]
    folder = tmp_path / "folder"
    folder.mkdir()
    spoil(folder / "kept.sqlite3")
    posts = []
    keep_on_disk(lambda: KeptStore(folder / "kept.sqlite3"), KeptStoreClosed, posts.append)
    (post,) = posts
    assert isinstance(post, KeptStoreFailed)
    assert re.search(why, post.message), post.message


def test_two_cannot_have_it_at_once(path):
    store = KeptStore(path)
    posts = []
    keep_on_disk(lambda: KeptStore(path), KeptStoreClosed, posts.append)
    assert [type(post) for post in posts] == [KeptStoreFailed]
    assert "locked" in posts[0].message
    store.close()


def test_the_thread_writes_until_it_is_closed_or_fails(path):
    for last, kind in ((KeptStoreClosed(), KeptStoreClosed), (KeptBatch((put(), put())), KeptStoreClosed)):
        commands, posts = [KeptBatch((put(),)), last, KeptStoreClosed()], []
        keep_on_disk(lambda: KeptStore(path, fresh=True), lambda: commands.pop(0), posts.append)  # noqa: B023
        assert [type(post) for post in posts[:2]] == [KeptOpened, KeptCommitted]
        assert type(posts[-1]) is kind
    append = append_events("a1", 0, EVENTS[:1], DECIDED, Delivered())
    commands, posts = [KeptBatch((put(), append, append))], []
    keep_on_disk(lambda: KeptStore(path, fresh=True), lambda: commands.pop(0), posts.append)
    assert [type(post) for post in posts] == [KeptOpened, KeptStoreFailed, KeptStoreClosed]
