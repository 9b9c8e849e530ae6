#include "kernels/packed/stage.h"

#include <algorithm>
#include <cstring>

namespace switchyard::kernels::packed {
namespace {

constexpr int64_t kPiecesPerThread = 8;
constexpr int64_t kLeastPiece = 1 << 18;  // multiply-adds, as a unit of a few rows costs them
constexpr int64_t kMemoryRows = 4;        // a strip that comes from memory costs as much as this many rows of arithmetic

int64_t bytes_of(RowForm form) { return form == RowForm::float32 ? 4 : form == RowForm::int8 ? 1 : 2; }

// Strips of a piece whose strips cost `cost` each, an even number.
int64_t piece_strips(int64_t cost, int64_t total, int threads, int64_t strips) {
  const int64_t wanted = std::max(total / (kPiecesPerThread * threads), kLeastPiece);
  const int64_t even = round_up(std::max<int64_t>(wanted / std::max<int64_t>(cost, 1), 1), 2);
  return even >= 8 ? std::min(even / 8 * 8, round_up(strips, 2)) : even;
}

int64_t strip_cost(const Unit& u, const PackedWeights& w) { return (u.row1 - u.row0 + kMemoryRows) * w.steps() * kStrip; }

}  // namespace

RowStore::RowStore(const TileKernel& kernel, const PackedWeights& w)
    : form_(kernel.form), k_(w.k()), steps_(w.steps()), group_(w.group()), offset_(w.format() == WeightFormat::int8 ? kInt8Offset : kInt4Offset) {
  groups_ = is_quantised(form_) ? w.groups() : 0;
  // An odd number of cache lines, so that the rows of a tile spread over all sets. Rows may be written 16 numbers at a time.
  stride_ = round_up(round_up(steps_, kStrip) * bytes_of(form_), kLineBytes);
  if (stride_ / kLineBytes % 2 == 0) stride_ += kLineBytes;
}

int64_t RowStore::bytes(int64_t rows) const { return rows * stride_ + 2 * round_up(4 * rows * groups_, kLineBytes); }

void RowStore::place(char* memory, int64_t rows) {
  data_ = memory;
  scales_ = groups_ > 0 ? reinterpret_cast<float*>(memory + rows * stride_) : nullptr;
  offsets_ = groups_ > 0 ? reinterpret_cast<int32_t*>(memory + rows * stride_ + round_up(4 * rows * groups_, kLineBytes)) : nullptr;
}

void RowStore::write(const RowKernels& kernels, int64_t row, const float* x) const {
  char* to = data_ + row * stride_;
  switch (form_) {
    case RowForm::float32: return kernels.to_float32(x, k_, steps_, to);
    case RowForm::bfloat16: return kernels.to_bfloat16(x, k_, steps_, to);
    case RowForm::int8: return kernels.quantise(x, k_, steps_, group_, offset_, to, scales_ + row * groups_, offsets_ + row * groups_);
    case RowForm::int16_pairs:
      kernels.quantise(x, k_, steps_, group_, offset_, to + steps_, scales_ + row * groups_, offsets_ + row * groups_);
      return kernels.widen(steps_, to);
  }
}

void RowStore::copy(int64_t row, const RowStore& from, int64_t from_row) const {
  std::memcpy(data_ + row * stride_, from.data_ + from_row * stride_, static_cast<size_t>(stride_));
  if (groups_ == 0) return;
  std::memcpy(scales_ + row * groups_, from.scales_ + from_row * groups_, sizeof(float) * static_cast<size_t>(groups_));
  std::memcpy(offsets_ + row * groups_, from.offsets_ + from_row * groups_, sizeof(int32_t) * static_cast<size_t>(groups_));
}

void RowStore::clear_behind(int64_t row, int64_t written) const {
  if (written < steps_) std::memset(data(row) + written * bytes_of(form_), 0, static_cast<size_t>((steps_ - written) * bytes_of(form_)));
}

RowBlock RowStore::from(int64_t row) const {
  const int64_t first = row * groups_;
  return {data_ + row * stride_, stride_, scales_ ? scales_ + first : nullptr, offsets_ ? offsets_ + first : nullptr, groups_};
}

int64_t rows_at_a_time(const TileKernel& kernel, int64_t rows) {
  if (!kernel.even_blocks) return kernel.block_rows;
  const int64_t blocks = std::max<int64_t>((rows + kernel.block_rows / 2) / kernel.block_rows, 1);
  return (rows + blocks - 1) / blocks;
}

int64_t piece_floats(const TileKernel& kernel) { return std::max(kernel.block_results, 2 * kStrip * (kernel.block_rows + kernel.block_rows / 2)); }

void cut_units(const std::vector<Unit>& units, const PackedWeights& w, int threads, std::vector<Piece>& pieces) {
  pieces.clear();
  int64_t total = 0;
  for (const Unit& u : units) total += strip_cost(u, w) * w.strips();
  for (size_t i = 0; i < units.size(); ++i) {
    const int64_t size = piece_strips(strip_cost(units[i], w), total, threads, w.strips());
    for (int64_t s = 0; s < w.strips(); s += size) pieces.push_back({static_cast<int64_t>(i), s, std::min(s + size, w.strips())});
  }
}

void cut_strips(const std::vector<Unit>& units, const PackedWeights& w, int threads, std::vector<Piece>& pieces) {
  pieces.clear();
  int64_t cost = 0;
  for (const Unit& u : units) cost += strip_cost(u, w);
  const int64_t size = piece_strips(cost, cost * w.strips(), threads, w.strips());
  for (int64_t s = 0; s < w.strips(); s += size) pieces.push_back({0, s, std::min(s + size, w.strips())});
}

}  // namespace switchyard::kernels::packed
