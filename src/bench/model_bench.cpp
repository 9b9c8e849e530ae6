#include "bench/model_bench.h"

#include "bench/median.h"
#include "core/packed_parameter.h"
#include "core/torch_compat.h"
#include "infer/engine.h"
#include "infer/generate.h"
#include "kernels/limits.h"
#include "models/eval_mode.h"
#include "switchyard/error.h"
#include "switchyard/language_model.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace switchyard::bench {
namespace {

void fill(const torch::Tensor& parameter, const RandomStream& stream, double std) {
  constexpr int64_t kPiece = 1 << 16;
  auto* values = parameter.data_ptr<float>();
  const int64_t n = parameter.numel();
#pragma omp parallel for schedule(static)
  for (int64_t first = 0; first < n; first += kPiece) {
    const int64_t size = std::min(kPiece, n - first);
    stream.fill_normal(values + first, size, static_cast<uint64_t>(first));
    for (int64_t i = first; i < first + size; ++i) values[i] *= static_cast<float>(std);
  }
}

// Bytes that the packed matrices have, and those that a token reads: all of a linear, of experts as many as it chose.
std::pair<double, double> count_bytes(LanguageModel& model) {
  const EvalMode eval(model);
  ModelTrace trace;
  (void)model.forward({.input_ids = torch::zeros({1, 1}, torch::kInt64), .positions = {}, .segments = {}}, {.trace = &trace});
  std::map<const void*, double> share;  // of a bank's parameters
  for (const auto& [layer, moe] : model.moe_layers())
    for (const Packable& part : moe->experts().packable())
      share[part.parameter.unsafeGetTensorImpl()] = static_cast<double>(trace.moe.at(layer).plan.num_rows()) / static_cast<double>(moe->options().num_experts);
  double all = 0, active = 0;
  for (const Packable& part : model.packable()) {
    const PackedWeights* packed = packed_form(part.parameter);
    const double bytes = packed ? static_cast<double>(packed->bytes()) : static_cast<double>(part.parameter.nbytes());
    const auto found = share.find(part.parameter.unsafeGetTensorImpl());
    all += bytes;
    active += bytes * (found == share.end() ? 1 : found->second);
  }
  return {all, active};
}

std::vector<int32_t> random_prompt(const ModelSpec& spec, int64_t length, const RandomStream& random) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < length; ++i) ids.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(i), static_cast<uint64_t>(spec.vocab_size))));
  return ids;
}

Generated run(LanguageModel& model, const std::vector<int32_t>& prompt, int64_t new_tokens, const std::string& kv_cache = "float32") {
  GenerateOptions how;
  how.kv_cache = kv_cache;
  how.max_tokens = new_tokens;
  how.ignore_eos = true;
  how.sampling.temperature = 0;
  return generate(model, nullptr, prompt, how);
}

double decode_one(LanguageModel& model, const ModelBenchOptions& o, const RandomStream& random) {
  return static_cast<double>(o.new_tokens - 1) / run(model, random_prompt(model.spec(), 8, random), o.new_tokens, o.kv_cache).decode_seconds;
}

// Tokens per second of several texts at once, prompts left out.
double decode_many(LanguageModel& model, const ModelBenchOptions& o, const RandomStream& random) {
  Engine engine(model, nullptr, {.max_sequences = o.sequences, .kv_cache = o.kv_cache});
  GenerateOptions how;
  how.max_tokens = o.new_tokens;
  how.ignore_eos = true;
  how.sampling.temperature = 0;
  for (int64_t i = 0; i < o.sequences; ++i) (void)engine.submit({random_prompt(model.spec(), 8, random.at("sequence", static_cast<uint64_t>(i))), how});
  (void)engine.step({});  // the prompts, and the first tokens
  const double prompts = engine.counts().seconds;
  while (engine.step({})) {
  }
  return static_cast<double>(o.sequences * (o.new_tokens - 1)) / (engine.counts().seconds - prompts);
}

}  // namespace

