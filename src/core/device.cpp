#include "core/device.h"

#include "switchyard/error.h"

#include <torch/cuda.h>
#include <torch/version.h>

#include <optional>

namespace switchyard {
namespace {

std::optional<torch::Device> device_named(const std::string& name) {
  if (name != "cpu" && name != "cuda" && !name.starts_with("cuda:")) return std::nullopt;
  try {
    return torch::Device(name);
  } catch (const c10::Error&) {
    return std::nullopt;  // no number behind the colon
  }
}

}  // namespace

torch::Device parse_device(const std::string& name) {
  const auto device = device_named(name);
  if (!device) fail(ErrorKind::usage, "device = '{}': expected cpu, cuda or cuda:N", name);
  if (device->is_cpu()) return *device;
  if (!torch::cuda::is_available())
    fail(ErrorKind::unsupported, "device = '{}': libtorch {} finds no CUDA here; it takes a GPU and a libtorch with CUDA (docs/dependencies.md)", name, TORCH_VERSION);
  const int64_t count = static_cast<int64_t>(torch::cuda::device_count()), index = device->has_index() ? device->index() : 0;
  if (index >= count) fail(ErrorKind::unsupported, "device = '{}': this machine has {} GPUs", name, count);
  return torch::Device(torch::kCUDA, static_cast<c10::DeviceIndex>(index));
}

}  // namespace switchyard
