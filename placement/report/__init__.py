"""What a person reads of a plan: tables, notes, explanations, comparisons, pages, other programs'
flags, audits.

Must not know: how homes are chosen.
Start reading at `text.py`.
Called by hybrid.cli.
"""
