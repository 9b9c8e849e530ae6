// Reading of safetensors files: 8 bytes header length (little-endian), a JSON header, the tensors' bytes. Format:
// https://github.com/huggingface/safetensors, "Format". Nothing is copied: tensors are ranges of a read-only mapping.
//
// Every fault of a file is Error{checkpoint} that names file, tensor, what was found and what was expected; a file that
// cannot be opened is Error{io}.
#pragma once

#include "base/files.h"
#include "io/dtype.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace switchyard {

struct TensorEntry {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;  // row-major, little-endian; may be unaligned
  // For values that are stored in another way (blocks of quantised values, parts of other tensors): fills numel() floats.
  // `bytes` is then what is stored, and `dtype` is f32.
  std::function<void(float* out)> decode = {};
  std::string stored_as = {};  // "Q4_K"; empty without decode

  [[nodiscard]] int64_t numel() const noexcept;
};

struct SafetensorsHeader {
  std::vector<TensorEntry> entries;  // in the order of their bytes
  std::map<std::string, std::string> metadata;
};

// Parses and checks a whole file; the entries point into `file`. `name` starts every error.
[[nodiscard]] SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, const std::string& name);

// Values of `entry` as float32, numel of them, into `out`. Error{unsupported} for integers and 8-bit floats.
void to_float32(const TensorEntry& entry, float* out);

// "[2, 3]".
[[nodiscard]] std::string show_shape(std::span<const int64_t> shape);

// One file. Movable; entries stay valid while it lives.
class SafetensorsFile {
 public:
  [[nodiscard]] static SafetensorsFile open(const std::filesystem::path& path);

  [[nodiscard]] const TensorEntry* find(std::string_view name) const;  // nullptr when there is none
  [[nodiscard]] const std::vector<TensorEntry>& entries() const noexcept { return header_.entries; }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept { return header_.metadata; }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return mapping_.path(); }

 private:
  MappedFile mapping_;
  SafetensorsHeader header_;
  std::unordered_map<std::string_view, size_t> by_name_;
};

}  // namespace switchyard
