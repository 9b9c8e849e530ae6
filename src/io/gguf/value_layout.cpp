#include "io/gguf/value_layout.h"

#include <algorithm>

namespace switchyard::io {
namespace {

using Shape = std::vector<int64_t>;
using Axes = std::vector<ValueLayout::Axis>;

// The axes of a dense tensor.
Axes dense(const Shape& shape) {
  Axes out(shape.size());
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0; stride *= shape[i]) out[i] = {shape[i], stride};
  return out;
}

bool divides(int64_t divisor, int64_t value) { return divisor > 0 && value % divisor == 0; }

ValueLayout made(const Shape& hf, Axes axes, int64_t offset = 0) {
  ValueLayout out{hf, {}, std::move(axes), offset};
  for (const auto& axis : out.axes) out.gguf_shape.push_back(axis.size);
  return out;
}

std::optional<ValueLayout> rows_of_heads(const Shape& s, int64_t heads) {
  if (s.size() != 2 || !divides(2 * heads, s[0])) return std::nullopt;
  const int64_t c = s[0] / heads, d = s[1];
  return ValueLayout{s, s, {{heads, c * d}, {c / 2, d}, {2, c / 2 * d}, {d, 1}}, 0};
}

std::optional<ValueLayout> half_of_rows(const Shape& s, int64_t half) {
  if ((s.size() != 2 && s.size() != 3) || s[s.size() - 2] % 2 != 0) return std::nullopt;
  Axes axes = dense(s);
  auto& rows = axes[s.size() - 2];
  rows.size /= 2;
  return made(s, axes, half * rows.size * rows.stride);
}

std::optional<ValueLayout> half_of_columns(const Shape& s, int64_t half) {
  if ((s.size() != 2 && s.size() != 3) || s.back() % 2 != 0) return std::nullopt;
  Axes axes = dense(s);
  axes.back() = {s.back() / 2, 2};
  if (s.size() == 3) std::swap(axes[1], axes[2]);
  return made(s, axes, half);
}

std::optional<ValueLayout> experts_in_rows(const Shape& s, int64_t experts, bool transpose) {
  if (s.size() != 2 || !divides(experts, s[0])) return std::nullopt;
  Axes axes = dense({experts, s[0] / experts, s[1]});
  if (transpose) std::swap(axes[1], axes[2]);
  return made(s, axes);
}

std::optional<ValueLayout> part_of_latent(const Shape& s, const LayoutSizes& n, bool keys) {
  if (s.size() != 2 || n.heads < 1 || n.nope < 1 || n.v < 1 || s[0] / n.heads != n.nope + n.v || s[0] % n.heads != 0)
    return std::nullopt;
  const int64_t r = s[1], head = (n.nope + n.v) * r;
  if (keys) return made(s, {{n.heads, head}, {r, 1}, {n.nope, r}});
  return made(s, {{n.heads, head}, {n.v, r}, {r, 1}}, n.nope * r);
}

// The shape here of a GGUF tensor that layout_of_hf would give this shape; sizes that do not fit come out there.
std::optional<Shape> hf_shape_of(Arrange how, Shape s, const LayoutSizes& n) {
  const size_t rank = s.size();
  const auto product = [](int64_t a, int64_t b) {
    int64_t out = 0;
    return __builtin_mul_overflow(a, b, &out) ? int64_t{-1} : out;
  };
  switch (how) {
    case Arrange::first_half:
    case Arrange::second_half:
      if (rank < 2) return std::nullopt;
      s[rank - 2] = product(s[rank - 2], 2);
      return s;
    case Arrange::even_columns:
    case Arrange::odd_columns:
      if (rank < 2) return std::nullopt;
      if (rank == 3) std::swap(s[1], s[2]);
      s.back() = product(s.back(), 2);
      return s;
    case Arrange::transposed:
      if (rank != 3) return std::nullopt;
      std::swap(s[1], s[2]);
      return s;
    case Arrange::split_rows: return rank == 3 ? std::optional(Shape{product(s[0], s[1]), s[2]}) : std::nullopt;
    case Arrange::split_transposed: return rank == 3 ? std::optional(Shape{product(s[0], s[2]), s[1]}) : std::nullopt;
    case Arrange::latent_keys: return rank == 3 ? std::optional(Shape{product(s[0], n.nope + n.v), s[1]}) : std::nullopt;
    case Arrange::latent_values: return rank == 3 ? std::optional(Shape{product(s[0], n.nope + n.v), s[2]}) : std::nullopt;
    case Arrange::squeezed: return rank == 2 ? std::optional(Shape{s[0], 1, s[1]}) : std::nullopt;
    default: return s;
  }
}

// Numbers of a file may be anything; behind this, no product below overflows.
bool is_countable(const Shape& shape, const LayoutSizes& n) {
  int64_t values = 1;
  for (const int64_t size : shape)
    if (size < 0 || __builtin_mul_overflow(values, std::max<int64_t>(size, 1), &values)) return false;  // strides have no zero
  for (const int64_t size : {n.heads, n.kv_heads, n.experts, n.nope, n.v})
    if (size < 0 || size > INT32_MAX) return false;
  return true;
}

}  // namespace

int64_t ValueLayout::rows() const {
  int64_t out = 1;
  for (size_t i = 0; i + 1 < axes.size(); ++i) out *= axes[i].size;
  return out;
}

int64_t ValueLayout::start_of(int64_t row) const {
  int64_t at = offset;
  for (size_t i = axes.size(); i-- > 0;) {
    if (i + 1 == axes.size()) continue;
    at += row % axes[i].size * axes[i].stride;
    row /= axes[i].size;
  }
  return at;
}

std::optional<ValueLayout> layout_of_hf(Arrange how, const Shape& s, const LayoutSizes& n) {
  if (!is_countable(s, n)) return std::nullopt;
  switch (how) {
    case Arrange::query_rows: return rows_of_heads(s, n.heads);
    case Arrange::key_rows: return rows_of_heads(s, n.kv_heads);
    case Arrange::first_half: return half_of_rows(s, 0);
    case Arrange::second_half: return half_of_rows(s, 1);
    case Arrange::even_columns: return half_of_columns(s, 0);
    case Arrange::odd_columns: return half_of_columns(s, 1);
    case Arrange::split_rows: return experts_in_rows(s, n.experts, false);
    case Arrange::split_transposed: return experts_in_rows(s, n.experts, true);
    case Arrange::latent_keys: return part_of_latent(s, n, true);
    case Arrange::latent_values: return part_of_latent(s, n, false);
    case Arrange::transposed: {
      if (s.size() != 3) return std::nullopt;
      Axes axes = dense(s);
      std::swap(axes[1], axes[2]);
      return made(s, axes);
    }
    case Arrange::squeezed: {
      if (s.size() != 3 || s[1] != 1) return std::nullopt;
      return made(s, dense({s[0], s[2]}));
    }
    default: return made(s, dense(s));
  }
}

std::optional<ValueLayout> layout_of_gguf(Arrange how, const Shape& shape, const LayoutSizes& sizes) {
  const auto hf = is_countable(shape, sizes) ? hf_shape_of(how, shape, sizes) : std::nullopt;
  auto out = hf ? layout_of_hf(how, *hf, sizes) : std::nullopt;
  return out && out->gguf_shape == shape ? out : std::nullopt;
}

}  // namespace switchyard::io
