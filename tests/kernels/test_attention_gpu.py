"""The Triton kernels of attention, interpreted at small sizes against float64."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from kernels.attention import cases, reference
from kernels.attention.cases import Case
from kernels.dequantize import dequantize
from kernels.blocks import BlockTensor
from kernels.formats import BY_NAME
from kernels.quantize import quantize_q8_0
from kernels.testing import assert_close
