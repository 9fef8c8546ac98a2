"""GPUs and CPUs by name: what data sheets say of their memory, arithmetic and bus.

Sources, each figure once: the architecture papers "NVIDIA Ampere GA102 GPU Architecture",
"NVIDIA Ada GPU Architecture" and "NVIDIA RTX Blackwell GPU Architecture" (GeForce and RTX cards),
the data sheets of A100, A10, A40, L4, L40S, H100, H100 NVL, H200, H200 NVL and B200 (servers).
TFLOP/s are those of bfloat16 with sums in float32, without sparsity; where a paper has none for a
smaller card of a family, tensor cores x 256 operations (GeForce: half of that, as their papers say)
x boost clock.
"""

import re
from dataclasses import dataclass

from placement.machines.machine import Device


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU as its data sheet has it.

    pattern           in NVML's name
    memory_gb_s       bytes that its memory moves in a second, 1e9
    tflops            dense bfloat16 products summed in float32
    generation, width of PCIe
    """

    pattern: str
    memory_gb_s: float
    tflops: float
    generation: int = 4
    width: int = 16


# The first one that matches counts: "3090 Ti" stands before "3090".
CARDS = (
    Card(r"B200", 8000, 2250, 5),
    Card(r"H200 NVL", 4800, 835, 5),
    Card(r"H200", 4800, 989, 5),
    Card(r"H100 NVL", 3900, 835, 5),
    Card(r"H100 PCIe", 2000, 756, 5),
    Card(r"H100", 3350, 989, 5),
    Card(r"A100.*40GB", 1555, 312),
    Card(r"A100.*PCIe", 1935, 312),
    Card(r"A100", 2039, 312),
    Card(r"L40S", 864, 362),
    Card(r"L40", 864, 181),
    Card(r"L4", 300, 121),
    Card(r"A40", 696, 150),
    Card(r"A10", 600, 125),
    Card(r"RTX PRO 6000", 1792, 504, 5),
    Card(r"RTX 6000 Ada", 960, 364),
    Card(r"RTX A6000", 768, 155),
    Card(r"RTX A5000", 768, 111),
    Card(r"RTX A4000", 448, 77),
    Card(r"5090", 1792, 210, 5),
    Card(r"5080", 960, 113, 5),
    Card(r"5070 Ti", 896, 88, 5),
    Card(r"5070", 672, 62, 5),
    Card(r"5060 Ti", 448, 47, 5, 8),
    Card(r"4090", 1008, 165),
    Card(r"4080 SUPER", 736, 104),
    Card(r"4080", 717, 97),
    Card(r"4070 Ti SUPER", 672, 88),
    Card(r"4070 Ti", 504, 80),
    Card(r"4070", 504, 58),
    Card(r"4060 Ti", 288, 44, 4, 8),
    Card(r"4060", 272, 30, 4, 8),
    Card(r"3090 Ti", 1008, 80),
    Card(r"3090", 936, 71),
    Card(r"3080 Ti", 912, 68),
    Card(r"3080", 760, 60),
    Card(r"3070", 448, 41),
    Card(r"3060 Ti", 448, 32),
    Card(r"3060", 360, 25),
)
# Cards of these names share nothing but the number with those above.
_OTHERS = re.compile(r"laptop|mobile|max-q design|\bMIG\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Family:
    """Cards of a compute capability that CARDS does not name: what a smaller one of them has.

    gb_s_per_gib, most_gb_s   memory's speed grows with its size, up to that
    tflops_per_gib            so do the tensor cores, up to most_tflops
    """

    gb_s_per_gib: float
    most_gb_s: float
    tflops_per_gib: float
    most_tflops: float
    generation: int = 4


# Drawn below the cards above: a guess that is too low leaves more in RAM than one too high.
FAMILIES = {
    (8, 0): Family(38, 1500, 7, 300),
    (8, 6): Family(25, 700, 2.1, 110),
    (8, 7): Family(3, 190, 0.5, 20),  # Orin: one memory for CPU and GPU
    (8, 9): Family(18, 800, 2.5, 150),
    (9, 0): Family(24, 3000, 8, 750, 5),
    (10, 0): Family(40, 7000, 10, 1800, 5),
    (12, 0): Family(28, 1500, 3, 200, 5),
}
_USUAL = FAMILIES[(8, 6)]
_GIB = 1 << 30


def card_of(device: Device) -> Card:
    """What is known of a GPU, by its name or else by its capability and the size of its memory."""
    if not _OTHERS.search(device.description):
        for card in CARDS:
            if re.search(rf"\b{card.pattern}\b", device.description, re.IGNORECASE):
                return card
    return _of_family(device)


def is_known(device: Device) -> bool:
    return card_of(device) in CARDS


@dataclass(frozen=True, slots=True)
class Socket:
    """A CPU as its data sheet has it.

    pattern         in its name
    channels_gb_s   memory channels x transfers x 8 bytes
    core_tflops     products of a prompt by one core here: about 0.4 with AMX and 0.6 with AVX-512
                    of Zen 5 follow from docs/log.md; those of others are drawn below that
    """

    pattern: str
    channels_gb_s: float
    core_tflops: float


AMX, WIDE, NARROW = 0.40, 0.30, 0.15
# Channels are those of AMD's and Intel's product pages. The first one that matches counts.
SOCKETS = (
    Socket(r"EPYC 9\d{2}5", 576.0, WIDE),  # Turin: 12 x DDR5-6000
    Socket(r"EPYC 9\d{3}", 460.8, WIDE),  # Genoa, Bergamo: 12 x DDR5-4800
    Socket(r"EPYC 8\d{3}", 230.4, WIDE),  # Siena: 6 x DDR5-4800
    Socket(r"EPYC 7\d{3}", 204.8, NARROW),  # Rome, Milan: 8 x DDR4-3200
    Socket(r"XEON.* 6\d{3}P", 409.6, AMX),  # Granite Rapids: 8 x DDR5-6400
    Socket(r"XEON.* [3-9]5\d{2}", 358.4, AMX),  # Emerald Rapids: 8 x DDR5-5600
    Socket(r"XEON.* [3-9]4\d{2}", 307.2, AMX),  # Sapphire Rapids: 8 x DDR5-4800
    Socket(r"XEON.* [3-9]3\d{2}", 204.8, WIDE),  # Ice Lake: 8 x DDR4-3200
    Socket(r"XEON", 128.0, NARROW),  # older: 6 x DDR4-2666
    Socket(r"THREADRIPPER PRO 7", 332.8, WIDE),  # 8 x DDR5-5200
    Socket(r"THREADRIPPER PRO", 204.8, NARROW),  # 8 x DDR4-3200
    Socket(r"THREADRIPPER", 102.4, NARROW),  # 4 x DDR4-3200
    Socket(r"RYZEN.* [79]\d{3}", 83.2, WIDE),  # Zen 4 and 5: 2 x DDR5-5200
    Socket(r"", 51.2, NARROW),  # desktops: 2 x DDR4-3200
)


def socket_of(host: Device) -> Socket:
    """What is known of a CPU by its name, of the smallest kind where nothing is."""
    return next(
        socket for socket in SOCKETS if re.search(socket.pattern, host.description, re.IGNORECASE)
    )


def _of_family(device: Device) -> Card:
    known = _capability(device.compute_capability)
    older = [capability for capability in FAMILIES if capability <= known]
    family = FAMILIES[max(older)] if older else _USUAL
    size_gib = device.total_bytes / _GIB
    return Card(
        "",
        max(min(family.gb_s_per_gib * size_gib, family.most_gb_s), 1.0),
        max(min(family.tflops_per_gib * size_gib, family.most_tflops), 1.0),
        family.generation,
    )


def _capability(text: str | None) -> tuple[int, ...]:
    found = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", text or "")
    return (int(found[1]), int(found[2])) if found else (8, 6)
