"""What the console's pure modules make of streams, metrics and odd text."""

from pathlib import Path

from tests.gateway.console.node import evaluate

CHUNK = '{"choices":[{"index":0,"delta":{"content":"é👍"}}]}'


def test_a_stream_reads_the_same_however_its_bytes_are_cut(tmp_path: Path) -> None:
    stream = f": heartbeat\n\ndata: {CHUNK}\n\nid: 7\ndata: 2\n\ndata: [DONE]\n\n"
    code = """
    import { eventData } from "./playground/event_stream.js";
    const bytes = new TextEncoder().encode(given);
    async function read(cut) {
      const parts = [bytes.slice(0, cut), bytes.slice(cut)];
      const found = [];
      for await (const data of eventData(new Blob(parts).stream())) found.push(data);
      const single = new ReadableStream({
        start(controller) { for (const part of parts) controller.enqueue(part); controller.close(); },
      });
      for await (const data of eventData(single)) found.push(data);
      return found.join("|");
    }
    export default (async () => {
      const all = new Set();
      for (let cut = 0; cut <= bytes.length; cut++) all.add(await read(cut));
      return [...all];
    })();
    """
    assert evaluate(tmp_path, code, stream) == ["|".join([CHUNK, "2", "[DONE]"] * 2)]


def test_an_answer_is_put_together(tmp_path: Path) -> None:
    code = """
    import { Answer } from "./playground/answer.js";
    const answer = new Answer(1000);
    given.forEach((data, at) => answer.take(typeof data === "string" ? data : JSON.stringify(data), 1100 + 100 * at));
    export default [answer.content, answer.reasoning, answer.message, answer.ttftMs, answer.tokensPerS, answer.ended,
      answer.error?.code ?? null];
    """

    def chunk(**delta: object) -> dict[str, object]:
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}

    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a"'}}
    rest = {"index": 0, "function": {"arguments": ":1}"}}
    usage = {"choices": [], "usage": {"completion_tokens": 13}, "penstock": {"rung": "small"}}
    given = [chunk(role="assistant", content=""), chunk(reasoning_content="Hm"), chunk(content="He"),
             chunk(content="llo"), chunk(tool_calls=[call]), chunk(tool_calls=[rest]), usage, "[DONE]"]  # fmt: skip
    content, reasoning, message, ttft, speed, ended, error = evaluate(tmp_path, code, given)
    assert (content, reasoning, ttft, speed, ended, error) == ("Hello", "Hm", 200, 30, True, None)
    made = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    assert message == {"role": "assistant", "content": "Hello", "reasoning_content": "Hm", "tool_calls": [made]}
    failed = [chunk(content="He"), {"error": {"code": "engine_failed", "message": "It failed."}}]
    assert evaluate(tmp_path, code, failed)[-1] == "engine_failed"


def test_metrics_are_read_with_their_labels(tmp_path: Path) -> None:
    code = """
    import { samplesOf } from "./live/exposition.js";
    export default Object.fromEntries(samplesOf(given));
    """
    text = '# HELP a b\n# TYPE a gauge\na:b{x="1,2",y="q\\"\\\\n\\n}"} 3.5\na:b{x="z"} 1e+06\nplain 7.0\nbad line\n'
    found = evaluate(tmp_path, code, text)
    assert found == {
        "a:b": [{"labels": {"x": "1,2", "y": 'q"\\n\n}'}, "value": 3.5}, {"labels": {"x": "z"}, "value": 1e6}],
        "plain": [{"labels": {}, "value": 7}],
    }


def test_rates_are_of_the_last_seconds_and_never_negative(tmp_path: Path) -> None:
    code = """
    import { History } from "./live/history.js";
    const history = new History();
    const sample = (value) => ({ labels: { rung: "a" }, value });
    given.forEach(([at, value]) => history.add(1000 * at, new Map([
      ["c", [sample(value), { labels: { rung: "b" }, value: 1 }]],
      ["t_sum", [sample(value)]], ["t_count", [sample(at)]],
    ])));
    export default [history.rate("c", { rung: "a" }), history.rates("c", { rung: "a" }), history.sum("c"),
      history.values("c", "rung"), history.mean("t"), history.rate("none")];
    """
    seen = evaluate(tmp_path, code, [[0, 0], [1, 10], [2, 40], [3, 40]])
    assert seen == [40 / 3, [10, 30, 0], 41, ["a", "b"], 40 / 3, 0]
    # The server was started again.
    assert evaluate(tmp_path, code, [[0, 50], [1, 60], [2, 5]])[:2] == [0, [10, 0]]
    assert evaluate(tmp_path, code, [[0, 5]])[:2] == [None, []]


def test_hidden_characters_are_seen(tmp_path: Path) -> None:
    code = """
    import { plainJson, visible } from "./shared/visible_text.js";
    export default [visible(given), plainJson(given)];
    """
    odd = "a\x1b[31m\u202eb\u2066\x07\ufeff\U000e0041\x7f\n\té👍🏽 👨‍👩‍👧"
    shown, escaped = evaluate(tmp_path, code, odd)
    assert shown == "a␛[31m⟨U+202E⟩b⟨U+2066⟩␇⟨U+FEFF⟩⟨U+E0041⟩␡\n\té👍🏽 👨‍👩‍👧"
    assert "\\u202e" in escaped
    assert "\\udb40\\udc41" in escaped
    assert not {"\u202e", "\u2066", "\ufeff", "\U000e0041", "\x7f"} & set(escaped)
    assert evaluate(tmp_path, "export default JSON.parse(given)", escaped) == odd
