// The recurrence of a selective state space (Mamba, arXiv:2312.00752 section 3.2), channel by channel with N numbers of state:
//
//   h_t = exp(delta_t A) h_{t-1} + delta_t u_t B_t        y_t = C_t . h_t + D u_t        h_{t-1} = 0 where reset_t
//
// Tensors are row-major float32: u, delta, y [B, S, E]; b, c [B, S, N]; a [E, N]; d [E]; state [B, E, N]; reset [B, S] bytes, null = never.
// Sums have one order whatever the number of threads.
#pragma once

#include <cstdint>

namespace switchyard::kernels {

struct ScanShape {
  int64_t batch = 0, tokens = 0, channels = 0, state = 0;
};

struct ScanInput {
  const float *u, *delta, *a, *b, *c, *d;
  const uint8_t* reset;
};

struct ScanGradients {
  float *u, *delta, *a, *b, *c, *d;  // as the inputs; overwritten
};

// `state` comes in as h_{-1} and goes out as the last h; null = begins at zero, and the last one is not wanted.
void selective_scan(const ScanShape& shape, const ScanInput& in, float* state, float* y) noexcept;
// For a scan that began at zero. dy [B, S, E].
void selective_scan_backward(const ScanShape& shape, const ScanInput& in, const float* dy, const ScanGradients& out);

}  // namespace switchyard::kernels
