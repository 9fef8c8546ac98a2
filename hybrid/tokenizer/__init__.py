"""Text to ids and back from the vocabulary inside a GGUF file, and chat templates.

Must not know: models, devices, torch.
Start reading at `tokenizer.py`.
Called by the command line and `hybrid.runtime.engine`.
"""
