"""DeepSeek's chat formats, for files that carry a vocabulary but no template.

B and E are the texts of BOS and EOS. One turn, with the generation prompt:
    v2     B [system "\\n\\n"] "User: " u "\\n\\n" "Assistant:"      an answer closes with " " a E
    v3     B system <|User|> u <|Assistant|>                     an answer closes with a E
    r1     as v3 with <think>\\n behind it                       earlier answers lose their thinking
    v3.1   as v3 with <think> behind it, or </think>             by the variable `thinking`
    kimi   <|im_system|>system<|im_middle|> s <|im_end|>, and so for user and assistant
(the bars of <|User|> are U+FF5C). Source: the templates published with the models.
"""

_SYSTEM_FIRST = "{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}"
_ANSWER = "{{ m.content.split('</think>')[-1] }}"

V2 = """{{ bos_token }}
{%- for m in messages %}
{%- if m.role == 'user' %}{{ 'User: ' ~ m.content ~ '\\n\\n' }}
{%- elif m.role == 'assistant' %}{{ 'Assistant: ' ~ m.content ~ eos_token }}
{%- else %}{{ m.content ~ '\\n\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"""


def _with_turn_tokens(answer: str, generation: str) -> str:
    """B, all system texts, then each turn behind its own token."""
    return f"""{{{{ bos_token }}}}{_SYSTEM_FIRST}
{{%- for m in messages %}}
{{%- if m.role == 'user' %}}{{{{ '<\uff5cUser\uff5c>' ~ m.content }}}}
{{%- elif m.role == 'assistant' %}}{{{{ '<\uff5cAssistant\uff5c>' }}}}{answer}{{{{ eos_token }}}}
{{%- endif %}}
{{%- endfor %}}
{{%- if add_generation_prompt %}}{{{{ '<\uff5cAssistant\uff5c>' }}}}{generation}{{% endif %}}"""


V3 = _with_turn_tokens("{{ m.content }}", "")
R1 = _with_turn_tokens(_ANSWER, "{{ '<think>\\n' }}")
V31 = _with_turn_tokens("{{ '</think>' }}" + _ANSWER, "{{ '<think>' if thinking else '</think>' }}")

KIMI = """{%- for m in messages %}
{{- '<|im_' ~ m.role ~ '|>' ~ m.role ~ '<|im_middle|>' ~ m.content ~ '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_assistant|>assistant<|im_middle|>' }}{% endif %}"""
