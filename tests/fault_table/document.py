"""docs/faults.md: the rows of all runs, and a summary that is counted from them."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from tests.fault_table.case import FaultRow
from tests.paths import DOCS

PAGE = DOCS / "faults.md"
VERDICTS = {
    "rescued": "who made the answer was struck, and the client got all of it, the same as without the fault",
    "no harm": "the answer is the same, and nothing had to be tried again",
    "true error": "it could not go on: an error with a code, and never an end of success",
    "cut": "the connection was closed without an end, because the process was no more",
    "the client left": "there is no one to tell",
}
_HEAD = """\
# What happens when something breaks

This page is written by `make faults`: each row is a case that was run, and says what the run gave. A test runs a
sample of them and compares it with this page. Do not edit it by hand: change the cases in `tests/fault_table/`.

{summary}

How to read the tables:

- *client saw*: the HTTP status and the end of the answer. A *piece* is an event with content. Where nothing else is
  said, an answer has 10 tokens, and the end is the tenth.
- *what became of it*: {verdicts}.
- *billed*: tokens of the prompt + tokens of the answer, as the ledger has them; *unseen* are tokens that were made and
  not shown, such as those of a lost attempt of an answer that is not streamed. In these runs one token of a prompt or
  of an answer costs one unit of money. What ends with an error costs no money, but for what the small model of a
  cascade had made before it escalated.
- *time*: of an answer, how much longer it took than without the fault; of an error, how long after the fault it came.
  A step of an engine takes 0.1 s here, and so does a piece of an upstream.
- *left*: *clean* if no KV block, job, call, reservation, timer or open ledger entry was left.

The clock is simulated: clients, server, actors and the engines' schedulers are the real ones, over real sockets; a
runner without a model stands for the GPU, and memory streams for the network to upstreams. Rows marked *(processes)*
have real processes and models of random weights, and no times.
"""
_COLUMNS = "| what was done | asked as | client saw | what became of it | billed | time | left |"
_TITLES = {
    "provider": "Providers",
    "engine": "Engines",
    "ledger": "The ledger",
    "clock": "The clock",
    "reload": "Reloads",
    "end of the process": "The end of the process",
    "client": "Clients",
    "engine killed": "Engine killed, by what the answer was",
    "upstream killed": "Upstream killed, by what the answer was",
    "engine's process killed": "An engine's process killed *(processes)*",
    "gateway killed": "Gateway killed, by what the answer was *(processes)*",
}
_NOTES = {
    "upstream killed": """\
The first upstream closes the connection after 3 pieces of each choice, and a second one with the same model is next; it
takes `continue_final_message`. In the cascade the upstream is the large model, and dies after the escalation.
""",
    "gateway killed": """\
One SIGKILL while all of these run. Of what the file of kept answers has, exactly that is charged; of other streams what
the ledger has noted in the last seconds before; nothing of answers of which nothing had come. Then the same gateway is
started again. An `Idempotency-Key` and `x-penstock-resumable` were sent with each HTTP request
([answers that outlive their connection](resuming.md)).
""",
}


def page(rows: Sequence[FaultRow]) -> str:
    """The whole page."""
    verdicts = "; ".join([f"*{name}*: {meaning}" for name, meaning in VERDICTS.items()])
    parts = [_HEAD.format(summary=summary(rows), verdicts=verdicts)]
    for group, members in groupby(rows, lambda row: row.group):
        parts.append(f"## {_TITLES[group]}\n")
        if group in _NOTES:
            parts.append(_NOTES[group])
        lines = [_COLUMNS, "| --- " * 7 + "|", *[line(row) for row in members]]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def line(row: FaultRow) -> str:
    asked = f"{row.asked}; {row.transport}" if row.asked else row.transport
    return f"| {row.what} | {asked} | {row.saw} | {row.verdict} | {row.billed} | {row.recovery} | {row.left} |"


def summary(rows: Sequence[FaultRow]) -> str:
    counts = Counter(row.verdict for row in rows)
    clean = sum(row.left == "clean" for row in rows)
    return (
        f"**{len(rows)} rows.** {counts['rescued']} answers were rescued, {counts['no harm']} came to no harm, "
        f"{counts['true error']} ended with a true error, {counts['cut']} were cut with the process that served them, "
        f"and of {counts['the client left']} the client had left. "
        f"{counts['DRESSED'] or 'None'} was dressed as a success. {clean} of {len(rows)} left nothing behind."
    )
