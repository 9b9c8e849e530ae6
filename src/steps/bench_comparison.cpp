#include "steps/bench_comparison.h"

#include "steps/routing_bench.h"
#include "switchyard/error.h"

#include <fmt/ranges.h>

#include <utility>

namespace switchyard {
namespace {

using report::Measure;

const std::vector<std::pair<Measure, double RoutingBenchResult::*>>& bench_measures() {
  using F = Measure::Form;
  static const std::vector<std::pair<Measure, double RoutingBenchResult::*>> all = {
      {{F::decimals, "task_loss", "task loss", "Mean square error, last 30 steps.", 4, true}, &RoutingBenchResult::task_loss},
      {{F::decimals, "load_cv", "load CV", "Coefficient of variation of the load, last 30 steps.", 3, true}, &RoutingBenchResult::load_cv},
      {{F::decimals, "load_cv_floor", "floor", "What the load CV would be by chance.", 3, false}, &RoutingBenchResult::load_cv_floor},
      {{F::decimals, "mutual_information", "I(cluster;expert)", "Mutual information of cluster and expert in nats; ln 8 = 2.079 at most.", 3, true}, &RoutingBenchResult::mutual_information},
      {{F::percent, "dropped", "dropped", "Share of the (token, choice) pairs beyond the capacity of their expert.", 3, false}, &RoutingBenchResult::dropped},
      {{F::decimals, "entropy", "entropy", "Mean entropy of the router's probabilities, nats.", 3, false}, &RoutingBenchResult::entropy},
      {{F::decimals, "experts_per_token", "experts/token", "Choices per token that reached an expert.", 2, false}, &RoutingBenchResult::experts_per_token}};
  return all;
}

report::MeasureRow bench_row(const Recipe& recipe, const BenchComparisonOptions& options) {
  const MoESpec moe = bench_moe(recipe);
  report::MeasureRow row{recipe.name, static_cast<size_t>(options.seeds), std::vector<std::vector<double>>(bench_measures().size())};
  for (int64_t seed = 0; seed < options.seeds; ++seed) {
    const auto result = run_routing_bench(moe, {.steps = options.steps, .seed = static_cast<uint64_t>(seed), .tags = recipe.bench.tags});
    for (size_t m = 0; m < row.values.size(); ++m) row.values[m].push_back(result.*bench_measures()[m].second);
  }
  return row;
}

// "" unless [bench] says something.
std::string bench_sizes(const Recipe& recipe) {
  std::vector<std::string> words = recipe.bench.set;
  if (recipe.bench.tags != kBenchClusters) words.push_back(fmt::format("{} tags", recipe.bench.tags));
  return fmt::format("{}", fmt::join(words, ", "));
}

}  // namespace

report::MeasureTable bench_recipes(const std::vector<Recipe>& recipes, const BenchComparisonOptions& options,
                                   const std::function<void(const std::string&)>& say) {
  if (options.steps < 1 || options.seeds < 1) fail(ErrorKind::usage, "clusters: {} steps, {} seeds; expected at least 1", options.steps, options.seeds);
  report::MeasureTable table;
  for (const auto& [measure, member] : bench_measures()) table.measures.push_back(measure);
  std::string last;
  for (const Recipe& recipe : recipes) {
    try {
      table.rows.push_back(bench_row(recipe, options));
      if (const auto sizes = bench_sizes(recipe); !sizes.empty()) say(fmt::format("{}: on the bench with {}", recipe.name, sizes));
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::internal) throw;
      last = fmt::format("{}: left out: {}", recipe.name, error.what());
      say(last);
    }
  }
  if (table.rows.empty()) fail(ErrorKind::config, "no recipe can run on the routing bench; {}", last);
  drop_unmeasured(table);
  return table;
}

}  // namespace switchyard
