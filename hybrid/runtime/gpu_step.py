"""The launches of one decode step through the blocks of one GPU, in order, and their buffers.

    begin    h, positions, lengths: from host memory into the buffers
    block    queries and latent | cache row, absorbed queries | split attention | merge and values
             output | router (and publish) | experts: gate, up | experts: down | (receive)
    end      output norm and head, the best token

Every buffer is fixed at load and every length is read from device memory, so that the launches can
be captured once as a CUDA graph and replayed while the context grows.

Shapes: b tokens of the step, D embedding length, H heads, K experts used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hybrid.runtime.gpu_weights import GpuWeights
from kernels.attention.gpu import absorbed_split, splits_for
from kernels.expert_ffn.gpu import RoutedHidden, SharedHidden, expert_down, expert_hidden
from kernels.latent_block import CacheMemory, LatentShape
from kernels.latent_block.gpu_prepare import prepare
from kernels.latent_block.gpu_unfold import unfold
from kernels.linear.gpu import Product, matvec
from kernels.mailbox import Mailbox, receive
from kernels.router.gpu import route

MOST_TOKENS = 8  # of a step; more are a prompt
COUNTERS = 1024


@dataclass(frozen=True, slots=True)
class StepBuffers:
    """Activations of a step of `tokens` tokens on one GPU, float32 unless said.

    h            [b, D]
    positions    [b] int32, seen [b] int32 = rows visible, rows [b] int64 = cache row to write
    counters     [COUNTERS] int32, zero between launches
    """

    tokens: int
    h: Tensor
    positions: Tensor
    seen: Tensor
    rows: Tensor
    query_low: Tensor
    query: Tensor
    compressed: Tensor
    query_latent: Tensor
    partial: Tensor
    statistics: Tensor
    heads_out: Tensor
    router_logits: Tensor
    chosen: Tensor
    share: Tensor
    hidden: Tensor
    shared_hidden: Tensor
    logits: Tensor
    counters: Tensor
