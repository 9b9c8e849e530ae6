#include "io/tokenizer/byte_trie.h"

#include <algorithm>

namespace switchyard::io {

// Level by level: a node of depth d stands for the sorted keys that share their first d bytes.
ByteTrie::ByteTrie(std::vector<std::pair<std::string, int32_t>> keys) {
  roots_.fill(-1);
  std::stable_sort(keys.begin(), keys.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  struct Range {
    size_t begin, end, depth;
    int32_t node;  // -1: the root
  };
  std::vector<Range> open{{0, keys.size(), 0, -1}};
  for (size_t next = 0; next < open.size(); ++next) {
    const Range range = open[next];
    size_t begin = range.begin;
    for (; begin < range.end && keys[begin].first.size() == range.depth; ++begin)
      if (range.node >= 0) nodes_[static_cast<size_t>(range.node)].value = keys[begin].second;
    if (range.node >= 0) nodes_[static_cast<size_t>(range.node)].first_child = static_cast<int32_t>(nodes_.size());
    while (begin < range.end) {
      const char byte = keys[begin].first[range.depth];
      size_t end = begin;
      while (end < range.end && keys[end].first[range.depth] == byte) ++end;
      const auto node = static_cast<int32_t>(nodes_.size());
      nodes_.push_back({.byte = static_cast<unsigned char>(byte)});
      if (range.node < 0) {
        roots_[static_cast<unsigned char>(byte)] = node;
      } else {
        ++nodes_[static_cast<size_t>(range.node)].num_children;
      }
      open.push_back({begin, end, range.depth + 1, node});
      begin = end;
    }
  }
}

}  // namespace switchyard::io
