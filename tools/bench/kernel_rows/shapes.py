"""Shapes of models that the bench knows."""

from dataclasses import dataclass

from kernels.formats import BlockFormat


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Lengths in values.

    experts             held here, `used` of them by a token
    feed_forward        of one expert; feed_forward_256 for formats of 256 weights, of which 1408
                        is no multiple
    query_latent        0: queries come straight from the activations
    linears             rows, columns of single matrices
    contexts            cache rows that decode attention reads
    prompts             tokens, tokens before them, of prompt attention
    product_tokens      tokens of one expert in a prompt
    ram_bytes           weights or cache rows at least, so that none comes out of a cache
    """

    experts: int
    used: int
    width: int
    feed_forward: int
    feed_forward_256: int
    shared: int
    heads: int
    query_latent: int
    linears: tuple[tuple[int, int], ...]
    contexts: tuple[int, ...] = (1024, 4096, 16384)
    prompts: tuple[tuple[int, int], ...] = ((512, 0), (512, 3584))
    product_tokens: tuple[int, ...] = (8, 16, 32, 64, 128)
    nope: int = 128
    rope: int = 64
    value: int = 128
    latent: int = 512
    ram_bytes: int = 1 << 30

    def feed_forward_of(self, block_format: BlockFormat) -> int:
        whole = self.feed_forward % block_format.block_weights == 0
        return self.feed_forward if whole else self.feed_forward_256


SHAPES = {
    "lite": ModelShape(  # DeepSeek-V2-Lite
        experts=64,
        used=6,
        width=2048,
        feed_forward=1408,
        feed_forward_256=1536,
        shared=2816,
        heads=16,
        query_latent=0,
        linears=((3072, 2048), (1408, 2048), (2048, 2048)),
    ),
    "v3": ModelShape(  # DeepSeek-V3, an eighth of its 256 experts
        experts=32,
        used=8,
        width=7168,
        feed_forward=2048,
        feed_forward_256=2048,
        shared=2048,
        heads=128,
        query_latent=1536,
        linears=((2048, 7168), (7168, 2048), (7168, 16384)),
    ),
    "tiny": ModelShape(  # to see that all of it runs
        experts=4,
        used=2,
        width=512,
        feed_forward=224,
        feed_forward_256=256,
        shared=256,
        heads=2,
        query_latent=0,
        linears=((48, 512),),
        contexts=(64,),
        prompts=((32, 32),),
        product_tokens=(8, 16),
        nope=32,
        rope=32,
        value=32,
        latent=64,
        ram_bytes=1 << 20,
    ),
}
