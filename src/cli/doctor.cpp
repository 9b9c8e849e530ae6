#include "cli/doctor.h"

#include "base/proc.h"
#include "cli/output.h"
#include "cli/share_dir.h"
#include "cli/threads.h"
#include "kernels/isa.h"
#include "switchyard/error.h"

#include <dlfcn.h>
#include <fmt/ranges.h>
#include <link.h>
#include <torch/cuda.h>
#include <torch/version.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>

namespace switchyard::cli {
namespace fs = std::filesystem;
namespace {

using Findings = std::vector<Finding>;

// The variables of this project that change anything, with their effect.
const std::map<std::string, std::string>& known_variables() {
  static const std::map<std::string, std::string> known = {
      {"SWITCHYARD_ISA", "forces the instruction set of the kernels: scalar, avx2, avx512, vnni or amx"},
      {"SWITCHYARD_SHARE_DIR", "the folder with systems.tsv, recipes/ and data/"}};
  return known;
}

void examine_program(Findings& out) {
  out.push_back({"program", "version", version()});
  out.push_back({"program", "compiler", fmt::format("GCC-compatible {}", __VERSION__)});
  try {
    out.push_back({"program", "shared files", share_dir().string()});
  } catch (const Error& e) {
    out.push_back({"program", "shared files", "not found", Health::warning, e.what()});
  }
}

void examine_cpu(Findings& out) {
  const std::string model = proc_value("/proc/cpuinfo", "model name");
  out.push_back({"cpu", "model", model.empty() ? "unknown" : model});
  for (const auto& row : kernels::isa_report())
    out.push_back({"cpu", std::string(kernels::name_of(row.isa)), row.available ? "yes" : "no", row.available ? Health::ok : Health::absent, row.reason});
  try {
    out.push_back({"cpu", "kernels use", std::string(kernels::name_of(kernels::selected_isa()))});
  } catch (const Error& e) {
    out.push_back({"cpu", "kernels use", "nothing", Health::warning, e.what()});
  }
}

// Real paths of the loaded libraries whose name holds "blas" or "mkl".
std::vector<std::string> loaded_blas_files() {
  std::vector<std::string> files;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        std::error_code ignored;
        const std::string name = fs::path(info->dlpi_name).filename().string();
        if (name.find("blas") != std::string::npos || name.find("mkl") != std::string::npos) {
          const auto real = fs::canonical(info->dlpi_name, ignored);
          static_cast<std::vector<std::string>*>(data)->push_back(real.empty() ? info->dlpi_name : real.string());
        }
        return 0;
      },
      &files);
  std::sort(files.begin(), files.end());
  files.erase(std::unique(files.begin(), files.end()), files.end());
  return files;
}

void examine_libraries(Findings& out) {
  out.push_back({"libraries", "libtorch", TORCH_VERSION});
  const auto files = loaded_blas_files();
  const std::string where = fmt::format("{}", fmt::join(files, ", "));
  if (auto* config = reinterpret_cast<const char* (*)()>(::dlsym(RTLD_DEFAULT, "openblas_get_config"))) {
    out.push_back({"libraries", "BLAS", config(), Health::ok, where});
  } else if (where.find("mkl") != std::string::npos || where.find("blis") != std::string::npos) {
    out.push_back({"libraries", "BLAS", where});
  } else {
    out.push_back({"libraries", "BLAS", files.empty() ? "not found" : "reference BLAS", Health::warning,
                   (where.empty() ? "" : where + ": ") + "matrix products outside our kernels are about a hundred times slower; install libopenblas0-openmp"});
  }
}

void examine_threads(Findings& out) {
  const int cores = cores_in_affinity_mask(), used = threads_in_use();
  out.push_back({"threads", "online CPUs", std::to_string(::sysconf(_SC_NPROCESSORS_ONLN))});
  out.push_back({"threads", "this process may use", std::to_string(cores)});
  const bool fits = used <= cores;
  out.push_back({"threads", "in use", std::to_string(used), fits ? Health::ok : Health::warning,
                 fits ? "set by the program: Debian's libtorch alone would start with half of them"
                      : "more threads than cores: they wait for each other; unset OMP_NUM_THREADS"});
  if (const char* wish = std::getenv("OMP_NUM_THREADS")) out.push_back({"threads", "OMP_NUM_THREADS", wish});
}

void examine_memory(Findings& out) {
  const auto total = static_cast<double>(proc_bytes("/proc/meminfo", "MemTotal")), available = static_cast<double>(available_memory());
  if (total > 0)
    out.push_back({"memory", "available", format_bytes(available) + " of " + format_bytes(total), available < 1e9 ? Health::warning : Health::ok,
                   available < 1e9 ? "less than 1 GB: a demo training needs about that" : ""});
  else
    out.push_back({"memory", "available", "unknown", Health::absent, "/proc/meminfo is not readable"});
  if (const auto group = group_memory()) out.push_back({"memory", "limit of the control group", format_bytes(static_cast<double>(group->limit))});
  for (const fs::path& place : {fs::path("."), fs::temp_directory_path()}) {
    std::error_code failed;
    const auto space = fs::space(place, failed);
    if (failed) continue;
    const bool low = space.available < 1'000'000'000;
    out.push_back({"disk", place == "." ? "free in this folder" : "free in " + place.string(), format_bytes(static_cast<double>(space.available)),
                   low ? Health::warning : Health::ok, low ? "less than 1 GB: checkpoints may not fit" : ""});
  }
}

void examine_environment(Findings& out) {
  for (char** variable = environ; *variable; ++variable) {
    const std::string text = *variable;
    if (text.compare(0, 11, "SWITCHYARD_") != 0) continue;
    const auto name = text.substr(0, text.find('='));
    const auto known = known_variables().find(name);
    const bool is_known = known != known_variables().end();
    out.push_back({"environment", name, text.substr(std::min(text.size(), name.size() + 1)), is_known ? Health::ok : Health::warning,
                   is_known ? known->second : "no such variable: it has no effect"});
  }
  for (const auto& [name, effect] : known_variables())
    if (!std::getenv(name.c_str())) out.push_back({"environment", name, "not set", Health::absent, effect});
}

void examine_parts(Findings& out) {
  out.push_back({"parts", "ranks in one process", "yes", Health::ok, "communicators self and threads"});
  out.push_back({"parts", "MPI", "no", Health::absent, "not in this version"});
  const bool gpu = torch::cuda::is_available();
  out.push_back({"parts", "GPU", gpu ? "yes" : "no", gpu ? Health::ok : Health::absent, gpu ? "--device cuda" : "libtorch finds none: --device cuda is refused"});
}

}  // namespace

const char* name_of(Health health) {
  switch (health) {
    case Health::ok: return "ok";
    case Health::warning: return "warning";
    case Health::absent: return "absent";
  }
  return "?";
}

std::vector<Finding> examine_machine() {
  Findings out;
  examine_program(out);
  examine_cpu(out);
  examine_libraries(out);
  examine_threads(out);
  examine_memory(out);
  examine_environment(out);
  examine_parts(out);
  return out;
}

}  // namespace switchyard::cli
