// Small helpers of the data tests: files that vanish after the test, and a tokenizer whose answers are plain to see.
#pragma once

#include "data/corpus.h"
#include "io/tokenizer/tokenizer.h"
#include "test_files.h"

#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace switchyard::data {

class TempFolder : public testing::TempDir {
 public:
  std::filesystem::path write(const std::string& name, std::string_view content) const {
    const auto file = path() / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << content;
    return file;
  }
};

[[nodiscard]] inline Document plain(std::string text, std::string name = "n") {
  return {.name = std::move(name), .domain = "d", .text = std::move(text), .scored = {}};
}

// One token per byte: id = byte. End and beginning of a document as asked for.
class FakeTokenizer final : public Tokenizer {
 public:
  explicit FakeTokenizer(std::optional<int32_t> eos = 256, std::optional<int32_t> bos = std::nullopt, int64_t vocab_size = 258)
      : eos_(eos), bos_(bos), vocab_size_(vocab_size) {}
  std::vector<int32_t> encode(std::string_view text, bool) const override {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  std::string decode(std::span<const int32_t> ids, bool) const override {
    std::string text;
    for (const int32_t id : ids)
      if (id < 256) text += static_cast<char>(id);
    return text;
  }
  int64_t vocab_size() const override { return vocab_size_; }
  std::optional<int32_t> token_to_id(std::string_view) const override { return std::nullopt; }
  std::optional<int32_t> eos_id() const override { return eos_; }
  std::optional<int32_t> bos_id() const override { return bos_; }
  nlohmann::ordered_json to_json() const override {
    return {{"fake", vocab_size_}, {"eos", eos_.value_or(-1)}, {"bos", bos_.value_or(-1)}};
  }

 private:
  std::optional<int32_t> eos_, bos_;
  int64_t vocab_size_;
};

}  // namespace switchyard::data
