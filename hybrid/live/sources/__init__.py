"""What the machine tells beside the engine: GPUs through NVML, cores, RAM and this process through
psutil, /sys and /proc.

Must not know: engines, plans, snapshots' readers. A source that is missing gives None, never zero.
Start reading at `readings.py`. Called by `hybrid.live.live_run`, each source on its own thread.
"""
