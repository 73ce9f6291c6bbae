"""One gateway for all end-to-end tests: a real process, real engines, small models of random weights."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.process import GatewayProcess

CONFIG = """
schema = 1

[server]
drain = "10s"

[ledger]
path = "ledger.sqlite3"

[engines.small]
model = "small"
kv = { memory = "4MiB" }

[engines.large]
model = "large"
kv = { memory = "4MiB" }

[models.penstock]
description = "the small model when it is confident, the large one otherwise"

[models.small]
description = "always the small model"

[models.large]
description = "always the large model"

[[routes]]
name = "small"
when = { model = ["small"] }
use = { ladder = "small-first" }

[[routes]]
name = "large"
when = { model = ["large"] }
use = { ladder = "large-first" }

[[routes]]
name = "penstock"
use = { cascade = "thrifty" }

[cascades.thrifty]
stages = ["small", "large"]
defer = { statistic = "min_margin", threshold = 1.0 }
emit = { mode = "window", window = 4 }
on_failure = "large-first"

[[ladders.small-first]]
to = "small"

[[ladders.large-first]]
to = "large"
"""


QWEN_STYLE = """\
{{- bos_token }}
{%- if tools %}
    {{- '<|system|>' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- '# Tools\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' + tool | tojson }}{%- endfor %}
    {{- '\\n</tools>\\nCall with <tool_call>{"name": ..., "arguments": ...}</tool_call><|end|>' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|system|>' + messages[0].content + '<|end|>' }}
{%- endif %}
{%- for message in messages if message.role != 'system' %}
    {%- if message.role == 'assistant' %}
        {{- '<|assistant|>' + message.content }}
        {%- for tool_call in message.tool_calls or [] %}
            {%- set call = tool_call.function %}
            {{- '<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}
            {{- (call.arguments | tojson) + '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|end|>' }}
    {%- elif message.role == 'tool' %}
        {{- '<|user|><tool_response>\\n' + message.content + '\\n</tool_response><|end|>' }}
    {%- else %}
        {{- '<|user|>' + message.content + '<|end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}
"""


def write_model(folder: Path, seed: int, template: str | None = None) -> None:
    """A Llama of random weights with the embedded models' tokenizer and, if no other is given, chat template."""
    import torch

    from engine.zoo.llama import Llama, LlamaShape, save
    from engine.zoo.tokenizer import BOS, END, PAD, VOCABULARY, save_tokenizer, special_id, train_tokenizer

    torch.manual_seed(seed)
    shape = LlamaShape(64, 128, 2, 2, 1, 32, VOCABULARY)
    tokenizer = train_tokenizer()
    folder.mkdir()
    save_tokenizer(tokenizer, folder, shape.max_position_embeddings)
    bos, eos, pad = (special_id(tokenizer, token) for token in (BOS, END, PAD))
    save(Llama(shape), folder, bos=bos, eos=eos, pad=pad)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration with two tiny models."""
    folder = tmp_path_factory.mktemp("gateway")
    write_model(folder / "small", 1)
    write_model(folder / "large", 2, QWEN_STYLE)
    (folder / "config.toml").write_text(CONFIG)
    return folder / "config.toml"


@pytest.fixture(scope="session")
def served(config: Path) -> Iterator[GatewayProcess]:
    """Running; shared, so it must be left as it was found."""
    process = GatewayProcess("--config", str(config), log=config.parent / "shared.log")
    yield process
    process.end()
