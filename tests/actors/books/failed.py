"""What fails costs no money; what was delivered of it counts as tokens."""

from functools import partial

from actors.api.request import ChatMessage, ChatPrompt
from tests.actors.books import ways_out as out
from tests.actors.books.way import Row, Way
from tests.actors.books.ways_out import asks
from tests.actors.books.world import TEXT, config
from tests.actors.fakes import says

UNSURE = {"small": says(TEXT, {3: 0.1})}
FOX = "the quick brown fox jumps"
UNSURE_LATER = {"small": says(FOX, {4: 0.1}), "large": says(FOX)}
CHAT = {"prompts": (ChatPrompt((ChatMessage("user", "Hi there"),)),)}
HURRY = config().replace(
    'use = { ladder = "small-first" }', 'use = { ladder = "small-first" }\ndeadlines = { ttft = "4s" }'
)
SHORT = HURRY.replace('ttft = "4s"', 'ttft = "1s", total = "1.95s"')

FAILED = [
    Way(
        "failed over",
        partial(out.failing, engine="small", step=0),
        (4, 6, 0),
        Row("ok", "engine_down", "large", 4, 6, 0, 160.0),
        10,
    ),
    Way(
        "waited for the restart",
        partial(out.failing, engine="large", step=0, model="large"),
        (4, 6, 0),
        Row("ok", "device_lost", "large", 4, 6, 0, 160.0),
        10,
    ),
    Way(
        "failed midway",
        partial(out.failing, engine="small", step=3),
        "no_rung_available 4 3",
        Row("failed", "no_rung_available", "small", 4, 3, 0, 0.0),
        7,
    ),
    Way(
        "failed midway, whole",
        partial(out.failing, engine="small", step=3, streamed=False),
        (4, 6, 0),
        Row("ok", "engine_down", "large", 4, 6, 3, 160.0),
        10,
    ),
    Way(
        "went on elsewhere",
        partial(out.failing, engine="small", step=3, model="goes-on"),
        (4, 6, 0),
        Row("ok", "device_lost", "large", 4, 6, 0, 10 * 7 + 20 * 3),
        10,
    ),
    Way(
        "failed after the escalation",
        partial(out.failing, engine="large", step=2, model="both"),
        "no_rung_available 4 3",
        Row("failed", "no_rung_available", "large", 4, 3, 4, 14.0),
        7,
        service={"scripts": UNSURE_LATER},
    ),
    Way(
        "answered by nobody",
        partial(out.failing, engine="large", step=0, model="static"),
        (0, 0, 0),
        Row("ok", "device_lost", "static_answer", 0, 0, 0, 0.0),
    ),
    Way(
        "retried",
        asks("cloud", **CHAT),
        (11, 1, 0),
        Row("ok", "upstream_error", "cloud", 11, 1, 0, 1300.0),
        12,
        service={"server": out.server_fails_first("hi")},
    ),
    Way(
        "upstream broke off",
        asks("cloud", **CHAT),
        "no_rung_available 5 2",
        Row("failed", "no_rung_available", "cloud", 5, 2, 0, 0.0),
        7,
        service={"server": out.breaks_off},
    ),
    Way(
        "cut midway",
        partial(out.cut, after_s=0.35),
        "shutting_down 4 3",
        Row("failed", "shutting_down", "small", 4, 3, 0, 0.0),
        7,
    ),
    Way(
        "cut after the escalation",
        partial(out.cut, after_s=0.75, model="whole"),
        "shutting_down 4 3",
        Row("failed", "shutting_down", "large", 4, 3, 4, 12.0),
        7,
        service={"scripts": UNSURE},
    ),
    Way(
        "total deadline",
        asks(ignore_eos=True, max_tokens=300),
        "total_timeout 4 19",
        Row("failed", "total_timeout", "small", 4, 19, 0, 0.0),
        23,
        service={"settings": SHORT},
    ),
    Way(
        "total deadline, whole",
        asks(ignore_eos=True, max_tokens=300, streamed=False),
        "total_timeout",
        Row("refused", "total_timeout", "small", 0, 0, 19, 0.0),
        requests=0,
        service={"settings": SHORT},
    ),
    Way(
        "stalled",
        out.stalled,
        "no_rung_available 4 3",
        Row("failed", "no_rung_available", "small", 4, 3, 0, 0.0),
        7,
        service={"settings": SHORT.replace('total = "1.95s"', 'total = "60s", stall = "2s"')},
    ),
    Way(
        "drained midway",
        partial(out.drained, within_s=0.2),
        "shutting_down 4 4",
        Row("failed", "shutting_down", "small", 4, 4, 0, 0.0),
        8,
        service={"clean": False},
    ),
]
