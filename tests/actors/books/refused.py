"""Refused, at whatever stage: it costs nothing."""

from functools import partial

from tests.actors.books import ways_out as out
from tests.actors.books.way import Row, Way
from tests.actors.books.ways_out import asks
from tests.actors.books.world import TEXT, config
from tests.actors.fakes import says

UNSURE = {"small": says(TEXT, {3: 0.1})}
BREAKER = config().replace(
    '[[ladders.large-only]]\nto = "large"',
    '[[ladders.large-only]]\nto = "large"\nttft = "1s"\nbreaker = { at_least = 2, open = "40s" }',
)
HURRY = config().replace(
    'use = { ladder = "small-first" }', 'use = { ladder = "small-first" }\ndeadlines = { ttft = "4s" }'
)
SHORT_QUEUE = config().replace('wait = "20s"', 'wait = "2s"')

REFUSED = [
    Way("unknown key", asks(api_key="penstock_nobody"), "invalid_api_key", None, requests=0),
    Way("unknown model", asks("smal"), "model_not_found", None, requests=0),
    Way("prompt too long", asks(max_tokens=600), "context_length_exceeded", None, requests=0),
    Way("input too long", out.embedding_too_long, "context_length_exceeded", None, requests=0),
    Way(
        "not of the vocabulary",
        asks(prompt=(5, 6, 9_999)),
        "token_out_of_vocabulary",
        Row("refused", "token_out_of_vocabulary", "small", 0, 0, 0, 0.0),
        requests=0,
        reserved=(13, 230.0),
    ),
    Way(
        "tokens a minute",
        asks(),
        "tokens_per_minute_exceeded",
        None,
        requests=0,
        service={"settings": config(tokens="{ per_minute = 13 }")},
    ),
    Way(
        "tokens a day",
        asks(),
        "tokens_per_day_exceeded",
        None,
        requests=0,
        service={"settings": config(tokens="{ per_day = 13 }")},
    ),
    Way(
        "requests a minute",
        out.after_another,
        "requests_per_minute_exceeded",
        None,
        tokens=10,
        money=16.0,
        service={"settings": config(requests_per_minute="1")},
    ),
    Way(
        "too many at once",
        partial(out.beside_another, model="small"),
        "concurrent_exceeded",
        None,
        service={"settings": config(concurrent="1")},
    ),
    Way(
        "budget",
        asks("large"),
        "budget_spent",
        None,
        requests=0,
        service={"settings": config(budget='{ amount = 239, per = "month" }')},
    ),
    Way(
        "budget that another one holds",
        partial(out.beside_another, model="large"),
        "budget_spent",
        None,
        service={"settings": config(budget='{ amount = 479, per = "month" }')},
    ),
    Way("displaced", out.displaced, "queue_full", Row("refused", "queue_full", "large", 0, 0, 0, 0.0), requests=0),
    Way("queue full", out.queue_full, "queue_full", Row("refused", "queue_full", "large", 0, 0, 0, 0.0), requests=0),
    Way(
        "queue timeout",
        out.queue_timeout,
        "no_rung_available",
        Row("refused", "no_rung_available", "large", 0, 0, 0, 0.0),
        requests=0,
        service={"settings": SHORT_QUEUE},
    ),
    Way(
        "breaker open",
        out.breaker_open,
        "no_rung_available",
        Row("refused", "no_rung_available", "large", 0, 0, 0, 0.0),
        requests=0,
        service={"settings": BREAKER},
    ),
    Way("ledger busy", out.ledger_busy, "ledger_busy", None, requests=0),
    Way(
        "ledger locked",
        out.ledger_locked,
        "ledger_unavailable",
        Row("refused", "ledger_unavailable", "small", 0, 0, 1, 0.0),
        requests=0,
        service={"settings": HURRY},
    ),
    Way(
        "ledger locked, whole",
        partial(out.ledger_locked, streamed=False),
        "ledger_unavailable",
        Row("refused", "ledger_unavailable", "small", 0, 0, 6, 0.0),
        requests=0,
        service={"settings": HURRY},
    ),
    Way("cancelled while admission decides", out.cancelled_while_admission_decides, "cancelled", None, requests=0),
    Way(
        "engine down",
        partial(out.failing, engine="large", step=0, model="large", for_good=True),
        "no_rung_available",
        Row("refused", "no_rung_available", "large", 0, 0, 0, 0.0),
        requests=0,
    ),
    Way("draining", out.too_late, "shutting_down", None, requests=0, service={"clean": False}),
    Way(
        "cut before content",
        partial(out.cut, after_s=0.01),
        "shutting_down",
        Row("refused", "shutting_down", "small", 0, 0, 0, 0.0),
        requests=0,
    ),
    Way(
        "cut whole",
        partial(out.cut, after_s=0.35, streamed=False),
        "shutting_down",
        Row("refused", "shutting_down", "small", 0, 0, 3, 0.0),
        requests=0,
    ),
    Way(
        "drained whole",
        partial(out.drained, within_s=0.2, streamed=False),
        "shutting_down",
        Row("refused", "shutting_down", "small", 0, 0, 4, 0.0),
        requests=0,
        service={"clean": False},
    ),
    # Nobody has an answer, so that nobody pays for what the small stage did.
    Way(
        "escalated to an engine that is down",
        partial(out.failing, engine="large", step=0, model="whole", for_good=True),
        "no_rung_available",
        Row("refused", "no_rung_available", "large", 0, 0, 4, 0.0),
        requests=0,
        service={"scripts": UNSURE},
    ),
]
