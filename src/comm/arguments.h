// Checks of what one rank passes to a collective, before any other rank is asked.
#pragma once

#include "switchyard/error.h"

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string_view>

namespace switchyard::comm {

// One side of all_to_all_v: `bytes` names every rank once and adds up to the buffer. `side` is "send" or "receive".
inline void check_byte_counts(int64_t rank, int64_t size, std::string_view side, std::span<const int64_t> bytes, size_t buffer) {
  if (static_cast<int64_t>(bytes.size()) != size)
    fail(ErrorKind::usage, "rank {} of {}: all_to_all_v got {} {} counts, expected one per rank", rank, size, bytes.size(), side);
  for (int64_t r = 0; r < size; ++r)
    if (bytes[r] < 0) fail(ErrorKind::usage, "rank {} of {}: all_to_all_v got the {} count {} for rank {}, expected 0 or more", rank, size, side, bytes[r], r);
  const auto total = std::accumulate(bytes.begin(), bytes.end(), int64_t{0});
  if (total != static_cast<int64_t>(buffer))
    fail(ErrorKind::usage, "rank {} of {}: the {} counts of all_to_all_v add up to {} bytes, the buffer has {}", rank, size, side, total, buffer);
}

inline void check_gather_sizes(int64_t rank, int64_t size, size_t send, size_t recv) {
  if (recv != send * static_cast<size_t>(size))
    fail(ErrorKind::usage, "rank {} of {}: all_gather of {} bytes per rank needs {} bytes to receive, the buffer has {}", rank, size, send, send * size, recv);
}

inline void check_root(int64_t rank, int64_t size, int64_t root) {
  if (root < 0 || root >= size) fail(ErrorKind::usage, "rank {} of {}: broadcast from rank {}, expected 0 to {}", rank, size, root, size - 1);
}

}  // namespace switchyard::comm
