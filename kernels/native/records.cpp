// Sizes of the records of the C border, for records.py to compare with its own.
#include "../latent_block/block.h"
#include "../mailbox/serve.h"

std::int64_t hybrid_record_bytes(std::int32_t which) {
    constexpr std::size_t sizes[] = {
        sizeof(hybrid::Matrix),      sizeof(hybrid::Experts),    sizeof(hybrid::RouterRules),
        sizeof(hybrid::LatentBlock), sizeof(hybrid::BlockPass),  sizeof(hybrid::BlockNeeds),
        sizeof(hybrid::CacheRows),   sizeof(hybrid::Mailbox),    sizeof(hybrid::ServedMailbox),
        sizeof(hybrid::ServedLayer), sizeof(hybrid::ServedStep),
    };
    constexpr auto count = static_cast<std::int32_t>(sizeof sizes / sizeof *sizes);
    return which >= 0 && which < count ? static_cast<std::int64_t>(sizes[which]) : 0;
}
