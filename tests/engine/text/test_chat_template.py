import json
from datetime import UTC, datetime

import pytest

from engine.errors import ModelError, RequestRefused
from engine.text.chat_template import ChatTemplate

USER = {"role": "user", "content": "<b>Grüße</b>"}


def template(source: str, **tokens: str) -> ChatTemplate:
    moment = datetime(2026, 3, 4, tzinfo=UTC)
    return ChatTemplate(source, tokens, origin="here", now=lambda: moment)


def render(source: str, *messages, **options) -> str:
    return template(source, bos_token="<s>", eos_token="</s>").render(messages or (USER,), **options)


CHATML = """\
{{ bos_token }}
{% for message in messages %}
    {% if message.role == 'system' %}{% continue %}{% endif %}
    {% generation %}<{{ message.role }}>{{ message['content'] }}{{ eos_token }}{% endgeneration %}
{% endfor %}
{% if add_generation_prompt %}<assistant>{% endif %}
"""


def test_loops_blocks_and_the_generation_tag():
    system = {"role": "system", "content": "no"}
    prompt = render(CHATML, system, USER)
    assert "".join(prompt.split()) == "<s><user><b>Grüße</b></s><assistant>"
    assert "<assistant>" not in render(CHATML, USER, add_generation_prompt=False)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for m in messages %}{{ m | tojson }}{% endfor %}", '{"role": "assistant", "content": "42"}'),
        ("{% for m in messages %}{{ m.content }}{% if enable_thinking %}!{% endif %}{% endfor %}", "42"),
        ("{% for m in messages %}{{ m.reasoning_content }}/{{ m.content }}{% endfor %}", "hm/42"),
        ("{% for m in messages %}{{ m['reasoning_content'] }}/{{ m.content }}{% endfor %}", "hm/42"),
        (
            "{% for m in messages %}{% if 'thinking' in m %}{{ m.thinking }}/{% endif %}{{ m.content }}{% endfor %}",
            "hm/42",
        ),
        ("{% for m in messages %}{{ m.get('reasoning') }}/{{ m.content }}{% endfor %}", "hm/42"),
    ],
)
def test_reasoning_goes_where_a_template_has_a_place_for_it(source, expected):
    assert render(source, {"role": "assistant", "content": "42", "reasoning_content": "hm"}) == expected


def test_json_is_not_escaped_for_html():
    assert render("{{ messages | tojson }}") == json.dumps([USER], ensure_ascii=False)
    assert render("{{ {'b': 1, 'a': '<é'} | tojson(indent=2) }}") == '{\n  "b": 1,\n  "a": "<é"\n}'


def test_names_that_templates_expect():
    source = "{{ tools is none }} {{ documents is none }} {{ strftime_now('%d.%m.%Y') }} {{ enable_thinking }}"
    assert render(source, variables={"enable_thinking": False}) == "True True 04.03.2026 False"


def test_a_developer_is_a_system_to_templates_that_do_not_know_it():
    developer = {"role": "developer", "content": "x"}
    assert render("{{ messages[0].role }}", developer) == "system"
    assert render("{# developer #}{{ messages[0].role }}", developer) == "developer"
    assert developer["role"] == "developer"


def test_the_templates_own_refusal_is_passed_on():
    with pytest.raises(RequestRefused, match="refuses: roles must alternate") as caught:
        render("{{ raise_exception('roles must alternate') }}")
    assert caught.value.code == "chat_template_error"


@pytest.mark.parametrize("source", ["{{ messages[5].content.x }}", "{{ 'a' + 1 }}", "{{ 1 / 0 }}", "{{ none.x.y }}"])
def test_any_failure_inside_is_a_refusal(source):
    with pytest.raises(RequestRefused, match="cannot render these messages"):
        render(source)


@pytest.mark.parametrize(
    "source",
    ["{{ messages.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ ''.__class__.__base__.__subclasses__() }}"],
)
def test_the_sandbox_holds(source):
    with pytest.raises(RequestRefused):
        template(source).render([USER])


def test_no_template_says_what_to_do(tmp_path):
    with pytest.raises(RequestRefused, match="/v1/completions") as caught:
        ChatTemplate.load(tmp_path).render([USER])
    assert caught.value.code == "chat_template_missing"


@pytest.mark.parametrize(
    "value",
    ["{{ messages[0].role }}", [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "user"}]],
)
def test_from_tokenizer_config(tmp_path, value):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
    assert ChatTemplate.load(tmp_path).render([USER]) == "user"


def test_the_file_of_its_own_comes_first_and_gets_the_special_tokens(tmp_path):
    config = {"chat_template": "no", "bos_token": {"content": "<s>"}, "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}yes{{ eos_token }}{{ pad_token }}")
    assert ChatTemplate.load(tmp_path).render([USER]) == "<s>yes</s>"


@pytest.mark.parametrize("value", ["{% for %}", 5])
def test_an_invalid_template_fails_the_load(tmp_path, value):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
    with pytest.raises(ModelError, match=r"tokenizer_config\.json"):
        ChatTemplate.load(tmp_path)


def test_renders_as_transformers_does():
    from transformers.utils.chat_template_utils import render_jinja_template

    messages = [{"role": "system", "content": " a\n"}, USER, {"role": "assistant", "content": "c"}, USER]
    source = (
        CHATML + "{%- set ns = namespace(n=0) -%}{% for m in messages -%} {{ loop.index }}{{ m | tojson }} {% endfor %}"
    )
    expected = render_jinja_template([messages], chat_template=source, add_generation_prompt=True, bos_token="<s>")
    assert template(source, bos_token="<s>").render(messages) == expected[0][0]
