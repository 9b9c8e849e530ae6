// Which piece of a grouped product is done when: the work items that threads take from a counter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/grouped_gemm.h"
#include "kernels/grouped_gemm_block.h"

namespace switchyard::kernels::gemm {

// The product of one expert, without its form: C [rows, cols] (+)= A [rows, depth] * B [depth, cols].
struct Problem {
  Operand a, b;
  float* c;
  int64_t rows, cols, depth;
};
[[nodiscard]] Problem problem_of(const GroupedGemm& g, int64_t expert);

// Up to here, as in decoding, an operand B is packed panel by panel and used while it is hot.
inline constexpr int64_t kFewRows = 32;

// Columns [n0, n1) of an expert's B in the packing area from `offset` on: for each k_chunk of the contraction all panels.
struct Slab {
  int64_t expert, n0, n1, offset;
};

// Where the columns from n on of the chunk [k0, k1) lie in the packing area.
[[nodiscard]] int64_t place_in(const Slab& slab, const BlockKernel& kernel, int64_t n, int64_t k0, int64_t k1);

// Bytes of packed panels, `width` rows or columns in all, over `depth` steps.
[[nodiscard]] int64_t packed_bytes(const BlockKernel& kernel, int64_t width, int64_t depth);

// Pack columns [n0, n1) of one chunk [k0, k1) of a slab.
struct PackItem {
  size_t slab;
  int64_t n0, n1, k0, k1;
};

// Compute a block of an expert's C with the B of a slab; kUnpacked: pack it on the way.
struct BlockItem {
  int64_t expert, m0, m1, n0, n1;
  size_t slab;
};
inline constexpr size_t kUnpacked = static_cast<size_t>(-1);

// Items of a round: all of `packs`, then (after a barrier) all of `blocks`. Rounds share one packing area.
struct Round {
  size_t packs_begin, packs_end, blocks_begin, blocks_end;
};

class Plan {
 public:
  // Vectors keep their capacity: planning a repeated call allocates nothing.
  void build(const GroupedGemm& g, const BlockKernel& kernel, int threads);

  std::vector<Slab> slabs;
  std::vector<PackItem> packs;
  std::vector<BlockItem> blocks;
  std::vector<Round> rounds;
  int64_t area_bytes = 0;  // size of the packing area
  int64_t work = 0;        // multiply-adds in all

 private:
  void add_expert(const Problem& p, int64_t expert);
  [[nodiscard]] int64_t tallest(const Problem& p) const;
  void add_packs(const Problem& p, size_t slab);
  void add_blocks(const Problem& p, int64_t expert, int64_t n0, int64_t n1, size_t slab);
  void close_round();

  const BlockKernel* kernel_ = nullptr;
  int64_t block_work_ = 0;  // multiply-adds that a block should have
  int64_t used_ = 0;        // bytes of the packing area taken in this round
};

}  // namespace switchyard::kernels::gemm
