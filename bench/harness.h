// What every benchmark does alike: options, the machine line, interleaved timing, tables as text or JSON.
#pragma once

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/isa.h"

namespace switchyard::bench {

struct Options {
  bool json = false;
  int reps = 15;
  std::string only;  // run the cases whose title contains this

  static Options parse(int argc, char** argv) {
    Options o;
    for (int i = 1; i < argc; ++i) {
      const std::string word = argv[i];
      const bool has_value = i + 1 < argc;
      if (word == "--json") {
        o.json = true;
      } else if (word == "--reps" && has_value) {
        o.reps = std::max(1, std::atoi(argv[++i]));
      } else if (word == "--threads" && has_value) {
        omp_set_num_threads(std::max(1, std::atoi(argv[++i])));
      } else if (word == "--only" && has_value) {
        o.only = argv[++i];
      } else {
        fmt::print(stderr, "usage: {} [--json] [--reps N] [--threads N] [--only TEXT]\n", argv[0]);
        std::exit(word == "--help" ? 0 : 2);
      }
    }
    return o;
  }
};

inline std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  return "unknown CPU";
}

inline std::string machine_line() {
  return fmt::format("{}, {} threads, isa {}", cpu_name(), omp_get_max_threads(), kernels::name_of(kernels::selected_isa()));
}

struct Candidate {
  std::string name;
  std::function<void()> run;
};

struct Timing {
  double median_us = 0;
  double best_us = 0;    // what an idle machine would do
  double spread = 0;  // half the distance of the quartiles over the median
};

// Times the candidates in turn, `reps` rounds after one round of warm-up, so that a change of the machine's mood meets all.
inline std::vector<Timing> time_interleaved(const std::vector<Candidate>& candidates, int reps) {
  using Clock = std::chrono::steady_clock;
  std::vector<std::vector<double>> us(candidates.size());
  for (int round = -1; round < reps; ++round)
    for (size_t i = 0; i < candidates.size(); ++i) {
      const auto start = Clock::now();
      int calls = 0;
      double elapsed = 0;
      do {  // at least 200 us per sample: the clock and the first call after another candidate must not count
        candidates[i].run();
        ++calls;
        elapsed = std::chrono::duration<double, std::micro>(Clock::now() - start).count();
      } while (elapsed < 200);
      if (round >= 0) us[i].push_back(elapsed / calls);
    }
  std::vector<Timing> result;
  for (auto& samples : us) {
    std::sort(samples.begin(), samples.end());
    const auto at = [&](double q) { return samples[static_cast<size_t>(q * static_cast<double>(samples.size() - 1) + 0.5)]; };
    result.push_back({at(0.5), samples[0], (at(0.75) - at(0.25)) / 2 / at(0.5)});
  }
  return result;
}

inline double geometric_mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += std::log(v);
  return values.empty() ? 0 : std::exp(sum / static_cast<double>(values.size()));
}

}  // namespace switchyard::bench
