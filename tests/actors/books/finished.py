"""Finished, in every shape of request."""

from functools import partial

from actors.api.request import ChatMessage, ChatPrompt, TokenPrompt
from tests.actors.books import ways_out as out
from tests.actors.books.way import Row, Way
from tests.actors.books.ways_out import asks
from tests.actors.books.world import LONG

CHAT = {"prompts": (ChatPrompt((ChatMessage("user", "Hi there"),)),)}
LONG_ONES = (TokenPrompt(LONG), TokenPrompt(LONG[::-1]))
TWO = (TokenPrompt((5, 6)), TokenPrompt((7, 8, 9)))

FINISHED = [
    Way("finished", asks(), (4, 6, 0), Row("ok", "asked_for", "small", 4, 6, 0, 16.0), 10, reserved=(14, 240.0)),
    Way("finished whole", asks(streamed=False), (4, 6, 0), Row("ok", "asked_for", "small", 4, 6, 0, 16.0), 10),
    Way("finished on large", asks("large"), (4, 6, 0), Row("ok", "asked_for", "large", 4, 6, 0, 160.0), 10),
    Way("length", asks(max_tokens=3), (4, 3, 0), Row("ok", "asked_for", "small", 4, 3, 0, 10.0), 7),
    Way(
        "three choices",
        asks(n=3, streamed=False),
        (4, 18, 0),
        Row("ok", "asked_for", "small", 4, 18, 0, 40.0),
        22,
        reserved=(34, 640.0),
    ),
    Way(
        "two prompts, two choices each",
        asks(prompts=TWO, n=2, ignore_eos=True),
        (5, 40, 0),
        Row("ok", "asked_for", "small", 5, 40, 0, 85.0),
        45,
        reserved=(45, 850.0),
    ),
    Way(
        "cached prompt",
        out.twice,
        (40, 1, 32),
        Row("ok", "asked_for", "small", 40, 1, 0, 8 * 1 + 32 * 0.25 + 2),
        82,
        requests=2,
        money=42.0 + 18.0,
        reserved=(50, 600.0),
    ),
    Way(
        "cached prompt, two choices",
        partial(out.twice, n=2),
        (40, 2, 32),
        Row("ok", "asked_for", "small", 40, 2, 0, 8 * 1 + 32 * 0.25 + 4),
        84,
        requests=2,
        money=44.0 + 20.0,
    ),
    Way(
        "two cached prompts, two choices each",
        partial(out.twice, prompts=LONG_ONES, n=2),
        (80, 4, 64),
        Row("ok", "asked_for", "small", 80, 4, 0, 16 * 1 + 64 * 0.25 + 8),
        168,
        requests=2,
        money=88.0 + 40.0,
    ),
    Way("embeddings", out.embedded, (5, 0, 0), Row("ok", "asked_for", "encoder", 5, 0, 0, 15.0), 5, reserved=(5, 15.0)),
    Way("admission was down", out.admission_is_down, (4, 6, 0), Row("ok", "asked_for", "small", 4, 6, 0, 16.0), 10),
    Way("drained", out.drained_in_time, (4, 6, 0), Row("ok", "asked_for", "small", 4, 6, 0, 16.0), 10),
    Way("writer restarted", out.writer_restarted, (4, 6, 0), Row("ok", "asked_for", "small", 4, 6, 0, 16.0), 10),
    Way(
        "writer restarted later",
        out.writer_restarted_later,
        (4, 6, 0),
        Row("ok", "asked_for", "small", 4, 6, 0, 16.0),
        10,
    ),
    Way("upstream", asks("cloud", **CHAT), (11, 1, 0), Row("ok", "asked_for", "cloud", 11, 1, 0, 1300.0), 12),
]
