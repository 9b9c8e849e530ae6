// `--device` of verbs that compute.
#pragma once

#include "switchyard/checkpoint.h"

#include <filesystem>
#include <string>

namespace CLI {
class App;
}

namespace switchyard::cli {

void add_device_option(CLI::App& verb, std::string& device);

// A model that only computes forward, on a device. `weights` as add_weights_option has it; packed ones are for the CPU: Error{usage}.
[[nodiscard]] Checkpoint load_on_device(const std::filesystem::path& folder, const std::string& weights, const std::string& device);

}  // namespace switchyard::cli
