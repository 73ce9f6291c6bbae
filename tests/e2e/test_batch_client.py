"""Files and batches by the official client and by `penstock batch`, against real processes. The models are random."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.cli.main import main
from tests.e2e.process import GatewayProcess, until
from tests.e2e.test_readme import blocks
from tests.e2e.test_restarts import kill, own
from tests.paths import ROOT
from tests.patience import PATIENCE_S

__all__ = ["own"]
ENDED = {"completed", "failed", "expired", "cancelled"}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "max_tokens": 6}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"prompt": "Hi", "max_tokens": 6},
    "/v1/responses": {"input": "Hi", "max_output_tokens": 6},
}


@pytest.fixture
def client(served: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def lines(count: int, url: str = "/v1/chat/completions", **more: Any) -> bytes:
    return b"".join(
        json.dumps(
            {"custom_id": f"c{number}", "method": "POST", "url": url, "body": {"model": "small", **BODIES[url], **more}}
        ).encode()
        + b"\n"
        for number in range(count)
    )


def begin(client: openai.OpenAI, data: bytes, endpoint: str = "/v1/chat/completions", **more: Any) -> Any:
    file = client.files.create(file=("in.jsonl", data), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more)  # type: ignore[arg-type]


def ended(client: openai.OpenAI, batch_id: str) -> Any:
    until(lambda: client.batches.retrieve(batch_id).status in ENDED)
    return client.batches.retrieve(batch_id)


def results(client: openai.OpenAI, *file_ids: str | None) -> list[Any]:
    return [
        json.loads(line)
        for file_id in file_ids
        if file_id is not None
        for line in client.files.content(file_id).text.splitlines()
    ]


def test_files(client: openai.OpenAI) -> None:
    data = lines(2)
    made = client.files.create(
        file=("in.jsonl", data), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert (made.bytes, made.filename, made.purpose, made.status) == (len(data), "in.jsonl", "batch", "processed")
    assert made.expires_at == made.created_at + 3600
    assert client.files.wait_for_processing(made.id, poll_interval=0.01) == client.files.retrieve(made.id) == made
    assert made.id in [file.id for file in client.files.list(limit=1)]
    assert client.files.content(made.id).read() == data
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made.id)


@pytest.mark.parametrize("endpoint", BODIES)
def test_a_batch(client: openai.OpenAI, endpoint: str) -> None:
    made = begin(
        client,
        lines(5, endpoint),
        endpoint,
        metadata={"run": "1"},
        output_expires_after={"anchor": "created_at", "seconds": 7200},
    )
    assert (made.status, made.metadata) == ("validating", {"run": "1"})
    batch = ended(client, made.id)
    assert batch.status == "completed"
    assert (batch.request_counts.total, batch.request_counts.completed, batch.error_file_id) == (5, 5, None)
    found = results(client, batch.output_file_id)
    assert sorted(each["custom_id"] for each in found) == [f"c{number}" for number in range(5)]
    for each in found:
        assert (each["error"], each["response"]["status_code"]) == (None, 200)
        assert each["response"]["body"]["model"] == "small"
        assert each["response"]["body"]["usage"]["total_tokens"] > 6
    output = client.files.retrieve(batch.output_file_id)
    assert (output.purpose, output.expires_at) == ("batch_output", output.created_at + 7200)
    assert made.id in [each.id for each in client.batches.list(limit=2)]


def test_a_cancelled_batch(client: openai.OpenAI) -> None:
    made = begin(client, lines(400, max_tokens=200, ignore_eos=True))
    until(lambda: client.batches.retrieve(made.id).status == "in_progress")
    assert client.batches.cancel(made.id).status in {"cancelling", "cancelled"}
    batch = ended(client, made.id)
    assert batch.status == "cancelled"
    assert len(results(client, batch.output_file_id, batch.error_file_id)) == 400
    with pytest.raises(openai.BadRequestError):
        client.batches.create(input_file_id="file-0", endpoint="/v1/moderations", completion_window="24h")


def test_a_kill_loses_no_result_and_repeats_none(own: Path, tmp_path: Path) -> None:
    own.write_text(own.read_text() + '[batch]\nfile = "batches.sqlite3"\n')
    first = GatewayProcess("--config", str(own), log=tmp_path / "first.log")
    try:
        with openai.OpenAI(base_url=f"{first.url}/v1", api_key="none") as client:
            made = begin(client, lines(80, max_tokens=30, ignore_eos=True))
            until(lambda: client.batches.retrieve(made.id).request_counts.completed >= 10)
    finally:
        kill(first)
    assert (tmp_path / "batches.sqlite3").stat().st_mode & 0o077 == 0
    second = GatewayProcess("--config", str(own), log=tmp_path / "second.log")
    try:
        with openai.OpenAI(base_url=f"{second.url}/v1", api_key="none") as client:
            before = client.batches.retrieve(made.id).request_counts.completed
            batch = ended(client, made.id)
            assert (batch.status, batch.request_counts.completed) == ("completed", 80)
            assert before >= 10
            found = [each["custom_id"] for each in results(client, batch.output_file_id)]
            assert sorted(found) == sorted({f"c{number}" for number in range(80)})
    finally:
        kill(second)


def test_the_command(served: GatewayProcess, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "requests.jsonl", tmp_path / "requests.results.jsonl"
    file.write_bytes(lines(3) + lines(1, messages=[]).replace(b'"c0"', b'"bad"'))
    assert main(["batch", "run", str(file), "--url", served.url]) == 1
    said = capfd.readouterr().err
    batch_id = said.split()[0]
    assert "4 of 4 requests, 1 of them failed" in said
    assert len(out.read_text().splitlines()) == 3
    assert json.loads((tmp_path / "requests.errors.jsonl").read_text())["custom_id"] == "bad"
    assert main(["batch", "run", str(file), "--url", served.url]) == 2
    assert "exists already" in capfd.readouterr().err
    again = tmp_path / "again.jsonl"
    assert main(["batch", "resume", batch_id, "--url", served.url, "--out", str(again)]) == 1
    assert again.read_bytes() == out.read_bytes()
    assert main(["batch", "status", "--url", served.url]) == 0
    assert f"{batch_id} completed: 4 of 4 requests" in capfd.readouterr().out
    assert main(["batch", "cancel", batch_id, "--url", served.url]) == 1
    assert "cannot be cancelled" in capfd.readouterr().err


def test_what_the_command_says_of_a_wrong_file(
    served: GatewayProcess, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "in.jsonl"
    for text, arguments, status, words in (
        ("", [], 2, "first line is no request"),
        ('{"url": "/v1/audio"}', [], 2, "none of /v1/chat/completions"),
        (lines(1).decode() + "{", [], 1, "line 2: This line is not valid JSON"),
        (lines(1).decode(), ["--url", "http://127.0.0.1:1"], 1, "start the server, or give its address by --url"),
        (lines(1).decode(), ["--url", "localhost"], 2, "an address such as"),
        (lines(1).decode(), ["--key-env", "NO_SUCH_KEY"], 2, "is not set"),
    ):
        file.write_text(text)
        given = arguments if "--url" in arguments else ["--url", served.url, *arguments]
        assert main(["batch", "run", str(file), *given]) == status, words
        assert words in capfd.readouterr().err
    assert main(["batch", "run", str(tmp_path / "missing"), "--url", served.url]) == 2
    assert "cannot be read" in capfd.readouterr().err
    assert main(["batch", "resume", "batch_0", "--url", served.url]) == 1
    assert "There is no batch" in capfd.readouterr().err


def test_the_commands_of_the_page(served: GatewayProcess, tmp_path: Path) -> None:
    (code,) = blocks("docs/batch.md", "sh")
    code = code.replace("127.0.0.1:8080", f"127.0.0.1:{served.port}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=tmp_path,
        check=False,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line)["custom_id"] for line in (tmp_path / "requests.results.jsonl").read_text().splitlines()]
    assert found == ["q1", "q2"]
