"""Whoever leaves, or reads too slowly, pays for what was begun and made."""

from functools import partial

from tests.actors.books import ways_out as out
from tests.actors.books.way import Row, Way
from tests.actors.books.world import TEXT
from tests.actors.fakes import says

UNSURE = {"small": says(TEXT, {3: 0.1})}

LEFT = [
    Way("left unread", out.left_unread, "left", Row("gone", "client_gone", "", 0, 0, 0, 0.0)),
    Way("left in the queue", out.left_in_queue, "left", Row("gone", "client_gone", "large", 0, 0, 0, 0.0)),
    Way("left in prefill", out.left_in_prefill, "left", Row("gone", "client_gone", "small", 4, 0, 0, 4.0), 4),
    Way(
        "left in prefill, whole",
        partial(out.left_in_prefill, streamed=False),
        "left",
        Row("gone", "client_gone", "small", 4, 0, 0, 4.0),
        4,
    ),
    Way("left an embedding", out.left_embedding, "left", Row("gone", "client_gone", "encoder", 5, 0, 0, 15.0), 5),
    Way(
        "left between two pieces",
        partial(out.left_after_events, events=3),
        "left",
        Row("gone", "client_gone", "small", 4, 3, 0, 10.0),
        7,
    ),
    Way(
        "left what waited to be read",
        out.left_behind,
        "left",
        Row("gone", "client_gone", "small", 4, 1, 4, 14.0),
        9,
    ),
    Way(
        "left midway",
        partial(out.left_after, seconds=0.45),
        "left",
        Row("gone", "client_gone", "small", 4, 4, 0, 12.0),
        8,
    ),
    Way(
        "left midway, whole",
        partial(out.left_after, seconds=0.45, streamed=False),
        "left",
        Row("gone", "client_gone", "small", 4, 0, 4, 12.0),
        8,
    ),
    Way(
        "left two choices",
        partial(out.left_after, seconds=0.45, n=2),
        "left",
        Row("gone", "client_gone", "small", 4, 8, 0, 20.0),
        12,
    ),
    Way(
        "left after the escalation",
        partial(out.left_after, seconds=0.95, model="whole"),
        "left",
        Row("gone", "client_gone", "large", 4, 5, 4, 152.0),
        13,
        service={"scripts": UNSURE},
    ),
    Way("left while drafting", out.left_while_drafting, "left", Row("gone", "client_gone", "large", 4, 0, 2, 8.0), 6),
    Way(
        "left while verifying",
        out.left_while_verifying,
        "left",
        Row("gone", "client_gone", "large", 4, 0, 6, 56.0),
        10,
    ),
    Way(
        "left before it was written",
        partial(out.left_before_it_was_written, streamed=False),
        "left",
        Row("gone", "client_gone", "small", 4, 0, 6, 16.0),
        10,
    ),
    Way(
        "left before it was written, streamed",
        out.left_before_it_was_written,
        "left",
        Row("gone", "client_gone", "small", 4, 0, 6, 16.0),
        10,
    ),
    Way(
        "too slow a reader",
        out.slow_reader,
        "slow_reader 4 41",
        Row("overrun", "slow_reader", "small", 4, 41, 0, 86.0),
        45,
    ),
]
