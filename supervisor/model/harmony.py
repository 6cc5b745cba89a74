"""
The demo model's chat template: harmony, the format of gpt-oss, in few lines.

The official template has 17 KB, most of it for TypeScript renderings of tools.  This one renders the same
markers, by which llama.cpp recognises gpt-oss and chooses its parser.
Format: https://developers.openai.com/cookbook/articles/openai-harmony
"""

from __future__ import annotations

CHAT_TEMPLATE = """\
<|start|>system<|message|>You are the demo model of goss-supervisor.

Reasoning: {{ reasoning_effort if reasoning_effort is defined else "medium" }}

# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>
{%- if tools %}<|start|>developer<|message|># Tools

{{ tools | tojson }}<|end|>{% endif %}
{%- for message in messages %}
{%- if message.role == "assistant" %}
{%- for call in message.tool_calls or [] %}<|start|>assistant to=functions.{{ call.function.name -}}
<|channel|>commentary json<|message|>{{ call.function.arguments | tojson }}<|call|>{% endfor %}
{%- if message.content %}<|start|>assistant<|channel|>final<|message|>{{ message.content }}<|end|>{% endif %}
{%- elif message.role == "tool" %}<|start|>functions to=assistant<|channel|>commentary<|message|>
{{- message.content }}<|end|>
{%- else %}<|start|>{{ "developer" if message.role == "system" else message.role }}<|message|>
{{- message.content }}<|end|>
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|start|>assistant{% endif %}"""
