#include "steps/budget.h"

#include "steps/dry_run.h"
#include "switchyard/error.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

namespace switchyard {
namespace {

constexpr double kBackward = 2;  // products with the transposed weights and with the inputs

[[noreturn]] void refuse(const std::string& text) {
  fail(ErrorKind::usage, "budget '{}': expected steps=N, flops=X or time=T with T such as 60s, 5m or 2h", text);
}

// The number at the start of `text`, and what follows it.
std::pair<double, std::string> number_and_rest(const std::string& text) {
  double value = std::numeric_limits<double>::quiet_NaN();
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return {error == std::errc{} ? value : std::numeric_limits<double>::quiet_NaN(), std::string(end, text.data() + text.size())};
}

double seconds_of_unit(const std::string& unit) { return unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : 0; }

}  // namespace

Budget parse_budget(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos) refuse(text);
  const std::string what = text.substr(0, equals);
  auto [amount, unit] = number_and_rest(text.substr(equals + 1));
  if (!(amount > 0) || !std::isfinite(amount)) refuse(text);
  if (what == "time" && seconds_of_unit(unit) > 0) return {Budget::Kind::seconds, amount * seconds_of_unit(unit)};
  if (!unit.empty()) refuse(text);
  if (what == "steps" && amount == std::floor(amount) && amount < 1e15) return {Budget::Kind::steps, amount};
  if (what == "flops") return {Budget::Kind::flops, amount};
  refuse(text);
}

int64_t steps_for(const Budget& budget, const Recipe& recipe) {
  double steps = budget.amount;
  if (budget.kind == Budget::Kind::flops) {
    const double tokens = static_cast<double>(recipe.train.batch_size * recipe.train.seq_len * recipe.train.consistency.passes);
    steps /= (1 + kBackward) * count_parameters(resolved_model(recipe)).flops_per_token * tokens;
  } else if (budget.kind == Budget::Kind::seconds) {
    const DryRun run = dry_run(recipe);
    if (!run.measured) fail(ErrorKind::unsupported, "recipe '{}' does not fit into memory: its steps cannot be measured for a budget of time", recipe.name);
    steps /= run.step_seconds;
  }
  return std::max<int64_t>(1, static_cast<int64_t>(std::min(steps, 1e15)));
}

}  // namespace switchyard
