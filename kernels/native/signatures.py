"""Results and arguments of the library's functions, as library.h and the ops' headers have them."""

import ctypes

_P, _SIZE, _I, _I64 = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int32, ctypes.c_int64
_FLOAT, _DOUBLE = ctypes.c_float, ctypes.c_double

SIGNATURES = {
    "hybrid_record_bytes": (_I64, [_I]),
    "hybrid_has_tier": (_I, [_I]),
    "hybrid_best_tier": (_I, []),
    "hybrid_block_weights": (_I, [_I]),
    "hybrid_block_bytes": (_I, [_I]),
    "hybrid_set_codebook": (_I, [_I, _P, _SIZE]),
    "hybrid_pool_start": (_I, [_P, _P, _I]),
    "hybrid_pool_stop": (_I, []),
    "hybrid_pool_workers": (_I, []),
    "hybrid_pool_reserve": (_I, [_SIZE]),
    "hybrid_pool_set_timeout": (_I, [_DOUBLE]),
    "hybrid_pool_clocks": (_I, [_I]),
    "hybrid_pool_clocked": (_I, [_P, _I]),
    "hybrid_pool_error_text": (ctypes.c_char_p, []),
    "hybrid_pool_fill": (_I, [_P, _SIZE, _I]),
    "hybrid_pool_read": (_I, [_P, _SIZE, _I, _P, _P]),
    "hybrid_pool_try_fault": (_I, [_I, _I, _I, _DOUBLE]),
    "hybrid_round": (None, [_I, _I, _P, _SIZE, _SIZE, _SIZE, _P]),
    "hybrid_dot_rounded": (
        None,
        [_I, _I, _P, _SIZE, _SIZE, _SIZE, _SIZE, _P, _SIZE, _P, _SIZE],
    ),
    "hybrid_product_packed_bytes": (_SIZE, [_I, _I, _I, _SIZE, _SIZE]),
    "hybrid_product_scratch_bytes": (_SIZE, [_I, _I, _I, _SIZE]),
    "hybrid_product_pack": (
        None,
        [_I, _I, _I, _P, _SIZE, _SIZE, _P, _SIZE, _SIZE, _SIZE, _P],
    ),
    "hybrid_product_multiply": (
        None,
        [_I, _I, _I, _P, *4 * [_SIZE], _P, _SIZE, _P, _P, _SIZE],
    ),
    "hybrid_rms_norm": (None, [_I, _P, _P, _SIZE, _SIZE, _FLOAT, _P]),
    "hybrid_add_rms_norm": (
        None,
        [_I, _P, _P, _P, _SIZE, _SIZE, _FLOAT, _P],
    ),
    "hybrid_silu_times": (None, [_I, _P, _P, _SIZE, _P]),
    "hybrid_add_scaled": (None, [_I, _P, _P, _FLOAT, _SIZE]),
    "hybrid_rope_table": (None, [_P, _SIZE, _P, _SIZE, _DOUBLE, _P, _P]),
    "hybrid_rotate": (None, [_I, _P, _SIZE, _SIZE, _SIZE, _P, _P]),
    "hybrid_router_scratch": (_SIZE, [_I, _I]),
    "hybrid_choose_experts": (
        None,
        [_P, _P, _FLOAT, _P, _P, _SIZE, _P, _P, _P],
    ),
    "hybrid_write_cache_rows": (None, [_I, _I, _P, _SIZE, _SIZE, _P, _SIZE]),
    "hybrid_read_cache_rows": (None, [_I, _P, _SIZE, _SIZE, _P, _SIZE]),
    "hybrid_absorbed_scratch": (_SIZE, [_SIZE]),
    "hybrid_absorbed_attention": (
        None,
        [_I, _P, _SIZE, _SIZE, _P, _P, _P],
    ),
    "hybrid_join_attention": (None, [_I, _P, _SIZE, _SIZE, _SIZE, _P, _SIZE]),
    "hybrid_expanded_scratch": (_SIZE, [_SIZE, _SIZE, _SIZE]),
    "hybrid_expanded_attention": (None, [_I, _P, _SIZE, _SIZE, _SIZE, _P]),
    "hybrid_dequantize": (_I, [_I, _I, _I, _P, _SIZE, _SIZE, _SIZE, _SIZE, _SIZE, _P]),
    "hybrid_linear_bytes": (_I64, [_I, _I, _P, _I, _I]),
    "hybrid_linear": (_I, [_I, _I, _I, _P, _P, _I64, _I, _P, _P, _I64]),
    "hybrid_expert_ffn_bytes": (_I64, [_I, _I, _P, _I, _I]),
    "hybrid_expert_ffn": (_I, [_I, _I, _I, _P, _P, _I, _P, _P, _P, _P, _I64]),
    "hybrid_serve_bytes": (_I64, [_P, _I, _I, _I, _I, _I]),
    "hybrid_serve": (_I, [_P]),
    "hybrid_abandon": (None, [_P]),
    "hybrid_latent_blocks": (_I, [_P, _P, _I, _P]),
    "hybrid_latent_block_needs": (None, [_P, _I, _I, _I, _I, _I, _P]),
}
