#include "cli/threads.h"

#include "kernels/isa.h"

#include <ATen/Parallel.h>
#include <CLI/CLI.hpp>
#include <omp.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <thread>
#include <vector>

namespace switchyard::cli {
namespace {

// The CPUs of this process. With OMP_PROC_BIND or OMP_PLACES libgomp has bound this thread, when it was loaded, to the first of its
// places: then they are those of all places. None: more than a cpu_set_t has room for.
cpu_set_t cpus_of_process() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  for (int place = 0; place < omp_get_num_places(); ++place) {
    std::vector<int> ids(static_cast<size_t>(omp_get_place_num_procs(place)));
    omp_get_place_proc_ids(place, ids.data());
    for (const int id : ids)
      if (id < CPU_SETSIZE) CPU_SET(id, &cpus);
  }
  if (CPU_COUNT(&cpus) == 0 && ::sched_getaffinity(0, sizeof cpus, &cpus) != 0) CPU_ZERO(&cpus);
  return cpus;
}

}  // namespace

int cores_in_affinity_mask() {
  const cpu_set_t cpus = cpus_of_process();
  return CPU_COUNT(&cpus) > 0 ? CPU_COUNT(&cpus) : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

void start_with_library_settings(char** argv) {
  bool again = false;
  const auto set = [&](const char* name, const char* value) {
    if (!std::getenv(name)) again = ::setenv(name, value, 1) == 0;
  };
  if (!std::getenv("OMP_WAIT_POLICY")) set("GOMP_SPINCOUNT", "20000");
  if (argv[1] && std::string_view(argv[1]) == "bench" && kernels::cpu_has(kernels::Isa::avx512)) set("OPENBLAS_CORETYPE", "SKYLAKEX");
  if (!again) return;
  const cpu_set_t cpus = cpus_of_process();
  if (CPU_COUNT(&cpus) > 0) (void)::sched_setaffinity(0, sizeof cpus, &cpus);  // else the program that starts inherits one place
  ::execv("/proc/self/exe", argv);  // returns only where there is no /proc: then the defaults have to do
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
