// The emulator's face of device_hopper.h; what each function means stands in device_hopper_ptx.h.
// Copies and products are done when they are asked for, which the GPU may do too: what a kernel
// forgets to wait for does not show, what it waits for in vain does.
#pragma once

namespace hybrid {

namespace emulator {

constexpr int kMostPolls = 1 << 20;

// Of mbarrier: 8 bytes.
struct ByteBarrier {
    int16_t arrivals, waiting;  // of a phase, and those that it waits for
    int32_t state;              // twice the bytes that it waits for, and the phase's parity
};

template <class T>
T& at(uint32_t address) {
    check_aligned(dynamic_shared() + address, sizeof(T));
    return *reinterpret_cast<T*>(dynamic_shared() + address);
}

inline void arrive_with(uint32_t address, int arrivals, int nbytes) {
    ByteBarrier& barrier = at<ByteBarrier>(address);
    barrier.waiting -= arrivals;
    barrier.state += 2 * nbytes;
    if (barrier.waiting < 0) stop("more arrivals at barrier %u than it waits for", address);
    if (barrier.waiting > 0 || barrier.state > 1) return;
    barrier.waiting = barrier.arrivals;
    barrier.state ^= 1;
}

// Polls until `is_over`.
template <class Condition>
void poll(const char* what, uint32_t number, Condition is_over) {
    for (int polls = 0; !is_over(); ++polls) {
        if (polls == kMostPolls) stop("thread %d waits at %s %u", active->current, what, number);
        yield_thread();
    }
}

inline uint32_t swizzled(uint32_t address, uint32_t mask) {
    return address ^ (address >> 7 & mask) << 4;
}

template <bool BFLOAT>
float value_at(uint32_t address) {
    const uint16_t bits = at<uint16_t>(address);
    return BFLOAT ? bfloat_to_float(bits) : half_to_float(bits);
}

// A descriptor of wgmma taken apart.
struct Described {
    uint32_t start, boxes, eight_rows, mask, pitch;

    explicit Described(uint64_t operand)
        : start((operand & 0x3fff) << 4),
          boxes((operand >> 16 & 0x3fff) << 4),
          eight_rows((operand >> 32 & 0x3fff) << 4),
          mask(operand >> 62 == 1 ? 7 : 1),
          pitch(operand >> 62 == 1 ? 128 : 32) {}

