"""Colours and layout of the page, all inline."""

# of categories of memory and parts of a token's time, for light and for dark pages
COLOURS = {
    "attention": ("#2f6fb3", "#5b9bdc"),
    "dense": ("#7a5cc0", "#a48be0"),
    "shared": ("#2a9d8f", "#4cc3b4"),
    "routed": ("#c8642b", "#e08a52"),
    "embed+head": ("#a33b6d", "#d06a9b"),
    "cache": ("#d1a520", "#e6c35a"),
    "compute": ("#6b7280", "#9aa3b2"),
    "other": ("#4b5563", "#c2c8d1"),
    "GPU attention": ("#2f6fb3", "#5b9bdc"),
    "GPU products": ("#2a9d8f", "#4cc3b4"),
    "CPU attention": ("#a33b6d", "#d06a9b"),
    "CPU experts": ("#c8642b", "#e08a52"),
    "CPU products": ("#b0892f", "#d9b45c"),
    "disc": ("#b0413e", "#e0807c"),
    "PCIe": ("#7a5cc0", "#a48be0"),
    "crossing": ("#d1a520", "#e6c35a"),
    "launch": ("#6b7280", "#9aa3b2"),
    "host": ("#4b5563", "#c2c8d1"),
}

_LAYOUT = """\
:root { color-scheme: light dark; --text: #1c2025; --page: #ffffff; --line: #d5d9df;
  --soft: #eef1f4; --rest: #8a8f98; }
body { margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: var(--text);
  background: var(--page); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 2rem 0 0.5rem; }
p { margin: 0.25rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.75rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child { text-align: left; }
.tensors td { text-align: left; } .tensors th { font-weight: normal; }
ul { margin: 0; padding-left: 1.25rem; } li { overflow-wrap: anywhere; }
figure { margin: 0.5rem 0; } figcaption { font-size: 0.9rem; }
svg { display: block; width: 100%; height: 26px; border-radius: 4px; }
.free { fill: var(--soft); background: var(--soft); }
.rest { fill: var(--rest); background: var(--rest); }
.legend span { margin-right: 1.25rem; white-space: nowrap; }
.legend i { display: inline-block; width: 0.8em; height: 0.8em; margin-right: 0.4em;
  border-radius: 2px; }
summary { cursor: pointer; }
"""
_DARK = "--text: #e4e7eb; --page: #15181c; --line: #343a42; --soft: #262b31; --rest: #8a8f98;"


def class_name(name: str) -> str:
    """The class in which a category's colour is kept: "embed+head" -> "embed-head"."""
    return name.replace("+", "-").replace(" ", "-").lower()


def _rules(shade: int) -> str:
    lines = []
    for name, shades in COLOURS.items():
        colour = f"fill: {shades[shade]}; background: {shades[shade]};"
        lines.append(f".{class_name(name)} {{ {colour} }}\n")
    return "".join(lines)


STYLE = (
    f"{_LAYOUT}{_rules(0)}@media (prefers-color-scheme: dark) {{\n:root {{ {_DARK} }}\n"
    f"{_rules(1)}}}\n"
)
