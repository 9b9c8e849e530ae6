// One MoE layer, timed beside the same layer in libtorch and beside what the machine can do at most.
//
// The roof of a call is the larger of two times: that of reading the weights of the experts that received a token, at the
// bandwidth that eight streams per thread reach, and that of the arithmetic at the peak of the multiplying unit. Weights lie in so many
// copies of the layer that no cache holds them from one call to the next (but for layers below 8 MiB, which every cache holds).
#pragma once

#include "bench/layer_shapes.h"

#include <functional>

namespace switchyard::bench {

struct LayerBenchOptions {
  LayerShape shape;
  std::string dtype = "bfloat16";     // of the weights: float32, bfloat16, int8, int4; with backward the first two, as arithmetic
  std::vector<int64_t> tokens = {1, 16, 512};
  bool backward = false;              // forward and backward, with gradients of tokens and weights
  std::string routing = "uniform";
  double seconds = 1.5;               // per case, at least three turns
  uint64_t seed = 0;
  bool alternative = true;            // time libtorch as well
};

struct LayerBenchRow {
  int64_t tokens = 0;
  double us = 0;                      // median of the turns
  double gflops = 0, gbps = 0;        // arithmetic and weight bytes of the call over its time, in 1e9/s
  std::string roof;                   // compute | memory
  double roof_gflops = 0, roof_gbps = 0;  // the limits, medians of the same turns
  double fraction_of_roof = 0;        // time of the roof over time of the call
  double torch_us = 0, ratio_libtorch = 0;  // its time over ours; 0 without the alternative
  double dense_us = 0, ratio_dense = 0;  // of a dense network of equal arithmetic, one expert as wide as all that a token meets; our time over its
  double dispatch_share = 0;          // of sorting, gathering and adding back in the time of the call: experts of width 16 instead
  double max_error = 0;               // largest error against float64 on the first tokens, relative to the largest output
  int turns = 0;
};

// The shape with as many of its experts, top_k or more, as `memory` bytes are estimated to hold with all that is timed; 0 bytes: all.
// Error{usage} where top_k are too many.
[[nodiscard]] LayerShape shape_that_fits(const LayerBenchOptions& options, int64_t memory);

// Calls `done` with every row when it is there. Throws Error{usage} for what has no meaning (int8 with backward).
[[nodiscard]] std::vector<LayerBenchRow> bench_layer(const LayerBenchOptions& options, const std::function<void(const LayerBenchRow&)>& done = {});

}  // namespace switchyard::bench
