// The GPU's face of device_hopper.h; device_hopper_plain.h has the same names for the emulator.
// Source of the instructions: PTX ISA 9.0, sections "mbarrier", "Tensor copy", "Asynchronous
// warpgroup level matrix multiply-accumulate" and "setmaxnreg".
#pragma once

namespace hybrid {

DEVICE uint32_t shared_address(const void* shared) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// ---- barriers in shared memory; addresses are those of `shared_address`

DEVICE void start_barrier(uint32_t barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals)
                 : "memory");
}

// What start_barrier() and ordinary stores wrote can be seen by the copy engine and by wgmma.
DEVICE void show_to_engines() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
DEVICE void show_barriers() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

DEVICE void arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// One arrival, and the phase also waits for so many bytes of copies.
DEVICE void arrive_and_expect(uint32_t barrier, int nbytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
                 "r"(nbytes)
                 : "memory");
}

// Until the phase of this parity is over; the first one has parity 0.
DEVICE void wait_for_phase(uint32_t barrier, int parity) {
    asm volatile(
        "{\n.reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n}\n" ::"r"(barrier),
        "r"(parity)
        : "memory");
}

// All threads of some warps meet; `number` 1 to 15 names the meeting.
DEVICE void meet(int number, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// ---- the bulk copy engine

// The map's box at `row` into shared memory, all its columns; its bytes are counted by the barrier.
DEVICE void copy_rows(uint32_t to, const TensorMap* map, int row, uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%2, %3, %2}], [%4];" ::"r"(to),
        "l"(map), "r"(0), "r"(row), "r"(barrier)
        : "memory");
}

// `nbytes` of memory into shared memory: both at multiples of 16 bytes, as is their number.
DEVICE void copy_bytes(uint32_t to, const void* from, int nbytes, uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
            "r"(to),
        "l"(from), "r"(nbytes), "r"(barrier)
        : "memory");
}

DEVICE void prefetch_map(const TensorMap* map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// ---- registers of a warpgroup, from a kernel's own number up or down; multiples of 8

template <int count>
DEVICE void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count>
DEVICE void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}

// ---- values

DEVICE float fast_exp2(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

// Two values of 16 bits, the first in the low half.
template <bool BFLOAT>
DEVICE uint32_t pack_pair(float first, float second) {
    uint32_t pair;
    if constexpr (BFLOAT) {
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    } else {
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    }
    return pair;
}

DEVICE void store_word(uint32_t shared, uint32_t word) {
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(shared), "r"(word) : "memory");
}
DEVICE void store_two_words(uint32_t shared, uint32_t first, uint32_t second) {
    asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(shared), "r"(first), "r"(second)
                 : "memory");
}
DEVICE void store_float(uint32_t shared, float value) {
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(shared), "f"(value) : "memory");
}
DEVICE float load_float(uint32_t shared) {
    float value;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(shared) : "memory");
    return value;
}
DEVICE uint4 load_words(uint32_t shared) {
    uint4 words;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                 : "r"(shared)
                 : "memory");
    return words;
}

// Four 8 x 8 tiles of 16-bit values, whose rows the four quarters of the warp point to.
DEVICE void load_tiles(uint32_t (&tile)[4], uint32_t row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(tile[0]), "=r"(tile[1]), "=r"(tile[2]), "=r"(tile[3])
                 : "r"(row)
                 : "memory");
}

// ---- products of a warpgroup

// Before the first product, and after registers of one were touched.
DEVICE void begin_products() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
DEVICE void close_products() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int open>
DEVICE void wait_for_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(open) : "memory");
}

#define EIGHT(d, i)                                                                             \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
        "+f"(d[i + 6]), "+f"(d[i + 7])
#define THIRTY_TWO(d, i) EIGHT(d, i), EIGHT(d, i + 8), EIGHT(d, i + 16), EIGHT(d, i + 24)
#define NAMES_32                                                                       \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
    "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_128                                                                      \
    NAMES_32                                                                           \
    ", "                                                                               \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, "      \
    "%47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, " \
    "%63, %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, " \
    "%79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, " \
    "%95, %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, "  \
    "%109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, "   \
    "%122, %123, %124, %125, %126, %127"

#define SCORES(kind)                                                              \
    asm volatile(                                                                 \
        "{\n.reg .pred more;\nsetp.ne.b32 more, %37, 0;\n"                        \
        "wgmma.mma_async.sync.aligned.m64n64k16.f32." kind "." kind " {" NAMES_32 \
        "}, {%32, %33, %34, %35}, %36, more, 1, 1, 0;\n}\n"                       \
        : THIRTY_TWO(d, 0)                                                        \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add))
#define SHARED_SCORES(kind)                                                       \
    asm volatile(                                                                 \
        "{\n.reg .pred more;\nsetp.ne.b32 more, %34, 0;\n"                        \
        "wgmma.mma_async.sync.aligned.m64n64k16.f32." kind "." kind " {" NAMES_32 \
        "}, %32, %33, more, 1, 1, 0, 0;\n}\n"                                     \
        : THIRTY_TWO(d, 0)                                                        \
        : "l"(a), "l"(b), "r"(add))
#define VALUES(kind)                                                                \
    asm volatile(                                                                   \
        "{\n.reg .pred more;\nsetp.ne.b32 more, %130, 0;\n"                         \
        "wgmma.mma_async.sync.aligned.m64n256k16.f32." kind "." kind " {" NAMES_128 \
        "}, %128, %129, more, 1, 1, 0, 1;\n}\n"                                     \
        : THIRTY_TWO(d, 0), THIRTY_TWO(d, 32), THIRTY_TWO(d, 64), THIRTY_TWO(d, 96) \
        : "l"(a), "l"(b), "r"(add))

// d [64, 64] = a [64, 16] . b [64 rows, 16 columns]^T, plus d where `add`; a in registers. A
// thread's d[4 j + 2 i + c] is row 16 warp + lane / 4 + 8 i, column 8 j + lane % 4 * 2 + c.
template <bool BFLOAT>
DEVICE void multiply_rows(float (&d)[32], const uint32_t (&a)[4], uint64_t b, int add) {
    if constexpr (BFLOAT) {
        SCORES("bf16");
    } else {
        SCORES("f16");
    }
}

// The same with a in shared memory.
template <bool BFLOAT>
DEVICE void multiply_rows(float (&d)[32], uint64_t a, uint64_t b, int add) {
    if constexpr (BFLOAT) {
        SHARED_SCORES("bf16");
    } else {
        SHARED_SCORES("f16");
    }
}

// d [64, 256] = a [64, 16] . b [16 rows, 256 columns], plus d where `add`; d lies as above.
template <bool BFLOAT>
DEVICE void multiply_columns(float (&d)[128], uint64_t a, uint64_t b, int add) {
    if constexpr (BFLOAT) {
        VALUES("bf16");
    } else {
        VALUES("f16");
    }
}

#undef SCORES
#undef SHARED_SCORES
#undef VALUES
#undef NAMES_32
#undef NAMES_128
#undef THIRTY_TWO
#undef EIGHT

}  // namespace hybrid
