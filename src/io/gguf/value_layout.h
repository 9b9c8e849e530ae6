// Where the values of a GGUF tensor stand in the tensor of a Hugging Face folder: strides, in both directions, so that joint and
// transposed tensors are split and joined row by row.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace switchyard::io {

// Letters: N experts, f width of an expert, d width of the model, h heads, c values of a head. "here" is Hugging Face.
enum class Arrange {
  plain,
  query_rows,  // rows of each head interleaved: file row 2 j + half is row half * c / 2 + j, for rotary positions on neighbours
  key_rows,    // the same by the number of key-value heads
  stack,       // one tensor per expert here, one for all in GGUF
  old_expert,  // older files: one tensor per expert in GGUF as well; read, not written
  old_whole,   // older files: as here, where GGUF splits now; read, not written
  first_half,
  second_half,  // gate and up rows of one tensor [N, 2 f, d] or [2 f, d] here
  even_columns,
  odd_columns,       // gate and up columns of [N, d, 2 f] here, transposed there: [N, f, d]; of biases [N, 2 f] without that
  transposed,        // [N, f, d] here, [N, d, f] there
  split_rows,        // [N f, d] here, [N, f, d] there
  split_transposed,  // [N f, d] here, [N, d, f] there
  latent_keys,       // of [h (nope + v), r] here the first nope rows of each head: [h, r, nope] there
  latent_values,     // and the last v: [h, v, r] there
  squeezed,          // [e, 1, k] here, [e, k] there
  negative_exp,      // x here, -exp(x) there
};

// What shapes alone do not tell.
struct LayoutSizes {
  int64_t heads = 0, kv_heads = 0, experts = 0;
  int64_t nope = 0, v = 0;  // of a head, in latent attention
};

struct ValueLayout {
  struct Axis {
    int64_t size, stride;
  };
  std::vector<int64_t> hf_shape, gguf_shape;
  std::vector<Axis> axes;  // of GGUF, slowest first, strides in the other tensor; the last one is a row
  int64_t offset = 0;

  [[nodiscard]] int64_t columns() const { return axes.empty() ? 1 : axes.back().size; }
  [[nodiscard]] int64_t stride() const { return axes.empty() ? 1 : axes.back().stride; }
  [[nodiscard]] int64_t rows() const;
  [[nodiscard]] int64_t start_of(int64_t row) const;  // where its first value stands
};

// Nothing when the shape cannot be of that arrangement. `stack`, `old_expert` and `old_whole` are as `plain`: of one expert, of
// the whole.
[[nodiscard]] std::optional<ValueLayout> layout_of_hf(Arrange how, const std::vector<int64_t>& shape, const LayoutSizes& sizes);
[[nodiscard]] std::optional<ValueLayout> layout_of_gguf(Arrange how, const std::vector<int64_t>& shape, const LayoutSizes& sizes);

}  // namespace switchyard::io
