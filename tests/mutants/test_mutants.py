"""The mutants' tool on a toy project: it finds what no test notices, and sees what a test notices."""

import subprocess
from pathlib import Path

import pytest

from tests.mutants import areas
from tests.mutants.__main__ import main, sample
from tests.mutants.mutations import mutations
from tests.mutants.trial import Baselines, Copy
from tests.paths import ROOT

TOY = '''"""A toy."""


def is_adult(age: int) -> bool:
    """Whether."""
    return age >= 18


def unloved(left: int, right: int) -> int:
    """No test calls it."""
    return left + right
'''
TESTS = """from policies.toy import is_adult


def test_toy():
    assert is_adult(18)
    assert not is_adult(17)
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    root = tmp_path / "toy"
    here = Path(__file__).parent
    for name, text in {
        "policies/__init__.py": "",
        "policies/toy.py": TOY,
        "tests/policies/test_toy.py": TESTS,
        "tests/mutants/quick.py": (here / "quick.py").read_text(),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return root


def test_survivors_are_reported_and_the_tree_is_left_alone(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # This seed names the comparison, which the tests look at, and the sum, which they do not.
    assert main(["--paths", "policies", "--count", "2", "--seed", "3"], toy) == 1
    told = capsys.readouterr().out
    assert "noticed: policies/toy.py:6 (comparison)" in told
    assert "survived: policies/toy.py:11 (arithmetic)" in told
    assert "+    return (left - right)" in told
    assert (toy / "policies/toy.py").read_text() == TOY
    assert "policies/toy.py: 1 of 2" in told
    assert "noticed: 1 of 2 (seed 3, 2 asked for)" in told


def test_tests_that_fail_anyway_judge_nothing(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (toy / "tests/policies/test_toy.py").write_text("def test_toy():\n    raise AssertionError\n")
    assert main(["--paths", "policies", "--count", "1"], toy) == 2
    assert "without any change these fail: tests/policies/test_toy.py" in capsys.readouterr().err
    (toy / "tests/policies/test_toy.py").unlink()
    assert main(["--paths", "policies", "--count", "1"], toy) == 2
    assert "no test concerns policies/toy.py" in capsys.readouterr().err


def test_what_no_test_notices_meets_the_type_checker(toy: Path, tmp_path: Path) -> None:
    copy = Copy(toy, tmp_path / "copy", Baselines())
    outcomes = [
        copy.trial(Path("policies/toy.py"), TOY.replace("return left + right", changed), ["tests/policies/test_toy.py"])
        for changed in ("return left - right", "return None")
    ]
    assert outcomes == ["survived", "mistyped"]


def test_a_seed_names_a_sample(toy: Path) -> None:
    first, again, other = (sample(toy, ["policies"], 2, seed) for seed in (1, 1, 2))
    assert first == again != other
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "add", "."], cwd=toy, check=True)
    subprocess.run([*git, "commit", "-qm", "toy"], cwd=toy, check=True)
    assert sample(toy, ["policies"], 9, 1, since="HEAD") == []
    (toy / "policies/toy.py").write_text(TOY.replace("left + right", "left - right"))
    assert {each.mutation.line for each in sample(toy, ["policies"], 9, 1, since="HEAD")} == {11}


@pytest.mark.parametrize(
    ("source", "changed"),
    [
        ("x = a < b", {"x = (a <= b)"}),
        ("x = a is None", {"x = (a is not None)"}),
        ("x = 0 <= a", {"x = (0 < a)", "x = 1 <= a"}),
        ("x = a and b", {"x = (a or b)", "x = (a)", "x = (b)"}),
        ("x = not a", {"x = (a)"}),
        ("x = a * (b + c)", {"x = (a // (b + c))", "x = a * ((b - c))"}),
        ("x += y", {"x -= y", "pass"}),
        ("f(a, b)", {"(f(b, a))", "pass"}),
        ("x = f(a, a)", set()),
        ("x = f(a, key=b)", {"x = (f(a))"}),
        ("x = min(a, b)", {"x = max(a, b)"}),
        ("x.y = z", {"pass"}),
        ("if a:\n    b()", {"if (not a):\n    b()", "if a:\n    pass"}),
        (
            "while True:\n    break",
            {"while (not True):\n    break", "while False:\n    break", "while True:\n    pass"},
        ),
        ("def f():\n    return x", {"def f():\n    return None"}),
        ("def f():\n    return", {"def f():\n    pass"}),
        ("x = 'é' if a else b", {"x = 'é' if (not a) else b"}),
        # What says nothing about behaviour stays.
        ('"""Text."""', set()),
        ("x: Annotated[int, 3]", set()),
        ("x = f'{a + 1}'", set()),
        ("assert a == b", set()),
        ("log.info('x', a=1)", set()),
        ("class A(B, frozen=True):\n    pass", set()),
        ("def check_integrity(self):\n    return 1", set()),
    ],
)
def test_what_is_changed(source: str, changed: set[str]) -> None:
    assert {each.applied(source) for each in mutations(source)} == changed


def test_what_the_areas_name_exists() -> None:
    assert [path for path in areas.PURE_CORES_AND_BOOKS if not (ROOT / path).exists()] == []
    beside = {name for names in areas.ALONGSIDE.values() for name in names}
    assert [name for name in sorted(beside) if not (ROOT / "tests" / name).exists()] == []
    for path in areas.sources(ROOT, list(areas.PURE_CORES_AND_BOOKS)):
        assert areas.tests_of(ROOT, path), f"no test concerns {path}"
