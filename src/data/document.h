// One document of a corpus: a work, a file, a row of a JSONL file, or a conversation.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace switchyard::data {

struct ByteRange {
  int64_t begin = 0, end = 0;  // [begin, end)
  [[nodiscard]] int64_t size() const { return end - begin; }
  bool operator==(const ByteRange&) const = default;
};

struct Document {
  std::string name;    // title, file name, or "file:line"
  std::string domain;  // "" when unknown
  std::string text;    // valid UTF-8, never empty
  // The bytes that are predicted with a loss, ascending and disjoint; without a value all of them are (plain text).
  std::optional<std::vector<ByteRange>> scored;
};

}  // namespace switchyard::data