    // Columns are contiguous: of one box where products sum over them, of several where over rows.
    uint32_t address(int row, int column) const {
        return swizzled(
            start + row / 8 * eight_rows + row % 8 * pitch + column / 64 * boxes + column % 64 * 2,
            mask);
    }
};

// The 16 values of a thread's row and of the row 8 on, from the registers of four lanes.
template <bool BFLOAT>
void rows_of(const uint32_t (&a)[4], float (&row)[2][16]) {
    for (int from = 0; from < 4; ++from) {
        for (int i = 0; i < 4; ++i) {
            const uint32_t pair = shuffle(a[i], (lane_index() & ~3) + from);
            for (int c = 0; c < 2; ++c) {
                const uint16_t bits = static_cast<uint16_t>(pair >> 16 * c);
                row[i % 2][i / 2 * 8 + from * 2 + c] =
                    BFLOAT ? bfloat_to_float(bits) : half_to_float(bits);
            }
        }
    }
}

template <bool BFLOAT>
void rows_of(uint64_t a, float (&row)[2][16]) {
    const Described described(a);
    for (int i = 0; i < 2; ++i) {
        const int first = warp_index() % 4 * 16 + lane_index() / 4 + 8 * i;
        for (int k = 0; k < 16; ++k) row[i][k] = value_at<BFLOAT>(described.address(first, k));
    }
}

// d += row . b(column), where b(k, column) is an address.
template <bool BFLOAT, int COUNT, class Address>
void multiply(float (&d)[COUNT], const float (&row)[2][16], int add, Address b) {
    for (int at = 0; at < COUNT; ++at) {
        const int column = at / 4 * 8 + lane_index() % 4 * 2 + at % 2;
        float sum = add ? d[at] : 0.0f;
        for (int k = 0; k < 16; ++k) sum += row[at / 2 % 2][k] * value_at<BFLOAT>(b(k, column));
        d[at] = sum;
    }
}

}  // namespace emulator

DEVICE uint32_t shared_address(const void* shared) {
    return static_cast<uint32_t>(static_cast<const unsigned char*>(shared) -
                                 emulator::dynamic_shared());
}

DEVICE void start_barrier(uint32_t barrier, int arrivals) {
    const auto count = static_cast<int16_t>(arrivals);
    emulator::at<emulator::ByteBarrier>(barrier) = {count, count, 0};
}
DEVICE void show_to_engines() {}
DEVICE void show_barriers() {}
DEVICE void arrive(uint32_t barrier) {
    emulator::arrive_with(barrier, 1, 0);
}
DEVICE void arrive_and_expect(uint32_t barrier, int nbytes) {
    emulator::arrive_with(barrier, 1, nbytes);
}
DEVICE void wait_for_phase(uint32_t barrier, int parity) {
    const auto& state = emulator::at<emulator::ByteBarrier>(barrier).state;
    emulator::poll("barrier", barrier, [&] { return (state & 1) != parity; });
}

DEVICE void meet(int number, int threads) {
    auto& meeting = emulator::active->meetings[number];
    const int before = meeting.past;
    if (++meeting.here == threads) {
        meeting.here = 0;
        ++meeting.past;
    }
    emulator::poll("meeting", number, [&] { return meeting.past != before; });
}

// The map of CPU tensors: address, rows, pitch in bytes, boxes of 64 columns, rows of a box.
DEVICE void copy_rows(uint32_t to, const TensorMap* map, int row, uint32_t barrier) {
    const auto* from = reinterpret_cast<const unsigned char*>(map->words[0]);
    const int64_t count = map->words[1], pitch = map->words[2];
    const int boxes = map->words[3], rows = map->words[4];
    for (int at = 0; at < boxes * rows * 8; ++at) {
        const int box = at / 8 / rows, line = at / 8 % rows, eighth = at % 8;
        const uint32_t plain = to + (box * rows + line) * 128 + eighth * 16;
        uint4& target = emulator::at<uint4>(emulator::swizzled(plain, 7));
        target = {0, 0, 0, 0};
        if (row + line < count)
            memcpy(&target, from + (row + line) * pitch + box * 128 + eighth * 16, 16);
    }
    emulator::arrive_with(barrier, 0, -boxes * rows * 128);
}
DEVICE void copy_bytes(uint32_t to, const void* from, int nbytes, uint32_t barrier) {
    for (int at = 0; at < nbytes; at += 16)
        memcpy(&emulator::at<uint4>(to + at), static_cast<const unsigned char*>(from) + at, 16);
    emulator::arrive_with(barrier, 0, -nbytes);
}
DEVICE void prefetch_map(const TensorMap*) {}

template <int count>
DEVICE void take_registers() {}
template <int count>
DEVICE void give_registers() {}

DEVICE float fast_exp2(float x) {
    return exp2f(x);
}

template <bool BFLOAT>
DEVICE uint32_t pack_pair(float first, float second) {
    const uint32_t low = BFLOAT ? float_to_bfloat(first) : float_to_half(first);
    const uint32_t high = BFLOAT ? float_to_bfloat(second) : float_to_half(second);
    return high << 16 | low;
}

DEVICE void store_word(uint32_t shared, uint32_t word) {
    emulator::at<uint32_t>(shared) = word;
}
DEVICE void store_two_words(uint32_t shared, uint32_t first, uint32_t second) {
    emulator::at<uint2>(shared) = {first, second};
}
DEVICE void store_float(uint32_t shared, float value) {
    emulator::at<float>(shared) = value;
}
DEVICE float load_float(uint32_t shared) {
    return emulator::at<float>(shared);
}
DEVICE uint4 load_words(uint32_t shared) {
    return emulator::at<uint4>(shared);
}

DEVICE void load_tiles(uint32_t (&tile)[4], uint32_t row) {
    for (int i = 0; i < 4; ++i) {
        const uint32_t from = shuffle(row, 8 * i + lane_index() / 4);
        tile[i] = emulator::at<uint32_t>(from + lane_index() % 4 * 4);
    }
}

DEVICE void begin_products() {}
DEVICE void close_products() {}
template <int open>
DEVICE void wait_for_products() {}

template <bool BFLOAT, int COUNT, class A>
DEVICE void multiply_rows(float (&d)[COUNT], const A& a, uint64_t b, int add) {
    float row[2][16];
    emulator::rows_of<BFLOAT>(a, row);
    const emulator::Described described(b);
    emulator::multiply<BFLOAT>(d, row, add,
                               [&](int k, int column) { return described.address(column, k); });
}

template <bool BFLOAT, int COUNT>
DEVICE void multiply_columns(float (&d)[COUNT], uint64_t a, uint64_t b, int add) {
    float row[2][16];
    emulator::rows_of<BFLOAT>(a, row);
    const emulator::Described described(b);
    emulator::multiply<BFLOAT>(d, row, add,
                               [&](int k, int column) { return described.address(k, column); });
}

}  // namespace hybrid
