"""Write the table of hybrid/live/figures.py into docs/metrics.md: python -m tools.metrics_page"""

from pathlib import Path

from hybrid.live.figures import figure_table

PAGE = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"


def main() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{figure_table()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
