// Memory straight from the system, past an allocator that may keep what is freed (memory.h).
#pragma once

#include <cstdint>
#include <memory>

namespace switchyard {

// `bytes` zeros at the start of a page, whose pages exist only once they are written, and which go back when the last owner does.
// `huge_pages`: for what is read from end to end, fewer translations of addresses if the system agrees. Throws std::bad_alloc.
[[nodiscard]] std::shared_ptr<char> mapped_memory(int64_t bytes, bool huge_pages = false);

}  // namespace switchyard
