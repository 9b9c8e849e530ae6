// Metadata under "<architecture>.": typed access to them, for tables of families whose keys depend on each other.
#pragma once

#include "io/gguf/gguf.h"

#include <functional>
#include <optional>

namespace switchyard::io {

class KeyWriter {
 public:
  KeyWriter(std::string_view architecture, GgufMetadata& out) : architecture_(architecture), out_(out) {}

  // A key that is there already gets the new value. Error{unsupported} for a size beyond 32 bits.
  void size(std::string_view key, int64_t value) { put(key, gguf_u32(value)); }
  void number(std::string_view key, double value) { put(key, gguf_f32(value)); }
  void flag(std::string_view key, bool value) { put(key, gguf_bool(value)); }
  void text(std::string_view key, std::string value) { put(key, gguf_string(std::move(value))); }
  void sizes(std::string_view key, const std::vector<int64_t>& values);
  void put(std::string_view key, GgufValue value);

 private:
  std::string_view architecture_;
  GgufMetadata& out_;
};

// The tensors of a file, as far as they say what metadata do not.
struct TensorFacts {
  std::function<bool(std::string_view name)> has = [](std::string_view) { return false; };
  std::function<std::vector<float>(std::string_view name)> values = [](std::string_view) {
    return std::vector<float>();
  };  // of small ones
};

// Errors name `file` and the key: Error{checkpoint} for one that is missing, Error{unsupported} for one of another type.
class KeyReader {
 public:
  KeyReader(std::string_view architecture, const GgufMetadata& metadata, const TensorFacts& tensors, std::string file)
      : architecture_(architecture), metadata_(metadata), tensors_(tensors), file_(std::move(file)) {}

  [[nodiscard]] bool has(std::string_view key) const { return value(key) != nullptr; }
  [[nodiscard]] int64_t size(std::string_view key, std::optional<int64_t> absent = {}) const;
  [[nodiscard]] double number(std::string_view key, std::optional<double> absent = {}) const;
  [[nodiscard]] bool flag(std::string_view key, bool absent) const;
  [[nodiscard]] std::string text(std::string_view key, std::string_view absent) const;
  [[nodiscard]] std::vector<int64_t> sizes(std::string_view key, size_t count) const;  // a list of `count`, or one for all
  [[nodiscard]] const GgufValue* value(std::string_view key) const;

  [[nodiscard]] const TensorFacts& tensors() const { return tensors_; }
  [[nodiscard]] const GgufMetadata& metadata() const { return metadata_; }
  [[nodiscard]] const std::string& file() const { return file_; }
  [[nodiscard]] std::string full(std::string_view key) const { return std::string(architecture_) + "." + std::string(key); }
  // Error{unsupported}: "<file>: metadata '<key>' is <value>, expected <what>".
  [[noreturn]] void refuse(std::string_view key, std::string_view what) const;

 private:
  std::string_view architecture_;
  const GgufMetadata& metadata_;
  const TensorFacts& tensors_;
  std::string file_;
};

}  // namespace switchyard::io
