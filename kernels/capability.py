"""The oldest GPUs that kernels are written for. No torch here: plans ask for it too."""

OLDEST_CAPABILITY = (8, 0)  # Ampere, 2020: asynchronous copies, bfloat16
