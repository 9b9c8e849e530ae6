#include "cli/device_option.h"

#include "core/device.h"
#include "switchyard/error.h"

#include <CLI/CLI.hpp>

namespace switchyard::cli {

void add_device_option(CLI::App& verb, std::string& device) {
  verb.add_option("--device", device, "what computes; on a GPU attention, experts and the output layer, while routers stay on the CPU")
      ->type_name("cpu|cuda|cuda:N")
      ->capture_default_str();
}

Checkpoint load_on_device(const std::filesystem::path& folder, const std::string& weights, const std::string& device) {
  const torch::Device where = parse_device(device);
  if (where.is_cpu()) return load_checkpoint(folder, /*with_training_state=*/false, weights);
  if (weights != "auto" && weights != "plain") fail(ErrorKind::usage, "--weights {}: packed weights multiply on the CPU; --device {} takes --weights plain", weights, device);
  Checkpoint checkpoint = load_checkpoint(folder, /*with_training_state=*/false, "plain");
  checkpoint.model->to_device(where);
  return checkpoint;
}

}  // namespace switchyard::cli
