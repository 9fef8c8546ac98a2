"""Dimensions of published models, for benches and tests that need no file of them."""

from placement.inventory import ModelShape

LITE = ModelShape(
    layers=27,
    dense_layers=1,
    embedding_length=2048,
    feed_forward_length=10944,
    head_count=16,
    key_length=192,
    value_length=128,
    latent_length=512,
    rope_length=64,
    vocabulary=102400,
    expert_count=64,
    expert_used_count=6,
    expert_feed_forward_length=1408,
    shared_feed_forward_length=2816,
    trained_context_tokens=163840,
)
V3 = ModelShape(
    layers=61,
    dense_layers=3,
    embedding_length=7168,
    feed_forward_length=18432,
    head_count=128,
    key_length=192,
    value_length=128,
    latent_length=512,
    rope_length=64,
    vocabulary=129280,
    expert_count=256,
    expert_used_count=8,
    expert_feed_forward_length=2048,
    shared_feed_forward_length=2048,
    trained_context_tokens=163840,
)
