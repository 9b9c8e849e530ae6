// Writing of safetensors files, tensor by tensor: no second copy of the weights is ever in memory. Every file is replaced
// in one step; for a folder of several files use AtomicDir around write_sharded.
#pragma once

#include "base/files.h"
#include "io/dtype.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace switchyard {

// A tensor that can produce its bytes (row-major, little-endian) when its turn comes.
struct TensorSource {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  std::function<void(Sink&)> write;

  [[nodiscard]] int64_t byte_size() const;  // Error{internal} for a negative or overflowing shape
};

// `bytes` must stay valid until the file is written.
[[nodiscard]] TensorSource tensor_source(std::string name, DType dtype, std::vector<int64_t> shape,
                                         std::span<const std::byte> bytes);

// Hugging Face readers refuse files without a "format"; "pt" states the row-major layout that we write.
[[nodiscard]] std::map<std::string, std::string> default_metadata();

// Tensors are stored with wide items first, then by name, so that all of them are aligned. Error{internal} when a name
// comes twice or a source produces another number of bytes than its shape says; Error{io} when the system refuses.
void write_safetensors(const std::filesystem::path& path, const std::vector<TensorSource>& tensors,
                       const std::map<std::string, std::string>& metadata = default_metadata());

// `dir/model.safetensors` when everything fits into `max_shard_bytes`, otherwise `model-00001-of-0000N.safetensors`, ...
// and `model.safetensors.index.json`, filled in the order given; a larger tensor gets a shard of its own. Removes model
// files of an earlier write to the same folder that are not part of this one. Returns the names of the files written.
std::vector<std::string> write_sharded(const std::filesystem::path& dir, const std::vector<TensorSource>& tensors,
                                       int64_t max_shard_bytes,
                                       const std::map<std::string, std::string>& metadata = default_metadata());

}  // namespace switchyard
