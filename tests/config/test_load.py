"""Mistakes of every kind in a file are reported, all at once, with position and correction."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.load import load_settings, parse_settings
from config.model.settings import Settings
from config.model.table import Bytes, Seconds
from config.problems.errors import ConfigError
from config.profiles import embedded_profile

GOOD = """\
schema = 1
[engines.small]
model = "m/small"
[engines.large]
model = "m/large"
kv = { memory = "1GiB" }
[models.chat]
[tiers.default]
slo = { ttft = "500ms" }
[signals.long]
prompt_tokens = { at_least = 4000 }
[signals.busy]
load = { of = "large", kv_usage = { at_least = 0.9 } }
[[routes]]
name = "long-ones"
when = { signal = ["long"] }
use = { ladder = "safe" }
[[routes]]
name = "rest"
use = { cascade = "thrifty" }
[cascades.thrifty]
stages = ["small", "large"]
defer = { threshold = 1.0 }
when_busy = { signal = "busy", stay_on = "small", release_at = 0.5 }
on_failure = "safe"
[[ladders.safe]]
to = "large"
retries = 1
[[ladders.safe]]
answer = "Please try again."
"""


def parse(text: str) -> Settings:
    return parse_settings(text, Path("/etc/penstock.toml"))


def problems(text: str) -> list[tuple[int, str]]:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return [(problem.line, str(problem)) for problem in caught.value.problems]


def with_line(old: str, new: str) -> tuple[str, int]:
    """GOOD with one line replaced, and the number of that line."""
    assert GOOD.count(f"\n{old}\n") == 1, old
    return GOOD.replace(f"\n{old}\n", f"\n{new}\n"), GOOD.split("\n").index(old) + 1


def test_a_good_file_is_read() -> None:
    read = parse(GOOD)
    assert read.engines["large"].kv.memory == 2**30
    assert read.tiers["default"].slo.ttft == 0.5
    assert read.engines["small"].model == Path("/etc/m/small")
    assert read.cascades["thrifty"].when_busy is not None
    assert isinstance(read.server.drain, Seconds)
    assert isinstance(read.server.max_body, Bytes)


def test_the_embedded_profile_is_good() -> None:
    read = load_settings(embedded_profile())
    assert set(read.engines) == {"small", "large"}
    assert all(engine.model.is_absolute() and ".." not in engine.model.parts for engine in read.engines.values())


@pytest.mark.parametrize(
    ("old", "new", "fragments"),
    [
        ('model = "m/small"', '¦modle = "m/small"', ["unknown key 'modle'; did you mean 'model'?"]),
        ('model = "m/small"', "model = ¦5", ["engines.small.model: got 5", "expected a path"]),
        ('slo = { ttft = "500ms" }', "slo = { ttft = ¦5 }", ['a duration such as "500ms"', "got 5"]),
        ('slo = { ttft = "500ms" }', 'slo = { ttft = ¦"5 s" }', ['got "5 s"', "a duration"]),
        ('slo = { ttft = "500ms" }', 'slo = { ttft = ¦"0s" }', ['"0s" is out of range', "more than 0"]),
        ('kv = { memory = "1GiB" }', 'kv = { memory = ¦"1GB" }', ['got "1GB"', "a size such as"]),
        ('kv = { memory = "1GiB" }', "kv = { block_size = ¦-1 }", ["-1 is out of range", "1 to 256"]),
        ('kv = { memory = "1GiB" }', 'dtype = ¦"bfloat32"', ['"bfloat32" is not allowed']),
        ("[models.chat]", "[[models.¦chat]]", ["models.chat: got a list", "expected a table"]),
        ("[models.chat]", "[server]\nport = ¦70000\n[models.chat]", ["70000 is out of range", "0 to 65535"]),
        ("[models.chat]", "[server]\nport = ¦true\n[models.chat]", ["got true", "a whole number"]),
        ('when = { signal = ["long"] }', 'when = { signal = ¦"long" }', ['got "long"', 'write ["long"]']),
        ('when = { signal = ["long"] }', 'when = { signal = [¦"lang"] }', ["no signal 'lang'", "mean 'long'"]),
        ('when = { signal = ["long"] }', 'when = { model = [¦"chatt"] }', ["no model 'chatt'", "mean 'chat'"]),
        ('when = { signal = ["long"] }', 'when = { tier = [¦"gold"] }', ["no tier 'gold'", "one of: default"]),
        ('when = { signal = ["long"] }', 'when = { tenant = [¦"acme"] }', ["no tenant 'acme'"]),
        ("prompt_tokens = { at_least = 4000 }", "prompt_tokens = ¦{}", ["the range has no bound"]),
        ("prompt_tokens = { at_least = 4000 }", "prompt_tokens = ¦{ at_least = 5, below = 5 }", ["nothing is at"]),
        ('use = { ladder = "safe" }', 'use = { ladder = ¦"save" }', ["no ladder 'save'", "did you mean 'safe'"]),
        ('use = { ladder = "safe" }', "use = ¦{}", ["exactly one of 'cascade' and 'ladder'; neither"]),
        ('use = { ladder = "safe" }', 'use = ¦{ ladder = "safe", cascade = "thrifty" }', ["both are given"]),
        ('use = { cascade = "thrifty" }', 'use = { cascade = ¦"thirfty" }', ["no cascade", "mean 'thrifty'"]),
        ('stages = ["small", "large"]', 'stages = ¦["small"]', ["exactly two rungs"]),
        ('stages = ["small", "large"]', 'stages = ["small", ¦"small"]', ["both stages are the same rung"]),
        ('stages = ["small", "large"]', 'stages = ["small", ¦"lrage"]', ["no engine 'lrage'", "mean 'large'"]),
        ('on_failure = "safe"', 'on_failure = ¦"safety"', ["no ladder 'safety'", "mean 'safe'"]),
        ('to = "large"', 'to = ¦"lagre"', ["no engine 'lagre'", "did you mean 'large'"]),
        ('to = "large"', 'to = "large"\nanswer = "both"', ["exactly one of", "to and answer are given"]),
        ("retries = 1", "retries = ¦-1", ["-1 is out of range"]),
        ("retries = 1", "retries = 1\nbreaker = { failure_rate = ¦0.0 }", ["more than 0 to 1"]),
        ('name = "rest"', 'name = ¦"long-ones"', ["'long-ones' is given twice"]),
        (
            'load = { of = "large", kv_usage = { at_least = 0.9 } }',
            'load = { of = ¦"larg", kv_usage = { at_least = 0.9 } }',
            ["no engine 'larg'"],
        ),
        (
            'when_busy = { signal = "busy", stay_on = "small", release_at = 0.5 }',
            'when_busy = { signal = "busy", stay_on = "small", release_at = ¦0.95 }',
            ["0.95 is above the signal's at_least"],
        ),
        (
            'when_busy = { signal = "busy", stay_on = "small", release_at = 0.5 }',
            'when_busy = { signal = ¦"long", stay_on = "small", release_at = 0.5 }',
            ["'long' is not exactly one measure"],
        ),
    ],
)
def test_a_mistake_is_reported_once_with_its_place(old: str, new: str, fragments: list[str]) -> None:
    """`¦` marks the place that must be told."""
    marked, _ = with_line(old, new)
    found = problems(marked.replace("¦", ""))
    wanted = [shown for _, shown in found if all(fragment in shown for fragment in fragments)]
    assert len(wanted) == 1, found
    assert len(found) == 1, found
    if "¦" in marked:
        before = marked[: marked.index("¦")].split("\n")
        assert wanted[0].startswith(f"/etc/penstock.toml:{len(before)}:{len(before[-1]) + 1}: "), wanted


def test_all_problems_at_once_in_the_files_order() -> None:
    text = GOOD.replace("500ms", "500").replace('to = "large"', 'to = "lagre"').replace("retries = 1", "retires = 1")
    found = problems(text)
    assert len(found) == 3
    assert [line for line, _ in found] == sorted(line for line, _ in found)
    assert "did you mean 'retries'" in found[2][1]


def test_missing_tables_are_reported_without_their_consequences() -> None:
    found = problems(GOOD.replace("[engines.", "[engine."))
    assert ["unknown key 'engine'" in shown for _, shown in found] == [True]
    assert "did you mean 'engines'" in "".join(shown for _, shown in found)


def test_a_broken_condition_brings_no_remarks_about_reach() -> None:
    text, _ = with_line('when = { signal = ["long"] }', "when = { modle = [] }")
    assert len(problems(text)) == 1


def test_routes_after_an_unconditional_one_are_not_reached() -> None:
    text, line = with_line('when = { signal = ["long"] }', "when = {}")
    found = problems(text)
    assert len(found) == 1
    assert "'rest' is never reached: 'long-ones' above takes every request" in found[0][1]
    assert found[0][0] > line


def test_a_model_that_no_route_can_serve() -> None:
    text = GOOD.replace('when = { signal = ["long"] }', 'when = { model = ["chat"] }').replace(
        '\nuse = { cascade = "thrifty" }', '\nwhen = { not = { model = ["other"] } }\nuse = { cascade = "thrifty" }'
    )
    found = problems(text.replace("[models.chat]", "[models.chat]\n[models.other]"))
    assert len(found) == 1
    assert "no route can serve the model 'other'" in found[0][1]
    assert found[0][0] == 8


def test_signals_that_use_each_other_in_a_cycle() -> None:
    text = GOOD + '[signals.a]\nnot = { signal = ["b"] }\n[signals.b]\nany = [{ signal = ["c"] }]\n'
    found = problems(text + '[signals.c]\nsignal = ["a"]\n')
    assert len(found) == 1
    assert "a → b → c → a" in found[0][1]


def test_two_breakers_for_one_engine() -> None:
    text = GOOD.replace("retries = 1", "breaker = { probes = 1 }")
    assert parse(text).ladders["safe"][0].breaker.probes == 1
    found = problems(text + '[[ladders.other]]\nto = "large"\nbreaker = { probes = 2 }\n')
    assert len(found) == 1
    assert "ladders.safe[0] sets other values" in found[0][1]


def test_keys_must_be_hashes_of_known_tenants() -> None:
    text = GOOD + '[tenants.acme]\n[[keys]]\nid = "a"\ntenant = "acme"\nhash = "secret"\n'
    text += f'[[keys]]\nid = "a"\ntenant = "amce"\nhash = "{"0" * 64}"\n'
    found = problems(text)
    assert ["64 hex digits" in shown for _, shown in found] == [True, False, False]
    assert "'a' is given twice" in found[1][1]
    assert "did you mean 'acme'" in found[2][1]


def test_a_key_cannot_belong_to_two() -> None:
    key = f'[[keys]]\nid = "%s"\ntenant = "%s"\nhash = "{"0" * 64}"\n'
    found = problems(GOOD + "[tenants.acme]\n[tenants.other]\n" + key % ("a", "acme") + key % ("b", "other"))
    assert len(found) == 1
    assert "the same key is given twice" in found[0][1]


def test_an_open_address_needs_keys() -> None:
    text = '[server]\nhost = "0.0.0.0"\n'
    found = problems(GOOD + text)
    assert len(found) == 1
    assert found[0][0] == GOOD.count("\n") + 2
    assert "no [[keys]]" in found[0][1]
    key = f'[tenants.acme]\n[[keys]]\nid = "a"\ntenant = "acme"\nhash = "{"0" * 64}"\n'
    assert parse(GOOD + text + key).server.host == "0.0.0.0"


def test_the_anonymous_tenant_needs_its_tier() -> None:
    found = problems(GOOD.replace("[tiers.default]", "[tiers.gold]"))
    assert len(found) == 1
    assert "tenant 'anonymous', whose tier 'default' does not exist" in found[0][1]
    assert parse(GOOD.replace("[tiers.default]", "[tiers.gold]") + '[tenants.anonymous]\ntier = "gold"\n')


def test_syntax_errors_have_a_place() -> None:
    assert problems("schema = 1\nb = = 2\n") == [
        (2, "/etc/penstock.toml:2:5: this is not TOML: this is not a value; expected a value")
    ]
    assert problems('a = "open')[0][0] == 1


def test_deep_nesting_is_refused() -> None:
    for depth in (80, 150, 400, 100_000):
        try:
            parse(GOOD + "[signals.deep]\nany = " + "[{ any = " * depth + "[]" + " }]" * depth + "\n")
        except ConfigError as error:
            assert "nested too deeply" in str(error)  # noqa: PT017  (how deep is fine depends on the interpreter)
        else:
            assert depth < 400


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read: No such file"):
        load_settings(tmp_path / "gone.toml")
    with pytest.raises(ConfigError, match=r"is a folder without a \*\.toml file"):
        load_settings(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# fine\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.toml:2:6: this is not UTF-8"):
        load_settings(tmp_path / "latin.toml")


def test_a_file_with_a_byte_order_mark_and_dos_lines_is_read(tmp_path: Path) -> None:
    path = tmp_path / "dos.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_settings(path).engines["small"].model == tmp_path / "m" / "small"
    path.write_bytes(GOOD.replace("retries", "retires").replace("\n", "\r\n").encode())
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    assert caught.value.problems[0].line == GOOD.split("\n").index("retries = 1") + 1


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_files_give_problems_not_crashes(data: st.DataObject) -> None:
    lines = GOOD.split("\n")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        kind = data.draw(st.sampled_from(["drop", "double", "swap", "value"]))
        if kind == "drop":
            del lines[at]
        elif kind == "double":
            lines.insert(at, lines[at])
        elif kind == "swap":
            other = data.draw(st.integers(0, len(lines) - 1))
            lines[at], lines[other] = lines[other], lines[at]
        elif "=" in lines[at]:
            value = data.draw(st.sampled_from(["1", "-0.5", "nan", '""', "[]", "{}", "[[1]]", "1979-05-27", "true"]))
            lines[at] = lines[at].split("=")[0] + "= " + value
        if not lines:
            break
    try:
        read = parse("\n".join(lines))
    except ConfigError as error:
        caught = error
    else:
        assert read.routes
        return
    assert caught.problems
    assert all(1 <= problem.line <= len(lines) + 1 and problem.column >= 1 for problem in caught.problems)
