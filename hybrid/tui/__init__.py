"""The screen: the newest Snapshot of a run as lines of a terminal, four times a second.

Must not know: engine, sockets, torch; all that it draws stands in `hybrid.live.snapshot`.
Start reading at `screen.py` (what is where), then `app.py` (`watching` for runs, `show` for top).
Called by `hybrid.cli`.
"""
