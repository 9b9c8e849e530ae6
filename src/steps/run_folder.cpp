#include "steps/run_folder.h"

#include "base/atomic_dir.h"
#include "base/files.h"
#include "switchyard/error.h"

#include <ATen/Parallel.h>
#include <unistd.h>

#include <ctime>

namespace switchyard {
namespace {

std::string now_utc() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

nlohmann::ordered_json describe_model(const ModelSpec& model) {
  const ParameterCount count = count_parameters(model);
  auto table = nlohmann::ordered_json::array();
  for (const auto& part : count.parts) table.push_back({{"part", part.name}, {"params", part.total}, {"active", part.active}});
  return {{"total", count.total}, {"active", count.active}, {"flops_per_token", count.flops_per_token}, {"table", table}};
}

std::string cpu_name() {
  try {
    const std::string info = read_text_file("/proc/cpuinfo");
    const size_t key = info.find("model name");
    const size_t colon = info.find(": ", key);
    if (key != std::string::npos && colon != std::string::npos) return info.substr(colon + 2, info.find('\n', colon) - colon - 2);
  } catch (const Error&) {
    // No /proc: the name is a courtesy.
  }
  return "unknown CPU";
}

}  // namespace

bool RunFolder::has_checkpoint() const {
  recover_dir(last());
  return std::filesystem::exists(last());
}

nlohmann::ordered_json describe_run(const Recipe& recipe, const ModelSpec& model, const std::string& command) {
  return {{"name", recipe.name},         {"recipe", "recipe.toml"},
          {"started", now_utc()},        {"command", command},
          {"seed", recipe.seed},         {"threads", at::get_num_threads()},
          {"model", describe_model(model)}, {"machine", machine_name()}};
}

std::string machine_name() {
  const double gib = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGE_SIZE)) / (1 << 30);
  return fmt::format("{}, {} threads, {:.0f} GiB", cpu_name(), at::get_num_threads(), gib);
}

}  // namespace switchyard
