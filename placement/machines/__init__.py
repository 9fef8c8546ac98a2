"""What a model is placed on: devices, links and nodes, what they do in a second, where that is
known from.

Must not know: nothing of models, rules or plans.
Start reading at `machine.py`.
Called by prepare (probe, choice), doctor (profile, file), and every other room here.
"""
