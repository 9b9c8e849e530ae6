// All keys that begin at a place of a text, in one walk: vocabulary pieces (Unigram) and added tokens.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace switchyard::io {

class ByteTrie {
 public:
  // Keys with their values. Of equal keys the last counts; empty keys are never found.
  explicit ByteTrie(std::vector<std::pair<std::string, int32_t>> keys = {});

  // Calls visit(length, value) for every key that `text` has at `position`, the shortest first.
  template <class Visit>
  void for_each_prefix(std::string_view text, size_t position, Visit&& visit) const {
    if (position >= text.size()) return;
    int32_t node = roots_[static_cast<unsigned char>(text[position])];
    for (size_t length = 1; node >= 0; ++length) {
      const Node& here = nodes_[static_cast<size_t>(node)];
      if (here.value >= 0) visit(length, here.value);
      if (position + length == text.size()) return;
      node = child(here, static_cast<unsigned char>(text[position + length]));
    }
  }

 private:
  struct Node {
    int32_t first_child = 0, num_children = 0;
    int32_t value = -1;
    unsigned char byte = 0;
  };

  [[nodiscard]] int32_t child(const Node& node, unsigned char byte) const noexcept {
    int32_t low = node.first_child, high = low + node.num_children;
    while (low < high) {
      const int32_t middle = (low + high) / 2;
      if (nodes_[static_cast<size_t>(middle)].byte < byte) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low < node.first_child + node.num_children && nodes_[static_cast<size_t>(low)].byte == byte ? low : -1;
  }

  std::vector<Node> nodes_;  // children of a node lie together, by byte
  std::array<int32_t, 256> roots_{};
};

}  // namespace switchyard::io
