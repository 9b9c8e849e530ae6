// Many texts at once give what each gives alone.
#include "infer/engine.h"

#include "core/paged_cache.h"
#include "expect_error.h"
#include "models/golden.h"
#include "models/small_specs.h"
#include "switchyard/checkpoint.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <map>

namespace switchyard::testing {
namespace {
namespace engine_tests {

GenerateOptions greedy(int64_t tokens) {
  GenerateOptions how;
  how.max_tokens = tokens;
  how.ignore_eos = true;
  how.sampling.temperature = 0;
  return how;
}

std::vector<int32_t> prompt_of(int64_t length, int32_t first, int64_t vocab) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < length; ++i) ids.push_back(static_cast<int32_t>((first + 7 * i) % vocab));
  return ids;
}

std::map<int64_t, Generated> run(Engine& engine) {
  std::map<int64_t, Generated> results;
  while (engine.step([&](int64_t request, const Generated& result) { results[request] = result; })) {
  }
  return results;
}

// The plain cache is the oracle: other code, the same sums up to their order.
TEST(Engine, TextsAreThoseOfOneAtATime) {
  for (const char* folder : {"mixtral", "olmoe", "qwen2_moe", "granitemoe", "dbrx", "llama"}) {
    const auto checkpoint = load_checkpoint(golden_folder(folder));
    Engine engine(*checkpoint.model, nullptr, {.max_sequences = 3, .step_tokens = 8});
    std::vector<EngineRequest> requests;
    for (int32_t i = 0; i < 7; ++i) requests.push_back({prompt_of(1 + 3 * i, 5 * i + 1, checkpoint.model->spec().vocab_size), greedy(4 + 3 * (i % 3))});
    for (const auto& r : requests) (void)engine.submit(r);
    const auto results = run(engine);
    ASSERT_EQ(results.size(), requests.size()) << folder;
    for (size_t i = 0; i < requests.size(); ++i)
      EXPECT_EQ(results.at(static_cast<int64_t>(i)).ids, generate(*checkpoint.model, nullptr, requests[i].prompt, requests[i].options).ids) << folder << " request " << i;
    EXPECT_EQ(engine.counts().most_at_once, 3);
    EXPECT_GT(engine.counts().calls, 7);
  }
}

TEST(Engine, DrawsArePureFunctionsOfTheSeed) {
  const auto checkpoint = load_checkpoint(golden_folder("mixtral"));
  auto how = greedy(12);
  how.sampling.temperature = 1.0;
  std::vector<std::vector<int32_t>> alone;
  for (const uint64_t seed : {1, 2, 1}) {
    how.seed = seed;
    alone.push_back(generate(*checkpoint.model, nullptr, prompt_of(5, 1, 100), how).ids);
  }
  Engine engine(*checkpoint.model, nullptr, {});
  for (const uint64_t seed : {1, 2, 1}) {
    how.seed = seed;
    (void)engine.submit({prompt_of(5, 1, 100), how});
  }
  const auto results = run(engine);
  for (int64_t i = 0; i < 3; ++i) EXPECT_EQ(results.at(i).ids, alone[static_cast<size_t>(i)]);
  EXPECT_NE(alone[0], alone[1]);
}

// Logits of a paged cache in smaller formats, chunk by chunk, against a forward pass over the whole text.
TEST(PagedCache, LogitsAreThoseOfForward) {
  const auto checkpoint = load_checkpoint(golden_folder("olmoe"));
  LanguageModel& model = *checkpoint.model;
  const torch::NoGradGuard no_grad;
  model.eval();
  const auto ids = prompt_of(45, 3, model.spec().vocab_size);
  const auto whole = model.logits(model.forward({.input_ids = torch::tensor(std::vector<int64_t>(ids.begin(), ids.end()), torch::kInt64).view({1, -1}), .positions = {}, .segments = {}}).hidden)[0];
  for (const auto& [format, bound] : std::map<std::string, double>{{"float32", 1e-5}, {"bfloat16", 2e-2}, {"int8", 4e-2}}) {
    PagedCache cache(paged_layers(model.spec()), kernels::parse_kv_format(format), 64);
    const int64_t sequence = cache.open(45);
    std::vector<torch::Tensor> parts;
    for (size_t first = 0; first < ids.size(); first += 9) {
      cache.begin({{sequence, std::span<const int32_t>(ids).subspan(first, 9)}});
      ForwardOptions how;
      how.paged = &cache;
      parts.push_back(model.logits(model.forward({}, how).hidden)[0]);
      cache.finish();
    }
    const auto error = (at::cat(parts, 0) - whole).norm(2, {-1}) / whole.norm(2, {-1});
    EXPECT_LE(error.median().item<double>(), bound) << format;
    if (format != "float32") {
      EXPECT_GT(error.max().item<double>(), 1e-5) << format << " rounds";
    }
  }
}

TEST(PagedCache, PagesComeBack) {
  PagedCache cache({{2, 8}}, KvFormat::float32, 64);
  EXPECT_EQ(cache.free_tokens(), 64);
  const int64_t a = cache.open(33), b = cache.open(16);
  EXPECT_GE(a, 0);
  EXPECT_EQ(cache.free_tokens(), 0);
  EXPECT_EQ(cache.open(1), -1);
  cache.close(a);
  EXPECT_EQ(cache.free_tokens(), 48);
  const std::vector<int32_t> ids(17, 1);
  expect_error(ErrorKind::usage, {"16"}, [&] { cache.begin({{b, ids}}); });
}

TEST(Engine, WaitsForPagesAndRefusesWhatNeverFits) {
  const auto checkpoint = load_checkpoint(golden_folder("mixtral"));
  Engine engine(*checkpoint.model, nullptr, {.max_sequences = 4, .cache_tokens = 32});
  for (int i = 0; i < 3; ++i) (void)engine.submit({prompt_of(10, i, 100), greedy(6)});  // one page each: two fit
  const auto results = run(engine);
  EXPECT_EQ(results.size(), 3u);
  EXPECT_EQ(engine.counts().most_at_once, 2);
  Engine small(*checkpoint.model, nullptr, {.cache_tokens = 16});
  (void)small.submit({prompt_of(10, 1, 100), greedy(7)});
  expect_error(ErrorKind::usage, {"request 0", "17 tokens", "cache_tokens"}, [&] { (void)small.step({}); });
}

TEST(Engine, ModelsWithStatesOfTheirOwnSaySo) {
  for (const char* folder : {"jamba", "deepseek_v3", "switch_transformers"}) {
    const auto checkpoint = load_checkpoint(golden_folder(folder));
    expect_error(ErrorKind::unsupported, {"many texts at once"}, [&] { Engine(*checkpoint.model, nullptr, {}); });
  }
  const auto checkpoint = load_checkpoint(golden_folder("mixtral"));
  Engine engine(*checkpoint.model, nullptr, {});
  expect_error(ErrorKind::usage, {"prompt"}, [&] { (void)engine.submit({{}, greedy(3)}); });
  expect_error(ErrorKind::usage, {"fp4"}, [&] { Engine(*checkpoint.model, nullptr, {.kv_cache = "fp4"}); });
}

TEST(Generate, PromptsInPiecesAndSmallCachesGiveTheSameText) {
  for (const char* folder : {"mixtral", "deepseek_v2", "jamba", "olmoe"}) {
    const auto checkpoint = load_checkpoint(golden_folder(folder));
    const auto prompt = prompt_of(23, 2, checkpoint.model->spec().vocab_size);
    auto how = greedy(8);
    const auto whole = generate(*checkpoint.model, nullptr, prompt, how).ids;
    for (const int64_t chunk : {1, 5, 22}) {
      how.prefill_chunk = chunk;
      EXPECT_EQ(generate(*checkpoint.model, nullptr, prompt, how).ids, whole) << folder << " in pieces of " << chunk;
    }
    if (std::string(folder) != "olmoe") continue;
    how.kv_cache = "bfloat16";
    EXPECT_EQ(generate(*checkpoint.model, nullptr, prompt, how).ids.size(), 8u);
    how.prefill_chunk = 0;
    expect_error(ErrorKind::usage, {"prefill_chunk"}, [&] { (void)generate(*checkpoint.model, nullptr, prompt, how); });
  }
}

}  // namespace engine_tests
}  // namespace
}  // namespace switchyard::testing
