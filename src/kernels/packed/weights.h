// The weights of a linear layer, or of one linear layer per expert, packed for the kernels (format.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "kernels/packed/format.h"

namespace switchyard::kernels::packed {

// Which row of the matrix is output j of the packed one.
enum class RowOrder {
  as_stored,
  gate_then_up,        // rows [gate; up], n / 2 each: strips become gate 0, up 0, gate 1, up 1 ...
  gate_up_alternating  // rows gate 0, up 0, gate 1 ...: strips as above
};

class PackedWeights {
 public:
  // Room for `experts` matrices [n, k]. group = 0: default_group(format); else a multiple of 64, integer formats only.
  // With an order of two halves each half is padded to whole strips. Throws Error{usage} for sizes that cannot be.
  PackedWeights(WeightFormat format, int64_t experts, int64_t n, int64_t k, RowOrder order = RowOrder::as_stored, int64_t group = 0);

  PackedWeights(PackedWeights&&) = default;
  PackedWeights(const PackedWeights&) = delete;

  // Writes row r of an expert's matrix, k floats, to `out`. Called by several threads at once.
  using ReadRow = std::function<void(int64_t r, float* out)>;
  void pack(int64_t expert, const ReadRow& row);
  void pack(int64_t expert, const float* matrix);  // [n, k]

  // What the packed weights stand for: row r as floats.
  void unpack_row(int64_t expert, int64_t r, float* out) const;

  [[nodiscard]] WeightFormat format() const { return format_; }
  [[nodiscard]] RowOrder order() const { return order_; }
  [[nodiscard]] int64_t experts() const { return experts_; }
  [[nodiscard]] int64_t n() const { return n_; }
  [[nodiscard]] int64_t k() const { return k_; }
  [[nodiscard]] int64_t steps() const { return steps_; }    // k, padded
  [[nodiscard]] int64_t group() const { return group_; }    // steps() for formats without scales
  [[nodiscard]] int64_t groups() const { return (steps_ + group_ - 1) / group_; }
  [[nodiscard]] int64_t strips() const { return strips_; }  // of an expert
  [[nodiscard]] int64_t strip_bytes() const { return strip_bytes_; }
  [[nodiscard]] int64_t scales_at() const { return steps_ / steps_of_line(format_) * kLineBytes; }  // inside a strip
  [[nodiscard]] int64_t expert_bytes() const { return strips_ * strip_bytes_; }
  [[nodiscard]] int64_t bytes() const { return experts_ * expert_bytes(); }
  [[nodiscard]] const char* strip(int64_t expert, int64_t s) const { return data_.get() + expert * expert_bytes() + s * strip_bytes_; }

 private:
  [[nodiscard]] int64_t source_row(int64_t strip, int64_t c) const;  // -1: padding
  void pack_strip(int64_t expert, int64_t strip, const ReadRow& row);

  WeightFormat format_;
  RowOrder order_;
  int64_t experts_, n_, k_, steps_, group_, strips_, strip_bytes_;
  std::shared_ptr<char> data_;
};

}  // namespace switchyard::kernels::packed
