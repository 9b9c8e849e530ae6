#include "kernels/grouped_gemm_plan.h"

#include <algorithm>
#include <cmath>

namespace switchyard::kernels::gemm {
namespace {

constexpr int64_t kPackingArea = int64_t{32} << 20;
constexpr int64_t kPackElements = 64 << 10;        // elements of B in a pack item
constexpr int64_t kCacheLine = 64;
constexpr int64_t kLeastBlockWork = 1 << 19;       // multiply-adds; below, hand-out costs more than imbalance
constexpr int64_t kCachedB = 1 << 20;              // packed B up to this size comes from the L2 cache
constexpr int64_t kBlocksPerThread = 4;
constexpr int64_t kLastBlocksPerThread = 2;        // of the work that is left: the last blocks are small, so that threads end together
constexpr int64_t kLeastSide = 48;                 // rows or columns of a block; below, packing the other operand dominates

int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

// The size of equal pieces, a multiple of `unit`, of which no one is larger than `wanted` (itself at least a unit).
int64_t even_piece(int64_t total, int64_t wanted, int64_t unit) {
  const int64_t pieces = (total + wanted - 1) / wanted;
  return round_up((total + pieces - 1) / pieces, unit);
}

}  // namespace

int64_t packed_bytes(const BlockKernel& kernel, int64_t width, int64_t depth) {
  return width * round_up(depth, kernel.k_step) * kernel.element_bytes;
}

int64_t place_in(const Slab& slab, const BlockKernel& kernel, int64_t n, int64_t k0, int64_t k1) {
  const int64_t width = round_up(slab.n1 - slab.n0, kernel.nr);
  return slab.offset + packed_bytes(kernel, width, k0) + packed_bytes(kernel, n - slab.n0, k1 - k0);
}

Problem problem_of(const GroupedGemm& g, int64_t e) {
  const int64_t first = g.offsets[e], rows = g.offsets[e + 1] - first;
  switch (g.form) {
    case GemmForm::nt:
      return {{g.a + first * g.k, g.k, true}, {g.b + e * g.n * g.k, g.k, true}, g.c + first * g.n, rows, g.n, g.k};
    case GemmForm::nn:
      return {{g.a + first * g.k, g.k, true}, {g.b + e * g.n * g.k, g.n, false}, g.c + first * g.n, rows, g.n, g.k};
    case GemmForm::tn:
      break;
  }
  return {{g.a + first * g.m, g.m, false}, {g.b + first * g.n, g.n, false}, g.c + e * g.m * g.n, g.m, g.n, rows};
}

void Plan::build(const GroupedGemm& g, const BlockKernel& kernel, int threads) {
  slabs.clear();
  packs.clear();
  blocks.clear();
  rounds.clear();
  area_bytes = used_ = work = 0;
  kernel_ = &kernel;
  const int64_t rows = g.experts > 0 ? g.offsets[g.experts] - g.offsets[0] : 0;
  work = rows * g.n * (g.form == GemmForm::tn ? g.m : g.k);
  const int64_t wanted = work / (kBlocksPerThread * threads);
  int64_t left = work;
  rounds.push_back({0, 0, 0, 0});
  for (int64_t e = 0; e < g.experts; ++e) {
    const Problem p = problem_of(g, e);
    const bool nothing_to_add = p.depth == 0 && g.accumulate;
    block_work_ = std::max(std::min(wanted, left / (kLastBlocksPerThread * threads)), kLeastBlockWork);
    if (p.rows > 0 && p.cols > 0 && !nothing_to_add) add_expert(p, e);
    left -= p.rows * p.cols * p.depth;
  }
  close_round();
}

void Plan::add_expert(const Problem& p, int64_t expert) {
  const int64_t height = std::min(p.rows, tallest(p));
  const bool enough_blocks = block_work_ / std::max(p.depth, int64_t{1}) >= height * kLeastSide;
  if (p.depth == 0 || p.rows <= kFewRows || (p.rows <= kernel_->unshared_rows && enough_blocks)) {
    add_blocks(p, expert, 0, p.cols, kUnpacked);
    return;
  }
  const int64_t panel_bytes = packed_bytes(*kernel_, kernel_->nr, p.depth);
  const int64_t fitting = std::max(kPackingArea / panel_bytes, int64_t{1}) * kernel_->nr;
  const int64_t piece = even_piece(p.cols, fitting, kernel_->nr);
  for (int64_t n0 = 0; n0 < p.cols; n0 += piece) {
    const int64_t n1 = std::min(n0 + piece, p.cols);
    const int64_t bytes = packed_bytes(*kernel_, round_up(n1 - n0, kernel_->nr), p.depth);
    if (used_ > 0 && used_ + bytes > kPackingArea) {
      close_round();
      rounds.push_back({packs.size(), packs.size(), blocks.size(), blocks.size()});
      used_ = 0;
    }
    slabs.push_back({expert, n0, n1, used_});
    add_packs(p, slabs.size() - 1);
    add_blocks(p, expert, n0, n1, slabs.size() - 1);
    used_ += round_up(bytes, kCacheLine);
    area_bytes = std::max(area_bytes, used_);
  }
}

void Plan::add_packs(const Problem& p, size_t slab) {
  const auto [expert, n0, n1, offset] = slabs[slab];
  const int64_t chunk = std::min(p.depth, kernel_->k_chunk);
  const int64_t piece = round_up(std::max(kPackElements / chunk, int64_t{1}), kernel_->nr);
  for (int64_t k0 = 0; k0 < p.depth; k0 += chunk)
    for (int64_t n = n0; n < n1; n += piece)
      packs.push_back({slab, n, std::min(n + piece, n1), k0, std::min(k0 + chunk, p.depth)});
}

// Rows of a block that packs its own B. Where the contraction is short, packed A has room for all that may do so.
int64_t Plan::tallest(const Problem& p) const {
  const int64_t fitting = kernel_->block_rows * kernel_->k_chunk / std::clamp<int64_t>(p.depth, 1, kernel_->k_chunk);
  return std::min(fitting, kernel_->unshared_rows) / kernel_->mr * kernel_->mr;
}

// Blocks of about block_work_ multiply-adds. If B is packed on the way: as high as possible. If it stays in the cache: as wide
// as possible. Else four times as wide as high: packing A once more costs more than fetching packed B once more.
void Plan::add_blocks(const Problem& p, int64_t expert, int64_t n0, int64_t n1, size_t slab) {
  const int64_t cols = n1 - n0;
  const int64_t area = std::max(block_work_ / std::max(p.depth, int64_t{1}), int64_t{1});
  const bool cached = packed_bytes(*kernel_, cols, p.depth) <= kCachedB;
  const auto quarter = static_cast<int64_t>(std::sqrt(static_cast<double>(area) / 4));
  const int64_t height = std::max(cached ? area / cols : quarter, kLeastSide);
  const int64_t most = slab == kUnpacked ? tallest(p) : std::min(round_up(height, kernel_->mr), kernel_->block_rows);
  const int64_t rows = even_piece(p.rows, most, kernel_->mr);
  const int64_t width = std::max(area / std::min(rows, p.rows), kLeastSide);
  const int64_t columns = even_piece(cols, round_up(width, kernel_->nr), kernel_->nr);
  for (int64_t m = 0; m < p.rows; m += rows)
    for (int64_t n = n0; n < n1; n += columns)
      blocks.push_back({expert, m, std::min(m + rows, p.rows), n, std::min(n + columns, n1), slab});
}

void Plan::close_round() {
  rounds.back().packs_end = packs.size();
  rounds.back().blocks_end = blocks.size();
}

}  // namespace switchyard::kernels::gemm
