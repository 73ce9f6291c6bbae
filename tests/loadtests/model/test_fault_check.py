"""What is wrong with faults, by tables."""

import pytest

from config.problems.errors import ConfigError
from loadtests.model.fault_check import place_of
from loadtests.model.scenario_file import load_scenario

HEAD = """
schema = 1
duration = "30s"
[arrivals]
rate = 5
[processes.server]
command = ["penstock", "serve"]
[proxies.way]
listen = "127.0.0.1:9000"
to = "127.0.0.1:8080"
"""
GOOD = [
    'kind = "stall"\nat = "1s"\nlasts = "2s"\nprocess = "server"',
    'kind = "kill"\nat = "1s"\nprocess = "any"',
    'kind = "restart"\nat = "1s"\nprocess = "server"',
    'kind = "proxy"\nat = "1s"\nlasts = "2s"\nproxy = "way"\nmode = "cut"\nafter_bytes = 100',
    'kind = "proxy"\nat = "1s"\nlasts = "2s"\nproxy = "way"\nmode = "drip"\nbytes_a_second = "1KiB"',
    'kind = "reload"\nat = "1s"\nurl = "http://127.0.0.1:8081/admin/policy/reload"\nkey = { env = "KEY" }',
]
BAD = [
    ('kind = "stall"\nat = "1s"\nprocess = "server"', "needs 'lasts'"),
    ('kind = "stall"\nat = "1s"\nlasts = "2s"', "needs 'process'"),
    ('kind = "stall"\nat = "1s"\nlasts = "11m"\nprocess = "server"', "at most 10 minutes"),
    ('kind = "stall"\nat = "30s"\nlasts = "1s"\nprocess = "server"', "the run is over by then"),
    ('kind = "kill"\nat = "1s"\nlasts = "2s"\nprocess = "server"', "a fault of kind \"kill\" has no 'lasts'"),
    ('kind = "restart"\nat = "1s"\nprocess = "servr"', "did you mean 'server'"),
    ('kind = "proxy"\nat = "1s"\nlasts = "1s"\nproxy = "wy"\nmode = "reset"', "did you mean 'way'"),
    ('kind = "proxy"\nat = "1s"\nlasts = "1s"\nproxy = "way"', "needs 'mode'"),
    ('kind = "proxy"\nat = "1s"\nlasts = "1s"\nproxy = "way"\nmode = "drip"', "a drip needs its speed"),
    ('kind = "proxy"\nat = "1s"\nlasts = "1s"\nproxy = "way"\nmode = "brake"', '"brake" is not allowed'),
    ('kind = "reload"\nat = "1s"', "needs 'url'"),
    ('kind = "reload"\nat = "1s"\nurl = "admin"', "not an address"),
    ('kind = "freeze"\nat = "1s"', "freeze"),
]


@pytest.mark.parametrize("fault", GOOD)
def test_faults_that_are_right(fault: str, tmp_path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(f"{HEAD}[[faults]]\n{fault}\n")
    assert len(load_scenario(path).scenario.faults) == 1


@pytest.mark.parametrize(("fault", "words"), BAD)
def test_faults_that_are_wrong(fault: str, words: str, tmp_path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(f"{HEAD}[[faults]]\n{fault}\n")
    with pytest.raises(ConfigError) as caught:
        load_scenario(path)
    (problem,) = caught.value.problems
    assert words in str(problem)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("[processes.x]\ncommand = []", "there is no command"),
        ('[processes.x]\ncommand = ["a"]\nready = "nowhere"', "not an address"),
        ('[proxies.x]\nlisten = "9000"\nto = "a:1"', "this is no host and port"),
        ('[proxies.x]\nlisten = "a:1"\nto = "a:99999"', "this is no host and port"),
    ],
)
def test_processes_and_proxies_that_are_wrong(lines: str, words: str, tmp_path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(f"{HEAD}{lines}\n")
    with pytest.raises(ConfigError) as caught:
        load_scenario(path)
    assert words in "\n".join(map(str, caught.value.problems))


@pytest.mark.parametrize(
    ("text", "place"), [("a:1", ("a", 1)), ("[::1]:80", ("::1", 80)), ("127.0.0.1:0", ("127.0.0.1", 0))]
)
def test_places(text: str, place: tuple[str, int]) -> None:
    assert place_of(text) == place


def test_files_are_beside_the_scenario(tmp_path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        f'{HEAD}log = "x.log"\n'.replace('to = "127.0.0.1:8080"\nlog = "x.log"', 'to = "127.0.0.1:8080"')
        + '[processes.b]\ncommand = ["x"]\nlog = "b.log"\n'
        + '[[faults]]\nkind = "reload"\nat = "1s"\nurl = "http://a/b"\nkey = { file = "key" }\n'
    )
    scenario = load_scenario(path).scenario
    assert scenario.processes["b"].log == tmp_path / "b.log"
    assert scenario.faults[0].key.file == tmp_path / "key"
