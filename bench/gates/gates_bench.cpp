// What routing costs: every recipe of recipes/gates at T = 4096, d_model = d_expert = 1024, 64 SwiGLU experts, float32.
//
//   part 1  the decision, the plan, statistics and losses as a share of the whole layer: forward in training, forward in use,
//           forward and backward
//   part 2  time per token of decision and plan at T = 1024 .. 65536, without experts: does it grow?
//
// With one thread, processor time is measured, which neighbours on a shared machine disturb least; otherwise wall time.
#include "base/memory.h"
#include "gates/gate_case.h"
#include "harness.h"

#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <ctime>

namespace switchyard::bench {
namespace {

constexpr int64_t kTokens = 4096;
constexpr double kSkew = 1.0, kLayerBudget = 6, kGrowthBudget = 4;  // seconds for a gate: layers in part 1, one size in part 2
constexpr double kMostExperts = 8;                   // more experts per token cost experts, not routing: no layer is timed

double seconds() {
  timespec t{};
  clock_gettime(omp_get_max_threads() == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

template <class F> double timed_ms(F&& run) {
  const double start = seconds();
  run();
  return 1e3 * (seconds() - start);
}

// Samples of one quantity in ms.
struct Samples {
  std::vector<double> ms = {};
  void add(double x) { ms.insert(std::upper_bound(ms.begin(), ms.end(), x), x); }
  [[nodiscard]] double at(double q) const { return ms.empty() ? NAN : ms[static_cast<size_t>(q * static_cast<double>(ms.size() - 1) + 0.5)]; }
  [[nodiscard]] double median() const { return at(0.5); }
  [[nodiscard]] double spread() const { return (at(0.75) - at(0.25)) / 2 / median(); }
};

void forget_gradients(const GateCase& c) {
  for (auto& p : c.layer->parameters()) p.mutable_grad() = torch::Tensor();
}

// --- checks, before anything is timed -------------------------------------------------------------------------------

void require(bool good, const char* what) {
  if (!good) fail(ErrorKind::internal, "check failed: {}", what);
}

// Rows are exactly the kept choices, sorted by expert.
void check_plan(const GateCase& c, const Decision& d) {
  const auto* choice = std::get_if<TokenChoice>(&d.routing.choice);
  if (!choice) return;
  const auto id = choice->expert_ids.contiguous();
  const auto counts = at::bincount(at::where(d.plan.kept, id, torch::full({}, -1, torch::kInt64)).reshape({-1}) + 1, {}, c.options.num_experts + 1).slice(0, 1);
  require(((id >= -1) & (id < c.options.num_experts)).all().item<bool>(), "expert ids in range");
  require(at::equal(d.plan.offsets.slice(0, 1) - d.plan.offsets.slice(0, 0, -1), counts), "rows of every expert");
  require(at::equal(id.reshape({-1}).index_select(0, d.plan.row_weight_index), at::repeat_interleave(counts)), "rows sorted by expert");
  require(at::equal(at::floor_divide(d.plan.row_weight_index, id.size(1)), d.plan.row_token), "tokens of the rows");
}

// Eight tokens once more, one choice at a time.
void check_outputs(const GateCase& c, const GateInput& in, const Decision& d, const torch::Tensor& y) {
  const auto* choice = std::get_if<TokenChoice>(&d.routing.choice);
  if (!choice || c.options.capacity.overflow != "drop") return;
  for (int64_t t = 5; t < in.hidden.size(0); t += in.hidden.size(0) / 8) {
    auto sum = torch::zeros({kWidth});
    for (int64_t j = 0; j < choice->expert_ids.size(1); ++j) {
      if (!d.plan.kept[t][j].item<bool>()) continue;
      const auto offsets = (torch::arange(c.options.num_experts + 1, torch::kInt64) > choice->expert_ids[t][j]).to(torch::kInt64);
      sum += choice->weights[t][j] * c.layer->experts().forward(in.hidden.slice(0, t, t + 1), offsets, {})[0];
    }
    sum *= c.options.routed_scale;
    require(((sum - y[t]).abs().max() <= 1e-4 * (1e-3 + y[t].abs().max())).item<bool>(), "output of a token");
  }
}

bool times_layer(const GateCase& c, const Routing& routing) {
  const auto* choice = std::get_if<TokenChoice>(&routing.choice);
  return !std::holds_alternative<ExpertMix>(routing.choice) && (!choice || static_cast<double>(choice->expert_ids.size(1)) <= kMostExperts) &&
         c.layer->gate().experts_per_token() <= kMostExperts;
}

bool check(const GateCase& c, const GateInput& in) {
  const c10::NoGradGuard no_grad;
  MoETrace trace;
  const auto d = decide(c, in);
  require(weights_of(d.routing).isfinite().all().item<bool>(), "finite weights");
  check_plan(c, d);
  if (!times_layer(c, d.routing)) return false;
  const auto y = c.layer->forward(in.hidden, in, &trace);
  require(at::equal(weights_of(trace.routing), weights_of(d.routing)), "the same decision twice");
  check_outputs(c, in, {trace.routing, trace.plan}, y);
  return true;
}

// --- part 1 ---------------------------------------------------------------------------------------------------------

struct Cost {
  std::string id = {};
  // Of routing: in training; all three on skewed tokens; in use; forward and backward. Of the layer: empty where it is not timed.
  Samples route = {}, plan = {}, statistics = {}, skewed = {}, use = {}, backward = {}, layer = {}, layer_use = {}, layer_backward = {};

  [[nodiscard]] double routing() const { return route.median() + plan.median() + statistics.median(); }
};

void time_routing(const GateCase& c, const GateInput& training, const GateInput& skewed, const GateInput& use, Cost& cost) {
  {
    Decision d;
    Routing routing;
    cost.route.add(timed_ms([&] { routing = c.layer->gate().route(training); }));
    cost.plan.add(timed_ms([&] { d = plan_of(c, std::move(routing), training); }));
    cost.statistics.add(timed_ms([&] { (void)loss_of(c, d, training); }));
  }
  cost.skewed.add(timed_ms([&] { (void)loss_of(c, decide(c, skewed), skewed); }));
  const c10::NoGradGuard no_grad;
  cost.use.add(timed_ms([&] { (void)decide(c, use); }));
}

// Forward and backward of the decision alone: gradients arrive at the weights and from the losses.
void time_backward(const GateCase& c, GateInput in, Cost& cost) {
  in.hidden = in.hidden.detach().requires_grad_();
  cost.backward.add(timed_ms([&] {
    const auto d = decide(c, in);
    const auto total = weights_of(d.routing).square().sum() + loss_of(c, d, in);
    if (total.requires_grad()) total.backward();
  }));
  forget_gradients(c);
}

void time_layer(const GateCase& c, const GateInput& training, const GateInput& use, Cost& cost) {
  GateInput in = training;
  in.hidden = training.hidden.detach().requires_grad_();
  double forward = 0;
  const double both = timed_ms([&] {
    MoETrace trace;
    torch::Tensor total;
    forward = timed_ms([&] {
      const auto y = c.layer->forward(in.hidden, in, &trace);
      total = y.square().sum() + loss_of(c, trace.stats);
    });
    total.backward();
  });
  cost.layer.add(forward);
  cost.layer_backward.add(both);
  forget_gradients(c);
  const c10::NoGradGuard no_grad;
  cost.layer_use.add(timed_ms([&] { (void)c.layer->forward(use.hidden, use); }));
}

Cost cost_of(const GateCase& c, const Options& options) {
  const auto training = tokens(kTokens, true), skewed = tokens(kTokens, true, kSkew), use = tokens(kTokens, false);
  Cost cost{.id = c.id};
  const bool whole = check(c, training);
  time_routing(c, training, skewed, use, cost);
  time_backward(c, training, cost);
  cost = {.id = c.id};  // that was the warm-up
  const double start = seconds();
  for (int round = 0; round < options.reps && (round == 0 || seconds() - start < kLayerBudget); ++round) {
    if (whole) time_layer(c, training, use, cost);
    time_routing(c, training, skewed, use, cost);
    time_backward(c, training, cost);
  }
  return cost;
}

// --- part 2 ---------------------------------------------------------------------------------------------------------

struct Growth {
  std::string id;
  std::vector<double> ns_per_token;  // NaN where a size was left out
};

constexpr int64_t kSizes[] = {1024, 4096, 16384, 65536};

Growth growth_of(const GateCase& c, const std::vector<GateInput>& inputs, const Options& options) {
  Growth out{c.id, {}};
  const c10::NoGradGuard no_grad;
  double last = 0;
  for (const GateInput& in : inputs) {
    const int64_t count = in.hidden.size(0);
    if (std::isnan(last) || last > kGrowthBudget / 4) {  // the next size takes four times as long
      out.ns_per_token.push_back(last = NAN);
      continue;
    }
    Samples samples;
    const double start = seconds();
    for (int round = -1; round < 2 * options.reps && (round < 1 || seconds() - start < kGrowthBudget / 4); ++round) {
      const double ms = timed_ms([&] { (void)decide(c, in); });
      if (round >= 0) samples.add(ms);
      last = ms / 1e3;
    }
    out.ns_per_token.push_back(1e6 * samples.median() / static_cast<double>(count));
  }
  return out;
}

// --- tables ---------------------------------------------------------------------------------------------------------

struct LeftOut {
  std::string id, reason;
};

double percent(double part, const Samples& whole) { return 100 * part / whole.median(); }

std::string number(double x, int digits) { return std::isnan(x) ? "-" : fmt::format("{:.{}f}", x, digits); }

void print_head() {
  fmt::print("{}\nT = {}, d_model = d_expert = {}, E = {}: ms of routing, share of the layer in %\n", machine_line(), kTokens, kWidth, kExperts);
  fmt::print("{:<28}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>7}{:>8}{:>8}{:>8}{:>9}\n", "recipe", "route", "plan", "stats", "skewed", "in use", "fwd+bwd", "+-%", "layer",
             "train", "in use", "fwd+bwd");
}

void print_cost(const Cost& c) {
  fmt::print("{:<28}{:>8.2f}{:>8.2f}{:>8.2f}{:>8.2f}{:>8.2f}{:>8.2f}{:>7.1f}{:>8}{:>8}{:>8}{:>9}\n", c.id, c.route.median(), c.plan.median(), c.statistics.median(),
             c.skewed.median(), c.use.median(), c.backward.median(), 100 * c.route.spread(), number(c.layer.median(), 0), number(percent(c.routing(), c.layer), 1),
             number(percent(c.use.median(), c.layer_use), 1), number(percent(c.backward.median(), c.layer_backward), 1));
  std::fflush(stdout);  // a gate takes seconds
}

void print_growth(const std::vector<Growth>& growth) {
  fmt::print("\nns per token of decision and plan, training\n{:<28}", "recipe");
  for (const int64_t size : kSizes) fmt::print("{:>10}", size);
  fmt::print("{:>12}\n", "last/first");
  for (const Growth& g : growth) {
    fmt::print("{:<28}", g.id);
    for (const double ns : g.ns_per_token) fmt::print("{:>10}", number(ns, 0));
    fmt::print("{:>12}\n", number(g.ns_per_token.back() / g.ns_per_token.front(), 2));
  }
}

nlohmann::ordered_json as_json(const std::vector<Cost>& costs, const std::vector<Growth>& growth, const std::vector<LeftOut>& left_out) {
  nlohmann::ordered_json out = {{"machine", machine_line()}, {"tokens", kTokens}, {"width", kWidth}, {"experts", kExperts}};
  const auto value = [](double x) { return std::isnan(x) ? nlohmann::ordered_json() : nlohmann::ordered_json(x); };
  for (const Cost& c : costs)
    out["cost"].push_back({{"recipe", c.id}, {"route_ms", c.route.median()}, {"plan_ms", c.plan.median()}, {"statistics_ms", c.statistics.median()},
                           {"skewed_ms", c.skewed.median()}, {"in_use_ms", c.use.median()}, {"forward_backward_ms", c.backward.median()},
                           {"spread", c.route.spread()}, {"layer_ms", value(c.layer.median())}, {"layer_in_use_ms", value(c.layer_use.median())},
                           {"layer_forward_backward_ms", value(c.layer_backward.median())}});
  for (const Growth& g : growth) {
    nlohmann::ordered_json ns;
    for (const double x : g.ns_per_token) ns.push_back(value(x));
    out["growth"].push_back({{"recipe", g.id}, {"tokens", kSizes}, {"ns_per_token", ns}});
  }
  for (const auto& [id, reason] : left_out) out["left_out"].push_back({{"recipe", id}, {"reason", reason}});
  return out;
}

std::vector<std::filesystem::path> recipes(const std::string& only) {
  std::vector<std::filesystem::path> out;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(SW_SOURCE_DIR) / "recipes/gates"))
    if (entry.path().extension() == ".toml" && entry.path().stem().string().find(only) != std::string::npos) out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

int run(const Options& options) {
  at::set_num_threads(omp_get_max_threads());
  register_shared_bank();
  std::vector<GateInput> sizes;
  for (const int64_t size : kSizes) sizes.push_back(tokens(size, true));
  std::vector<Cost> costs;
  std::vector<Growth> growth;
  std::vector<LeftOut> left_out;
  if (!options.json) print_head();
  for (const auto& recipe : recipes(options.only)) {
    try {
      const auto c = gate_case(recipe);
      c.layer->train();
      costs.push_back(cost_of(c, options));
      if (!options.json) print_cost(costs.back());
      growth.push_back(growth_of(c, sizes, options));
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::internal) throw Error(ErrorKind::internal, fmt::format("{}: {}", recipe.stem().string(), error.what()));
      left_out.push_back({recipe.stem().string(), error.what()});
    }
  }
  if (options.json) {
    fmt::print("{}\n", as_json(costs, growth, left_out).dump(2));
    return 0;
  }
  print_growth(growth);
  for (const auto& [id, reason] : left_out) fmt::print("left out: {}: {}\n", id, reason);
  return 0;
}

}  // namespace
}  // namespace switchyard::bench

int main(int argc, char** argv) {
  using namespace switchyard::bench;
  try {
    auto options = Options::parse(argc, argv);
    if (options.reps == Options{}.reps) options.reps = 3;  // a layer takes a second
    switchyard::keep_freed_memory();                        // as the program does
    return run(options);
  } catch (const switchyard::Error& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 1;
  }
}
