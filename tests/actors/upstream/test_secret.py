"""The key is read from the configured source, or the start fails with the reason."""

import pytest

from actors.api.errors import UpstreamKeyMissing
from actors.upstream.secret import Secret, read_secret
from config.model.upstreams import SecretSource


def test_from_the_environment(monkeypatch):
    monkeypatch.setenv("UP_KEY", "sk-1\n")
    secret = read_secret("cloud", SecretSource(env="UP_KEY"))
    assert secret is not None
    assert secret.reveal() == "sk-1"
    assert "sk-1" not in f"{secret} {secret!r}"


def test_from_a_file(tmp_path):
    (tmp_path / "key").write_text("  sk-2\n")
    secret = read_secret("cloud", SecretSource(file=tmp_path / "key"))
    assert isinstance(secret, Secret)
    assert secret.reveal() == "sk-2"


def test_none_is_needed():
    assert read_secret("cloud", None) is None


@pytest.mark.parametrize("content", [None, b"", b"  \n", b"two words", b"two\nlines", b"\xffkey", b"x" * 9000])
def test_what_is_no_key(tmp_path, content):
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    with pytest.raises(UpstreamKeyMissing, match="upstream 'cloud': the file") as caught:
        read_secret("cloud", SecretSource(file=tmp_path / "key"))
    assert content is None or content.decode("latin1").strip() not in str(caught.value) or not content.strip()


def test_a_variable_that_is_not_set(monkeypatch):
    monkeypatch.delenv("UP_KEY", raising=False)
    with pytest.raises(UpstreamKeyMissing, match="UP_KEY is not set"):
        read_secret("cloud", SecretSource(env="UP_KEY"))
