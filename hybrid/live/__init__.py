"""What a run does, as plain data once a second or faster: measured, kept, sent, written.

engine ──told──> recorder ──────┐
NVML, psutil, /proc ──sources──┴─> Snapshot ──> screen (hybrid.tui) │ Unix socket (hybrid top)
                                               │ --stats-json      │ --metrics (Prometheus)

Must not know: torch, the command line, the screen. An engine is what `runtime.listening` and
`runtime.prepare` say of it.
Start reading: snapshot.py, then live_run.py. Called by `hybrid.cli`; `hybrid.tui` draws snapshots.
"""
