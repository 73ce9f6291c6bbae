"""The comparison with other engines: requests, counting of tokens, and the table."""

import socket
import threading

import pytest

from benchmarks.engine.client import Figures, ServerError, answers
from benchmarks.engine.floor import Machine, Weights, floor_tokens_per_s
from benchmarks.engine.report import Record, Report
from benchmarks.engine.workloads import BenchRequest, requests_of

FIGURES = Figures(output_tokens=8, seconds=1.0, output_tokens_per_s=8.0, ttft_ms=3.0, tpot_ms=2.0, itl_ms=2.0)


def served(body: bytes, it: BenchRequest) -> tuple[Figures, list[list[int]]]:
    """The client's result for a response."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + body)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            return answers(listener.getsockname()[1], [it])
        finally:
            thread.join()


def test_an_event_may_carry_several_tokens() -> None:
    body = b'data: {"choices": [{"text": " w7 w8"}]}\n\ndata: {"choices": [{"text": " w9"}]}\n\ndata: [DONE]\n\n'
    figures, tokens = served(body, BenchRequest((3,), 3))
    assert tokens == [[7, 8, 9]]
    assert figures.output_tokens == 3


def test_a_short_answer_is_no_figure() -> None:
    with pytest.raises(ServerError, match="1 tokens came, 2 were asked for"):
        served(b'data: {"choices": [{"text": " w7"}]}\n\ndata: [DONE]\n\n', BenchRequest((3,), 2))


def test_a_token_without_a_text_counts_if_the_server_counts_it() -> None:
    used = b'data: {"choices": [], "usage": {"completion_tokens": 3}}'
    figures, tokens = served(
        b'data: {"choices": [{"text": " w7 w9"}]}\n\n' + used + b"\n\ndata: [DONE]\n\n", BenchRequest((3,), 3)
    )
    assert tokens == [[7, 9]]
    assert figures.output_tokens == 3


def test_an_error_in_the_stream_is_reported() -> None:
    with pytest.raises(ServerError, match="too long"):
        served(b'data: {"error": {"message": "too long"}}\n\ndata: [DONE]\n\n', BenchRequest((3,), 2))


def test_workloads_keep_their_lengths_and_change_their_tokens() -> None:
    for name in ("W1", "W2", "W3", "W4"):
        one, other = requests_of(name, 1000, 1), requests_of(name, 1000, 2)
        assert [len(it.prompt) for it in one] == [len(it.prompt) for it in other]
        assert one[0].prompt != other[0].prompt
        assert one == requests_of(name, 1000, 1)
    shared = requests_of("W4", 1000, 1)
    assert len({it.prompt[:512] for it in shared}) == 1
    assert len({it.prompt[512:] for it in shared}) == 16


def test_the_floor_of_one_stream_is_the_weights_over_the_bandwidth() -> None:
    machine = Machine(read_bytes_per_s=100.0, operations_per_s={"16": 1e9, "256": 1e9})
    assert floor_tokens_per_s([BenchRequest((1, 2), 5)], machine, Weights(80, 50)) == pytest.approx(1.0)


def test_the_table_holds_medians_and_ratios() -> None:
    report = Report(floors={"m W1": 16.0})
    for turn, speed in enumerate((4.0, 8.0, 100.0)):
        for server, times in (("penstock", 1), ("other", 2)):
            it = Figures(8, 1.0, speed * times, 3.0, 2.0, 2.0)
            report.records.append(Record(server, "m", "W1", 2, turn, it))
    table = report.table()
    assert "| W1 | penstock | 8 | 50% | 3 | 2.0 | 2.0 | 3 |" in table
    assert "| W1 | other | 16 (×2.00) | 100% |" in table


def test_parts_merge() -> None:
    one = Report(records=[Record("a", "m", "W1", 2, 0, FIGURES)], absent={"b": "not installed"})
    one.merge(Report(cpu="x", records=[Record("a", "m", "W2", 2, 0, FIGURES)]))
    assert [record.workload for record in one.records] == ["W1", "W2"]
    assert "b skipped: not installed" in one.table()
