import os
import subprocess
import sys

import pytest

from engine.threads import prepare_environment


def test_what_the_user_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    prepare_environment()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    prepare_environment()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_preparing_does_not_import_torch() -> None:
    code = (
        "import sys; from engine.threads import prepare_environment; prepare_environment(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
