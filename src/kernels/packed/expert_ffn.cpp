#include "kernels/packed/expert_ffn.h"

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "kernels/packed/stage.h"
#include "kernels/scratch.h"

namespace switchyard::kernels::packed {
namespace {

constexpr int64_t kRoundBytes = 48 << 20;         // of converted rows and inner activations that are alive at once
constexpr int64_t kLeastParallelWork = 1 << 18;   // multiply-adds; below, one thread is as fast as waking the others
constexpr int64_t kRowsAtATime = 16;              // gathered by a thread at a time

// The call, its kernels and its memory.
struct Run {
  explicit Run(const ExpertFfn& call)
      : f(call), in_kernel(tile_kernel(selected_isa(), call.in->format())), out_kernel(tile_kernel(selected_isa(), call.out->format())),
        rows(row_kernels()), x(in_kernel, *call.in), h(out_kernel, *call.out) {
    if (call.row_token && x.form() != RowForm::float32 && call.offsets[call.in->experts()] - call.offsets[0] > call.tokens) tokens.emplace(x);
    if (is_quantised(h.form())) inner_stride = round_up(call.out->k(), kStrip) + kStrip;  // whole strips are written
  }

  // Bytes of `n` rows, and where they lie in `memory`.
  [[nodiscard]] int64_t bytes(int64_t n) const {
    return round_up(x.bytes(n), kLineBytes) + round_up(h.bytes(n), kLineBytes) + round_up(4 * n * inner_stride, kLineBytes);
  }
  void place(char* memory, int64_t n) {
    x.place(memory, n);
    h.place(memory + round_up(x.bytes(n), kLineBytes), n);
    inner = reinterpret_cast<float*>(memory + round_up(x.bytes(n), kLineBytes) + round_up(h.bytes(n), kLineBytes));
  }

  void gather(int64_t row) const {
    const int64_t token = f.row_token ? f.row_token[row] : row;
    if (tokens)
      x.copy(row - first_row, *tokens, token);
    else
      x.write(rows, row - first_row, f.x + token * f.in->k());
  }

  // Inner activations of a piece of the first product: in the form that the second one wants or, where a row must be whole to be
  // converted, as floats.
  void activate(const Unit& unit, const Piece& piece, float* c) const {
    multiply_piece(in_kernel, *f.in, x, first_row, unit, piece.strip0, piece.strip1, c,
                   [&](int64_t row, int64_t n, int64_t strip, int64_t strips, const float* z, int64_t ldz) {
                     const int64_t r = row - first_row, column = (f.gated ? strip / 2 : strip) * kStrip, width = (f.gated ? strips / 2 : strips) * kStrip;
                     switch (h.form()) {
                       case RowForm::float32: rows.activate(f.phi, f.gated, n, width, z, ldz, reinterpret_cast<float*>(h.data(r)) + column, h.stride() / 4); break;
                       case RowForm::bfloat16: rows.activate_to_bfloat16(f.phi, f.gated, n, width, z, ldz, h.data(r) + 2 * column, h.stride()); break;
                       case RowForm::int8:
                       case RowForm::int16_pairs: return rows.activate(f.phi, f.gated, n, width, z, ldz, inner + r * inner_stride + column, inner_stride);
                     }
                     if (strip + strips == f.in->strips())
                       for (int64_t i = r; i < r + n; ++i) h.clear_behind(i, column + width);
                   });
  }

  // The outputs of some strips, of all units of the round one after the other.
  void add_outputs(const std::vector<Unit>& units, const Piece& piece, float* c) const {
    for (const Unit& unit : units)
      multiply_piece(out_kernel, *f.out, h, first_row, unit, piece.strip0, piece.strip1, c,
                     [&](int64_t row, int64_t n, int64_t strip, int64_t strips, const float* z, int64_t ldz) {
                       const int64_t column = strip * kStrip, columns = std::min(strips * kStrip, f.out->n() - column);
                       rows.add(n, columns, z, ldz, (f.row_token ? f.row_token : identity) + row, (f.row_weight_index ? f.row_weight_index : identity) + row,
                                f.weights, f.y + column, f.out->n());
                     });
  }

