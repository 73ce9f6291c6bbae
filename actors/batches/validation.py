"""Reads the file of a batch before it begins: each of its requests, and everything that is wrong."""

from collections.abc import Sequence
from functools import partial
from typing import cast

import msgspec

from actors.batches.line_splitter import FileLine, LineSplitter
from actors.batches.ports import BatchFormats, BatchPorts
from actors.batches.records import BatchRecord, CheckedLine, LineFault
from actors.batches.store_queries import AddLines, ClearLines, ReadFile
from actors.batches.stored_batches import StoredBatches
from config.model.batch import BatchSettings
from config.model.wildcard import fits

MOST_FAULTS = 100
"""So many are reported."""
Checked = tuple[list[tuple[CheckedLine, str]], list[LineFault]]
"""Requests with their models, and what is wrong with the others."""


class Validated(msgspec.Struct, frozen=True):
    """The result: the requests are in the store, unless there are faults."""

    total: int
    faults: tuple[LineFault, ...]


async def validate(
    record: BatchRecord, store: StoredBatches, formats: BatchFormats, ports: BatchPorts, settings: BatchSettings
) -> Validated:
    """Raises Unavailable if the store does not answer."""
    await store.ask(ClearLines(record.id))
    splitter = LineSplitter(settings.max_line)
    faults: list[LineFault] = []
    models: dict[str, str] = {}
    total = position = 0
    ended = False
    while not ended and len(faults) < MOST_FAULTS and total <= settings.max_lines:
        part = await store.ask(ReadFile(record.tenant, record.input_file, position))
        if part is None:
            return Validated(0, (LineFault("file_not_found", "The input file was deleted."),))
        data, position = part
        ended = not data
        lines = splitter.end() if ended else splitter.feed(data)
        if not lines:
            continue
        # Decoding takes the processor for long: files have tens of thousands of lines.
        work = partial(check_lines, lines, record.endpoint, formats, settings.max_line)
        good, bad = cast("Checked", await ports.run_in_thread(work))
        faults += bad
        for _, model in good:
            if model not in models:
                models[model] = _model_fault(model, record, ports)
        faults += [
            LineFault("model_not_found", models[model], "body.model", line.number)
            for line, model in good
            if models[model]
        ]
        added = tuple([line for line, model in good if not models[model]])
        total += len(lines)
        again = set(await store.ask(AddLines(record.id, added)))
        faults += [
            LineFault(
                "duplicate_custom_id",
                f"The custom_id '{line.custom_id[:64]}' was used on an earlier line; each request needs its own.",
                "custom_id",
                line.number,
            )
            for line in added
            if line.number in again
        ]
    if total > settings.max_lines:
        faults.append(
            LineFault("too_many_lines", f"A batch may have {settings.max_lines} requests, and the file has more.")
        )
    if not total and not faults:
        faults.append(LineFault("empty_file", "The file has no requests: write one JSON object on each line."))
    faults.sort(key=lambda fault: fault.line or 0)
    if faults:
        await store.ask(ClearLines(record.id))
    return Validated(total, tuple(faults[:MOST_FAULTS]))


def check_lines(lines: Sequence[FileLine], endpoint: str, formats: BatchFormats, most_bytes: int) -> Checked:
    """Check each line for itself."""
    good: list[tuple[CheckedLine, str]] = []
    bad: list[LineFault] = []
    for line in lines:
        if line.too_long:
            message = f"The line is longer than {most_bytes} bytes."
            bad.append(LineFault("line_too_long", message, None, line.number))
            continue
        found = formats.check(line.raw, endpoint)
        if isinstance(found, LineFault):
            bad.append(msgspec.structs.replace(found, line=line.number))
        else:
            good.append((CheckedLine(line.number, found.custom_id, line.start, len(line.raw)), found.model))
    return good, bad


def _model_fault(model: str, record: BatchRecord, ports: BatchPorts) -> str:
    if record.models and not any(fits(model, each) for each in record.models):
        return (
            f"The API key of this batch may not ask for the model '{model[:64]}'; it may ask for: "
            f"{', '.join(record.models)}."
        )
    return ports.model_fault(model)
