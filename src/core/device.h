// Which device computes.
#pragma once

#include <torch/types.h>

#include <string>

namespace switchyard {

// cpu, cuda or cuda:N. Error{usage} for another name, Error{unsupported} where libtorch finds no such device.
[[nodiscard]] torch::Device parse_device(const std::string& name);

}  // namespace switchyard
