"""The conformance kit against this program: models, vocabularies, block formats, one table.

Must not know: how anything under test is built; it asks the front doors (`hybrid.load`, the
tokenizer, `kernels.dequantize`).
Start reading at `__main__.py`; a row of the table is `rows.Row`.
Called by hand (`python -m tools.conformance`) and by the tests.
"""
