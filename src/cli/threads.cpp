#include "cli/threads.h"

#include "kernels/isa.h"

#include <ATen/Parallel.h>
#include <CLI/CLI.hpp>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>
#include <thread>

namespace switchyard::cli {

int cores_in_affinity_mask() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (::sched_getaffinity(0, sizeof mask, &mask) == 0) return CPU_COUNT(&mask);
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));  // more CPUs than a cpu_set_t has room for
}

void start_with_library_settings(char** argv) {
  bool again = false;
  const auto set = [&](const char* name, const char* value) {
    if (!std::getenv(name)) again = ::setenv(name, value, 1) == 0;
  };
  if (!std::getenv("OMP_WAIT_POLICY")) set("GOMP_SPINCOUNT", "20000");
  if (argv[1] && std::string_view(argv[1]) == "bench" && kernels::cpu_has(kernels::Isa::avx512)) set("OPENBLAS_CORETYPE", "SKYLAKEX");
  if (again) ::execv("/proc/self/exe", argv);  // returns only where there is no /proc: then the defaults have to do
}

void use_all_cores() {
  const char* wish = std::getenv("OMP_NUM_THREADS");
  const int asked = wish ? std::atoi(wish) : 0;  // "4,2" is 4 for the outermost level
  at::set_num_threads(asked > 0 ? asked : cores_in_affinity_mask());
}

int threads_in_use() { return at::get_num_threads(); }

void add_threads_option(CLI::App& verb) {
  verb.add_option_function<int>("--threads", [](int n) { at::set_num_threads(n); },
                                "threads that compute; default: OMP_NUM_THREADS, else all cores of the affinity mask")
      ->check(CLI::Range(1, 4096).description(""))
      ->type_name("N");
}

}  // namespace switchyard::cli
