// One optimiser step of the two demo recipes: sparse over dense at equal active FLOPs per token, interleaved in one run.
#include "base/memory.h"
#include "harness.h"
#include "steps/recipe.h"
#include "steps/trainer.h"
#include "switchyard/error.h"

#include <ATen/Parallel.h>

namespace switchyard::bench {
namespace {

// Tokens drawn with Zipf-like frequencies: what an embedding and a router meet in text.
data::Batch random_batch(const TrainOptions& train, int64_t vocab, uint64_t seed) {
  data::Batch b;
  b.batch = train.micro_batch > 0 ? train.micro_batch : train.batch_size;
  b.seq = train.seq_len;
  const RandomStream stream(seed);
  for (int64_t i = 0; i < b.batch * b.seq; ++i) {
    const auto draw = [&](int64_t j) { return static_cast<int32_t>(std::pow(static_cast<double>(vocab), stream.uniform(static_cast<uint64_t>(j)))) - 1; };
    b.input_ids.push_back(draw(2 * i));
    b.labels.push_back(draw(2 * i + 1));
    b.segments.push_back(0);
    b.positions.push_back(static_cast<int32_t>(i % b.seq));
  }
  b.scored_tokens = b.batch * b.seq;
  return b;
}

struct Contestant {
  std::string name;
  Recipe recipe;
  ParameterCount count;
  std::unique_ptr<Trainer> trainer;
};

Contestant contestant(const std::string& name) {
  Contestant c{name, load_recipe(std::filesystem::path(SW_SOURCE_DIR) / "recipes/demo" / (name + ".toml")), {}, nullptr};
  c.recipe.model.vocab_size = expected_vocab_size(c.recipe.tokenizer);
  const auto spec = resolved_model(c.recipe);
  c.count = count_parameters(spec);
  const auto train = c.recipe.train;
  c.trainer = std::make_unique<Trainer>(std::make_shared<LanguageModel>(spec, 1), train, 1, [train, vocab = spec.vocab_size](int64_t step, int64_t micro) {
    return random_batch(train, vocab, static_cast<uint64_t>(step * 1000 + micro));
  });
  return c;
}

// The claim is about equal arithmetic: refuse to time anything else. And both must train.
bool checked(const std::vector<Contestant>& all) {
  const double gap = std::abs(all[1].count.flops_per_token / all[0].count.flops_per_token - 1);
  if (gap > 0.03) {
    fmt::print(stderr, "FLOPs per token differ by {:.1f} %: {} {}, {} {}\n", 100 * gap, all[0].name, all[0].count.flops_per_token, all[1].name, all[1].count.flops_per_token);
    return false;
  }
  for (const auto& c : all) {
    const double loss = c.trainer->step().loss, uniform = std::log(static_cast<double>(c.recipe.model.vocab_size));
    if (!(std::abs(loss - uniform) < 0.5)) {
      fmt::print(stderr, "{}: loss {} before training, a uniform guess has {}\n", c.name, loss, uniform);
      return false;
    }
  }
  return true;
}

int run(const Options& options) {
  if (!options.only.empty()) {
    fmt::print(stderr, "--only {}: this program times two recipes against each other, always both\n", options.only);
    return 2;
  }
  at::set_num_threads(omp_get_max_threads());
  std::vector<Contestant> all;
  all.push_back(contestant("dense"));
  all.push_back(contestant("moe"));
  if (!checked(all)) return 1;
  std::vector<Candidate> candidates;
  for (auto& c : all) candidates.push_back({c.name, [&c] { (void)c.trainer->step(); }});
  const auto times = time_interleaved(candidates, options.reps);
  const double tokens = static_cast<double>(all[0].recipe.train.batch_size * all[0].recipe.train.seq_len);
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  if (!options.json) fmt::print("{}\n{:<8}{:>14}{:>14}{:>12}{:>8}{:>12}{:>12}{:>8}\n", machine_line(), "recipe", "parameters", "active", "ms/step", "+-%", "tokens/s", "GFLOP/s", "ratio");
  for (size_t i = 0; i < all.size(); ++i) {
    const double seconds = times[i].median_us * 1e-6, ratio = times[i].median_us / times[0].median_us;
    const double gflops = 3 * all[i].count.flops_per_token * tokens / seconds * 1e-9;  // backward costs twice the forward
    rows.push_back({{"recipe", all[i].name}, {"parameters", all[i].count.total}, {"active", all[i].count.active}, {"ms", seconds * 1e3},
                    {"spread", times[i].spread}, {"tokens_per_s", tokens / seconds}, {"gflops", gflops}, {"ratio_dense", ratio}});
    if (!options.json)
      fmt::print("{:<8}{:>14}{:>14}{:>12.1f}{:>8.1f}{:>12.0f}{:>12.0f}{:>8.2f}\n", all[i].name, all[i].count.total, all[i].count.active, seconds * 1e3, 100 * times[i].spread,
                 tokens / seconds, gflops, ratio);
  }
  if (options.json) fmt::print("{}\n", rows.dump(2));
  return 0;
}

}  // namespace
}  // namespace switchyard::bench

int main(int argc, char** argv) {
  try {
    switchyard::keep_freed_memory();  // as the program does
    return switchyard::bench::run(switchyard::bench::Options::parse(argc, argv));
  } catch (const switchyard::Error& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 1;
  }
}
