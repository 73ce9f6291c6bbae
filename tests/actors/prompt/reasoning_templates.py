"""Chat templates in the manner of the families of models that reason."""

QWEN3 = """
{%- set last = namespace(user=-1) %}
{%- for m in messages if m.role == 'user' %}{% set last.user = loop.index0 %}{% endfor %}
{%- set turn = namespace(users=0, number=0) %}
{%- for m in messages %}
    {%- if m.role == 'user' %}{% set turn.users = turn.users + 1 %}{% endif %}
{%- endfor %}
{%- for m in messages %}
    {%- if m.role == 'user' %}{% set turn.number = turn.number + 1 %}{% endif %}
    {%- set content = m.content %}
    {%- set thought = '' %}
    {%- if m.role == 'assistant' %}
        {%- if m.reasoning_content is string %}
            {%- set thought = m.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
    {%- endif %}
    {{- '[' + m.role + ']' }}
    {%- if thought and turn.number == turn.users %}{{ '<think>\\n' + thought + '\\n</think>\\n\\n' }}{% endif %}
    {{- content }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '[assistant]' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}
"""
"""Reasoning after the last user's turn stays; the switch writes an empty block."""

DEEPSEEK_R1 = """
{%- for m in messages %}
    {%- set content = m.content %}
    {%- if m.role == 'assistant' and '</think>' in content %}
        {%- set content = content.split('</think>')[-1] %}
    {%- endif %}
    {{- '[' + m.role + ']' + content }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '[assistant]<think>\\n' }}{% endif %}
"""
"""No reasoning in histories; the prompt opens the block, always."""

DEEPSEEK_V3 = """
{%- set thinks = thinking is defined and thinking %}
{%- for m in messages %}
    {%- set content = m.content %}
    {%- if m.role == 'assistant' and '</think>' in content %}
        {%- set content = content.split('</think>', 1)[1] %}
    {%- endif %}
    {{- '[' + m.role + ']' + content }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '[assistant]' + ('<think>' if thinks else '</think>') }}{% endif %}
"""
"""The same with a switch, which is off by itself."""

QWQ = """
{%- for m in messages %}
    {{- '[' + m.role + ']' + (m.content.split('</think>')[-1].lstrip('\\n') if m.role == 'assistant' else m.content) }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '[assistant]' }}{% endif %}
"""
"""No switch, and the model opens the block."""

THINKING_KEY = """
{%- for m in messages %}
    {{- '[' + m.role + ']' }}
    {%- if m.thinking and loop.last %}{{ '<think>' + m.thinking + '</think>' }}{% endif %}
    {{- m.content }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '[assistant]' }}{% endif %}
"""
"""Earlier reasoning is read from another key."""

PLAIN = "{% for m in messages %}{{ '[' + m.role + ']' + m.content }}{% endfor %}[assistant]"