  const ExpertFfn& f;
  TileKernel in_kernel, out_kernel;
  const RowKernels& rows;
  RowStore x, h;
  std::optional<RowStore> tokens;  // converted once, for all experts that they meet; none: on the way to each
  float* inner = nullptr;    // [rows, f] before they become h, if that is quantised
  int64_t inner_stride = 0;
  int64_t first_row = 0;     // of the round
  const int64_t* identity = nullptr;
};

struct Plan {
  std::vector<Unit> units;
  std::vector<Piece> first, second;
  std::vector<int64_t> identity;
};

// Takes units into the plan, from row `row` on, until a round is full; the row behind them.
int64_t next_round(const ExpertFfn& f, int64_t row, int64_t most_rows, std::vector<Unit>& units) {
  units.clear();
  const int64_t end = std::min(f.offsets[f.in->experts()], row + most_rows);
  const int64_t* expert = std::upper_bound(f.offsets, f.offsets + f.in->experts() + 1, row) - 1;
  for (; row < end; ++expert) {
    const int64_t last = std::min(expert[1], end);
    if (last > row) units.push_back({expert - f.offsets, row, last});
    row = std::max(row, last);
  }
  return end;
}

}  // namespace

void expert_ffn(const ExpertFfn& f) {
  thread_local Plan plan_of_thread;
  Plan& plan = plan_of_thread;
  Run run(f);
  const int64_t first = f.offsets[0], end = f.offsets[f.in->experts()];
  const int64_t per_row = run.bytes(64) / 64;
  const int64_t most_rows = std::clamp<int64_t>(kRoundBytes / per_row / 128 * 128, 128, std::max<int64_t>(end - first, 1));
  int threads = omp_in_parallel() ? 1 : omp_get_max_threads();
  if ((end - first) * f.in->k() * f.in->n() < kLeastParallelWork) threads = 1;

  const int64_t result_floats = std::max(piece_floats(run.in_kernel), piece_floats(run.out_kernel));
  const int64_t rows_bytes = round_up(run.bytes(most_rows), 4096), pieces_bytes = 4 * threads * result_floats;
  const int64_t tokens_bytes = run.tokens ? run.tokens->bytes(f.tokens) : 0;
  char* const memory = reinterpret_cast<char*>(thread_scratch(ScratchUse::shared, (rows_bytes + pieces_bytes + tokens_bytes + 3) / 4));
  run.place(memory, most_rows);
  if (run.tokens) {
    run.tokens->place(memory + rows_bytes + pieces_bytes, f.tokens);
#pragma omp parallel for schedule(dynamic, kRowsAtATime) num_threads(threads) if (threads > 1)
    for (int64_t t = 0; t < f.tokens; ++t) run.tokens->write(run.rows, t, f.x + t * f.in->k());
  }
  if (!f.row_token || !f.row_weight_index) {
    for (int64_t r = static_cast<int64_t>(plan.identity.size()); r < end; ++r) plan.identity.push_back(r);
    run.identity = plan.identity.data();
  }
  std::memset(f.y, 0, sizeof(float) * static_cast<size_t>(f.tokens * f.out->n()));
  for (int64_t row = first; row < end;) {
    run.first_row = row;
    const int64_t round_end = next_round(f, row, most_rows, plan.units);
    cut_units(plan.units, *f.in, threads, plan.first);
    cut_strips(plan.units, *f.out, threads, plan.second);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
      float* const c = reinterpret_cast<float*>(memory + rows_bytes) + omp_get_thread_num() * result_floats;
#pragma omp for schedule(dynamic, kRowsAtATime)
      for (int64_t r = row; r < round_end; ++r) run.gather(r);
#pragma omp for schedule(dynamic, 1)
      for (size_t i = 0; i < plan.first.size(); ++i) run.activate(plan.units[static_cast<size_t>(plan.first[i].unit)], plan.first[i], c);
      if (is_quantised(run.h.form())) {
#pragma omp for schedule(dynamic, kRowsAtATime)
        for (int64_t r = row; r < round_end; ++r) run.h.write(run.rows, r - row, run.inner + (r - row) * run.inner_stride);
      }
#pragma omp for schedule(dynamic, 1)
      for (size_t i = 0; i < plan.second.size(); ++i) run.add_outputs(plan.units, plan.second[i], c);
    }
    row = round_end;
  }
}

}  // namespace switchyard::kernels::packed
