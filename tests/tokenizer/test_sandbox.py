"""What a template may do is left as it is in jinja; what it may use up is bounded."""

import time

import jinja2
import jinja2.exceptions
import pytest

from hybrid.errors import TokenizerError
from hybrid.tokenizer.sandbox import BoundedSandbox
from tests.cpu_time import computed_within

GROW = "{%% set n = namespace(x=%s) %%}{%% for i in range(60) %%}%s{%% endfor %%}"


@pytest.mark.parametrize(
    "text",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for c in 'x' * 99999 %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(50) }}",
        GROW % ("[1]", "{% set n.x = [n.x, n.x] %}") + "{{ n.x | tojson }}",
    ],
)
def test_a_template_that_does_not_end_is_stopped(text: str) -> None:
    start = time.monotonic()
    with pytest.raises(TokenizerError, match="does not come to an end") as error:
        BoundedSandbox(0.2).render(text, {})
    assert "stopped after 0.2 seconds" in str(error.value)
    assert time.monotonic() - start < 30, "it goes on behind its limit"


@pytest.mark.parametrize(
    "text",
    [
        "{% for i in range(99999) %}{{ 'x' * 100000 }}{% endfor %}",
        "{{ 'x' * 10**12 }}",
        "{{ [1] * 10**12 }}",
        "{{ 10**12 * 'x' }}",
        "{{ 2 ** 99999999999 }}",
        "{{ 'a' | center(10**12) }}",
        "{{ 'a\nb' | indent(10**12) }}",
        "{{ 'a'.ljust(10**12) }}",
        "{{ [1] | tojson(indent=10**12) }}",
        "{{ '%99999999999d' % 3 }}",
        "{{ '%(a)99999999999s' % {'a': 1} }}",
        "{{ '%.99999999999f' % 1 }}",
        "{{ '%*d' % (99999999999, 3) }}",
        "{{ '%99999999999d' | format(3) }}",
        "{{ '{:99999999999}'.format(3) }}",
        GROW % ("'ab'", "{% set n.x = n.x ~ n.x %}"),
        GROW % ("'ab'", "{% set n.x = n.x + n.x %}"),
        GROW % ("'ab'", "{% set n.x = [n.x, n.x] | join %}"),
        GROW % ("'ab'", "{% set n.x = ''.join([n.x, n.x]) %}"),
        GROW % ("'ab'", "{% set n.x = n.x.replace('a', 'aa') %}"),
        GROW % ("'ab'", "{% set n.x = '%s%s' % (n.x, n.x) %}"),
        GROW % ("'ab'", "{% set n.x %}{{ n.x }}{{ n.x }}{% endset %}"),
        GROW % ("'ab'", "{% set n.x | upper %}{{ n.x }}{{ n.x }}{% endset %}"),
        GROW % ("[1]", "{% set n.x = n.x + n.x %}"),
        GROW % ("3", "{% set n.x = n.x * n.x %}"),
    ],
)
def test_a_template_that_grows_is_stopped(text: str) -> None:
    with pytest.raises(TokenizerError, match="makes too large a text") as error:
        BoundedSandbox(60).render(text, {})
    assert error.value.remedies


@pytest.mark.parametrize(
    "text", ["{{ '{:{}}'.format(3, '9' * 12) }}", "{{ '{a:{a}}'.format_map({'a': 99999999999}) }}"]
)
def test_a_computed_width_is_forbidden(text: str) -> None:
    with pytest.raises(jinja2.exceptions.SecurityError, match="inside a format field"):
        BoundedSandbox(60).render(text, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ 'a' ~ 1 ~ none ~ missing }}", "a1None"),
        ("{{ '%s-%s' % (1, 2) }}{{ '%s' % 'x' }}{{ '%(k)s' % {'k': 3} }}", "1-2x3"),
        ("{{ '%s-%d' | format('a', 2) }}{{ '%(k)s' | format(k=1) }}", "a-21"),
        ("{{ '20231201 {}'.format('123456789') }}", "20231201 123456789"),
        (
            "{{ 7 % 4 }}{{ 2 ** 10 }}{{ 3 * 'ab' }}{{ [1] + [2] }}{{ 2 ** 0.5 > 1 }}",
            "31024ababab[1, 2]True",
        ),
        ("{% for i in 'abc' %}{{ loop.index }}{{ loop.length }}{{ loop.last }}{% endfor %}", None),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% else %}-{% endfor %}", "a1"),
        ("{% for x in [] %}{% else %}none{% endfor %}{% for x in missing %}{% endfor %}", "none"),
        ("{% for x in [[[], []], []] recursive %}({{ loop(x) }}){% endfor %}", "(()())()"),
        ("{% set x %}a{{ 1 }}{% endset %}{{ x }}{% set y | upper %}b{% endset %}{{ y }}", "a1B"),
        ("{% macro f(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(1, b=3) }}", "1213"),
        ("{{ range(3) | map('string') | join(',') }}{{ [3, 1] | sort | first }}", "0,1,21"),
    ],
)
def test_templates_within_the_bounds_render_as_in_jinja(text: str, expected: str | None) -> None:
    plain = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    rendered = BoundedSandbox(60).render(text, {})
    assert rendered == plain.from_string(text).render()
    assert expected is None or rendered == expected


def test_a_long_conversation_renders_quickly() -> None:
    messages = [{"role": "user", "content": "word " * 50}] * 5000
    text = "{% for m in messages %}{{ '<' ~ m.role ~ '>' + m.content | trim }}{% endfor %}"
    rendered = computed_within(2, lambda: BoundedSandbox(60).render(text, {"messages": messages}))
    assert len(rendered) == 5000 * (6 + 249)
