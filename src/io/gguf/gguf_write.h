// Writing of GGUF files (version 3), tensor by tensor: no second copy of the weights is ever in memory. The file is replaced in
// one step, and equal input gives equal bytes.
#pragma once

#include "io/gguf/gguf.h"

#include <functional>

namespace switchyard::io {

struct GgufTensorSource {
  std::string name;
  GgmlType type = GgmlType::f32;
  std::vector<int64_t> shape;  // row-major
  std::function<void(Sink&)> write;

  [[nodiscard]] int64_t byte_size() const;  // Error{internal} for a shape that does not fit the type
};

// Tensors in the order given, aligned to general.alignment (32 when `metadata` does not say). Error{internal} when a name comes
// twice or a source writes another number of bytes than its shape says; Error{io} when the system refuses. `progress` is called
// after each tensor with the bytes written so far; it may be empty.
void write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata, const std::vector<GgufTensorSource>& tensors,
                const std::function<void(int64_t bytes)>& progress = {});

}  // namespace switchyard::io
