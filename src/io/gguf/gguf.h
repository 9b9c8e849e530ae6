// GGUF files, versions 2 and 3, little-endian: typed metadata, tensor descriptions, and the tensors' bytes behind them at
// aligned offsets. Format: the GGUF description of github.com/ggml-org/ggml. Nothing is copied: tensors are ranges of a read-only mapping.
//
// Every fault of a file is Error{checkpoint} that names file, place, what was found and what was expected; a version or byte
// order that is not read is Error{unsupported}.
#pragma once

#include "base/files.h"
#include "io/quant/block_format.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace switchyard::io {

enum class GgufKind : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };
[[nodiscard]] std::string_view name_of(GgufKind kind) noexcept;

struct GgufValue {
  using Array = std::vector<GgufValue>;
  GgufKind kind = GgufKind::u32;
  std::variant<uint64_t, int64_t, double, bool, std::string, Array> value;  // by kind: all of u8 ... u64 are uint64_t
  GgufKind items = GgufKind::u32;  // kind of the items of an array; all have it, also when there are none
  bool operator==(const GgufValue&) const = default;

  [[nodiscard]] const std::string* string() const { return std::get_if<std::string>(&value); }
  [[nodiscard]] const Array* array() const { return std::get_if<Array>(&value); }
};

[[nodiscard]] GgufValue gguf_u32(int64_t value);
[[nodiscard]] GgufValue gguf_i32(int32_t value);
[[nodiscard]] GgufValue gguf_f32(double value);
[[nodiscard]] GgufValue gguf_bool(bool value);
[[nodiscard]] GgufValue gguf_string(std::string value);
[[nodiscard]] GgufValue gguf_strings(std::vector<std::string> values);

// Plain JSON of a value; a float32 becomes the shortest decimal that means it. Arrays longer than `longest` are cut and end
// with a string that says how many items there are.
[[nodiscard]] nlohmann::ordered_json to_json(const GgufValue& value, size_t longest = SIZE_MAX);

// A value for a message: long lists are cut, bytes that are no UTF-8 replaced.
[[nodiscard]] std::string shown(const GgufValue& value);

using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;  // in the order of the file; keys are unique
[[nodiscard]] const GgufValue* find(const GgufMetadata& metadata, std::string_view key);

struct GgufTensor {
  std::string name;
  const BlockFormat* format = nullptr;
  std::vector<int64_t> shape;  // row-major: the file's first (fastest) dimension comes last
  std::span<const std::byte> bytes;

  [[nodiscard]] int64_t numel() const noexcept { return static_cast<int64_t>(bytes.size()) / format->bytes * format->values; }
};

struct GgufHeader {
  uint32_t version = 3;
  int64_t alignment = 32;  // bytes
  GgufMetadata metadata;
  std::vector<GgufTensor> tensors;  // in the order of the file
};

// Parses and checks a whole file; the tensors point into `file`. `name` starts every error.
[[nodiscard]] GgufHeader parse_gguf(std::span<const std::byte> file, const std::string& name);

// Whether the file begins with the four letters.
[[nodiscard]] bool is_gguf(const std::filesystem::path& path);

// One file. Movable; tensors stay valid while it lives.
class GgufFile {
 public:
  [[nodiscard]] static GgufFile open(const std::filesystem::path& path);

  [[nodiscard]] const GgufTensor* find(std::string_view tensor) const;  // nullptr when there is none
  [[nodiscard]] const GgufHeader& header() const noexcept { return header_; }
  [[nodiscard]] const GgufMetadata& metadata() const noexcept { return header_.metadata; }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return mapping_.path(); }

 private:
  MappedFile mapping_;
  GgufHeader header_;
  std::map<std::string, size_t, std::less<>> by_name_;
};

}  // namespace switchyard::io
