"""The launches of latent attention around `kernels.attention` in a decode step on a GPU."""

from kernels.attention.split_results import SplitResults
from kernels.latent_block.gpu_prepare import prepare
from kernels.latent_block.gpu_records import Angles, HeadRows, NewRows, Queries
from kernels.latent_block.gpu_unfold import UnfoldScratch, unfold, unfold_scratch

__all__ = [
    "Angles",
    "HeadRows",
    "NewRows",
    "Queries",
    "SplitResults",
    "UnfoldScratch",
    "prepare",
    "unfold",
    "unfold_scratch",
]