std::shared_ptr<LanguageModel> random_packed_model(const ModelSpec& spec, const std::string& weights, uint64_t seed) {
  auto model = std::make_shared<LanguageModel>(spec, std::nullopt);
  const RandomStream random(seed, "random_packed_model");
  const torch::NoGradGuard no_grad;
  const double std = model->spec().init_std;
  const WeightFormat format = kernels::packed::parse_weight_format(weights);
  std::map<const void*, Packable> large;
  for (const Packable& part : model->packable()) large.emplace(part.parameter.unsafeGetTensorImpl(), part);
  for (const auto& item : model->named_parameters()) {
    if (item.value().dim() < 2) continue;  // norms and biases are what they should be
    fill(item.value(), random.at(item.key()), std);
    if (const auto found = large.find(item.value().unsafeGetTensorImpl()); found != large.end()) pack_parameter(found->second, format);
  }
  model->pack_weights(weights);  // an output layer that is the embedding
  return model;
}

ModelBenchResult bench_model(const ModelBenchOptions& o, const std::function<void(const std::string&)>& note) {
  if (o.prompt < 1 || o.new_tokens < 2 || o.turns < 1 || o.sequences < 1)
    fail(ErrorKind::usage, "prompt = {}, new tokens = {}, turns = {}, sequences = {}: expected at least 1, 2, 1 and 1", o.prompt, o.new_tokens, o.turns, o.sequences);
  const auto tell = [&](const std::string& text) {
    if (note) note(text);
  };
  tell("making random weights");
  const auto model = random_packed_model(o.spec, o.weights, o.seed);
  ModelBenchResult out;
  std::tie(out.weight_bytes, out.active_bytes) = count_bytes(*model);
  const kernels::BandwidthProbe probe;
  std::vector<double> gbps, prefill, decode;
  for (int64_t turn = -1; turn < o.turns; ++turn) {  // the first one warms up
    const RandomStream random = RandomStream(o.seed, "prompt").at("turn", static_cast<uint64_t>(turn + 1));
    const Generated long_prompt = run(*model, random_prompt(model->spec(), o.prompt, random), 1);
    const double rate = o.sequences > 1 ? decode_many(*model, o, random) : decode_one(*model, o, random);
    if (turn < 0) continue;
    gbps.push_back(probe.read_gbps());
    prefill.push_back(static_cast<double>(o.prompt) / long_prompt.prefill_seconds);
    decode.push_back(rate);
    tell(fmt::format("turn {}: {:.1f} tokens/s prefill, {:.2f} tokens/s decoding", turn + 1, prefill.back(), decode.back()));
  }
  out.prefill_tokens_per_s = median(prefill);
  out.decode_tokens_per_s = median(decode);
  if (o.sequences == 1) out.decode_gbps = out.active_bytes * out.decode_tokens_per_s * 1e-9;
  out.roof_gbps = median(gbps);
  out.fraction_of_roof = out.decode_gbps / out.roof_gbps;
  if (!o.libtorch) return out;
  tell("the same prefill in ATen operations");
  LanguageModel plain(o.spec, o.seed);
  std::vector<double> torch_prefill;
  const ReferenceScope reference;
  for (int64_t turn = -1; turn < std::min<int64_t>(o.turns, 3); ++turn) {
    const RandomStream random = RandomStream(o.seed, "prompt").at("turn", static_cast<uint64_t>(turn + 1));
    const Generated result = run(plain, random_prompt(model->spec(), o.prompt, random), 1);
    if (turn >= 0) torch_prefill.push_back(static_cast<double>(o.prompt) / result.prefill_seconds);
  }
  out.torch_prefill_tokens_per_s = median(torch_prefill);
  out.ratio_libtorch = out.prefill_tokens_per_s / out.torch_prefill_tokens_per_s;
  return out;
}

}  // namespace switchyard::bench
