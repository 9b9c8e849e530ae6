// Where a model is compared with the CPU: on a fenced device, on which whatever would be wrong on a GPU is wrong, and on a GPU if
// there is one. The fenced device is written for the dispatcher of libtorch 1: with libtorch 2 there is the GPU alone.
//
// Include it in one file of a program.
#pragma once

#include <torch/cuda.h>
#include <torch/version.h>

#include <vector>

#if TORCH_VERSION_MAJOR < 2
#include "support/fenced_device.h"
#endif

namespace switchyard::testing {

inline std::vector<torch::Device> devices() {
  std::vector<torch::Device> out;
#if TORCH_VERSION_MAJOR < 2
  out.push_back(kFencedDevice);
#endif
  if (torch::cuda::is_available()) out.emplace_back(torch::kCUDA, 0);
  return out;
}

inline constexpr const char* kNoDevice = "libtorch 2 and no GPU: nothing to compare the CPU with";

}  // namespace switchyard::testing
