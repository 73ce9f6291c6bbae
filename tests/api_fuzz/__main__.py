"""`make api-fuzz`: schemathesis with all its checks, before servers with the embedded models, without and with keys."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import openai

from config.profiles import embedded_profile
from gateway.openapi.words import ADMIN
from policies.admission.keys import ADMIN_PREFIX, new_key
from tests.e2e.process import GatewayProcess
from tests.parity.encoders import write_classifier, write_encoder
from tests.paths import ROOT

CLIENT = new_key("acme", bytes(range(38)), "app")
OPERATOR = new_key("", bytes(range(1, 39)), "ops", prefix=ADMIN_PREFIX)
KEYS = f"""
[[keys]]
id = "app"
tenant = "acme"
hash = "{CLIENT.settings.hash}"
[tenants.acme]
[admin]
keys_file = "keys.toml"
[[admin.keys]]
id = "ops"
hash = "{OPERATOR.settings.hash}"
"""
ENCODERS = "".join(
    f"""
[engines.{name}]
model = "{name}"
[models.{name}]
[[routes]]
name = "{name}"
when = {{ model = ["{name}"] }}
use = {{ ladder = "{name}" }}
[[ladders.{name}]]
to = "{name}"
"""
    for name in ("minilm", "labels")
)
SAFETY = """
[moderations.safety]
model = "labels"
categories = { hate = { labels = ["yes"] } }
"""
LINE = (
    b'{"custom_id": "sum", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "small", '
    b'"messages": [{"role": "user", "content": "17 + 25"}], "max_tokens": 8}}\n'
)
"""A file of one request."""
FIRST = '[[routes]]\nname = "small"'
"""Routes are looked at in order, and the last one of the profile is for all."""
HERE = Path(__file__).parent


def configuration(folder: Path, more: str) -> Path:
    """The embedded profile, with encoders of random weights, in a folder of its own."""
    if not (folder / "minilm").exists():
        write_encoder("bert", folder / "minilm")
        write_classifier("bert-labels", folder / "labels")
    profile = embedded_profile()
    text = profile.read_text()
    for place in ("../../engine/zoo/models", "calibrations"):
        text = text.replace(f'"{place}/', f'"{(profile.parent / place).resolve()}/')
    file = folder / "penstock.toml"
    assert text.count(FIRST) == 1
    file.write_text(text.replace(FIRST, ENCODERS + SAFETY + FIRST) + more)
    return file


def fuzz(url: str, key: str | None, arguments: argparse.Namespace, *chosen: str) -> int:
    """The exit code of schemathesis."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(HERE / "schemathesis.toml"), "run",
        f"{arguments.document}", "--url", url, "--seed", str(arguments.seed), "--max-examples", str(arguments.examples),
        "--checks", "all", "--continue-on-failure", *chosen, *arguments.more,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if ADMIN in chosen:  # which is left out then: this is the API for clients
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=key or "none")
        environment["BATCH_FILE"] = client.files.create(file=("in.jsonl", LINE), purpose="batch").id
    if key is not None:
        command += ["--header", f"Authorization: Bearer {key}"]
    return subprocess.run(command, check=False, cwd=arguments.folder, env=environment).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.api_fuzz")
    parser.add_argument("--examples", type=int, default=50, help="of each operation and phase (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=["keyless", "keyed", "admin"], help="one of the runs")
    parser.add_argument("more", nargs="*", help="options of schemathesis, behind --")
    arguments = parser.parse_args()
    status = 0
    with tempfile.TemporaryDirectory() as name:
        # What schemathesis remembers is left there, too.
        folder = arguments.folder = Path(name)
        if arguments.only in {None, "keyless"}:
            process = GatewayProcess("--config", str(configuration(folder, "")), log=folder / "keyless.log")
            arguments.document = f"{process.url}/openapi.json"
            status |= fuzz(process.url, None, arguments, "--exclude-tag", ADMIN)
            process.end()
        if arguments.only in {None, "keyed", "admin"}:
            file = configuration(folder, KEYS)
            process = GatewayProcess("--config", str(file), "--admin-port", "0", log=folder / "keyed.log")
            arguments.document = f"{process.url}/openapi.json"
            if arguments.only != "admin":
                status |= fuzz(process.url, CLIENT.raw, arguments, "--exclude-tag", ADMIN)
            if arguments.only != "keyed":
                admin = next(word for word in process.said().split() if word.endswith("/admin")).removesuffix("/admin")
                status |= fuzz(admin, OPERATOR.raw, arguments, "--include-path-regex", "^/(admin/|metrics$)")
            process.end()
    return status


if __name__ == "__main__":
    sys.exit(main())
