"""What a run does, as plain data once a second or faster: measured, kept, sent, written.

engine ──Events──> recorder ──┐
NVML, psutil, /proc ─sources──┴─> Snapshot ──> screen (hybrid.tui) │ Unix socket (hybrid top)
                                               │ --stats-json      │ --metrics (Prometheus)
"""
