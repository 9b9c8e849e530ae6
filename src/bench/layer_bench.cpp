#include "bench/layer_bench.h"

#include "base/clock.h"
#include "bench/median.h"
#include "bench/torch_layer.h"
#include "core/ops.h"
#include "core/packed_parameter.h"
#include "kernels/limits.h"
#include "switchyard/error.h"
#include "switchyard/moe.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

namespace switchyard::bench {
namespace {

using kernels::MultiplyUnit;

constexpr int64_t kCachedBytes = 8 << 20, kColdBytes = int64_t{1} << 30;
constexpr int64_t kRoutings = 8, kCheckedTokens = 2, kFewTokens = 64;
constexpr int kMostTurns = 31;

double us_since(Clock::time_point start) { return seconds_since(start) * 1e6; }

MoEOptions layer_options(const LayerShape& s, uint64_t seed) {
  return {.d_model = s.d_model, .d_expert = s.d_expert, .num_experts = s.num_experts, .gate = {"top_k", {{"k", s.top_k}}}, .num_shared_experts = s.num_shared, .seed = seed};
}

MultiplyUnit unit_of(const std::string& dtype) {
  return dtype == "float32" ? MultiplyUnit::float32 : dtype == "bfloat16" ? MultiplyUnit::bfloat16 : MultiplyUnit::int8;
}

// What one call works on.
struct Case {
  torch::Tensor x, dy;  // [T, d]
  std::vector<TokenChoice> choices;
  torch::Tensor exact;  // float64 [checked, d] of the first routing
  double active = 0;    // experts with a token, mean over the routings

  Case(const LayerShape& s, int64_t tokens, const std::string& routing, uint64_t seed) {
    const RandomStream random = RandomStream(seed, "layer_bench").at("tokens", static_cast<uint64_t>(tokens));
    x = torch::empty({tokens, s.d_model});
    dy = torch::empty({tokens, s.d_model});
    random.at("x").fill_normal(x.data_ptr<float>(), x.numel());
    random.at("dy").fill_normal(dy.data_ptr<float>(), dy.numel());
    for (int64_t i = 0; i < kRoutings; ++i) {
      choices.push_back(random_choice(s, tokens, routing, random.at("routing", static_cast<uint64_t>(i))));
      active += static_cast<double>(std::get<0>(at::_unique(choices.back().expert_ids)).numel()) / kRoutings;
    }
  }
  [[nodiscard]] const TokenChoice& choice(int64_t turn) const { return choices[static_cast<size_t>(turn % kRoutings)]; }
  // The same for the first tokens alone.
  [[nodiscard]] Case first(int64_t tokens) const {
    Case few = *this;
    few.x = x.slice(0, 0, tokens);
    few.dy = dy.slice(0, 0, tokens);
    for (TokenChoice& choice : few.choices) choice = {choice.expert_ids.slice(0, 0, tokens).contiguous(), choice.weights.slice(0, 0, tokens).contiguous()};
    return few;
  }
};

// The first tokens in float64, expert by expert.
torch::Tensor exact_outputs(MoELayer& layer, const Case& c) {
  const torch::NoGradGuard no_grad;
  const auto x = c.x.slice(0, 0, kCheckedTokens).to(torch::kFloat64);
  auto y = torch::zeros_like(x);
  const auto expert = [](ExpertBank& bank, int64_t e, const torch::Tensor& rows) {
    const auto w = bank.named_parameters();
    const auto z = at::matmul(rows, w["w_in"][e].to(torch::kFloat64).t()).chunk(2, -1);
    return at::matmul(at::silu(z[0]) * z[1], w["w_out"][e].to(torch::kFloat64).t());
  };
  for (int64_t t = 0; t < x.size(0); ++t)
    for (int64_t j = 0; j < c.choice(0).expert_ids.size(1); ++j)
      y[t] += expert(layer.experts(), c.choice(0).expert_ids[t][j].item<int64_t>(), x[t]) * c.choice(0).weights[t][j].item<double>();
  if (layer.shared_experts()) y += expert(*layer.shared_experts(), 0, x);
  return y;
}

// Layers with the same weights at different addresses.
class Layers {
 public:
  Layers(const LayerBenchOptions& o, const std::vector<int64_t>& tokens) : options_(o) {
    auto first = std::make_shared<MoELayer>(layer_options(o.shape, o.seed));
    for (const int64_t t : tokens) {
      cases.emplace_back(o.shape, t, o.routing, o.seed);
      cases.back().exact = exact_outputs(*first, cases.back());
    }
    if (o.alternative) {
      torch_layers.emplace_back(*first, torch::kFloat32, o.backward);
      if (o.dtype != "float32") torch_layers.emplace_back(*first, torch::kBFloat16, o.backward);
    }
    LayerShape few = o.shape;
    few.num_experts = o.shape.top_k;
    neighbour_ = std::make_shared<MoELayer>(layer_options(few, o.seed + 1));
    for (const TorchLayer& layer : torch_layers) torch_neighbours.emplace_back(*neighbour_, layer.dtype(), o.backward);
    (void)packed(*neighbour_);
    dense_ = expert_registry().make("swiglu", BankShape{.d_model = o.shape.d_model, .d_expert = (o.shape.top_k + o.shape.num_shared) * o.shape.d_expert, .seed = o.seed});
    if (!o.backward) pack(*dense_);
    bytes_ = packed(*first);
    layers_.push_back(std::move(first));
    while (!o.backward && bytes_ > kCachedBytes && bytes_ * static_cast<int64_t>(layers_.size()) < kColdBytes) {
      layers_.push_back(std::make_shared<MoELayer>(layer_options(o.shape, o.seed)));
      (void)packed(*layers_.back());
    }
  }
  [[nodiscard]] MoELayer& layer(int64_t turn) { return *layers_[static_cast<size_t>(turn) % layers_.size()]; }
  [[nodiscard]] ExpertBank& dense() { return *dense_; }
  // A layer of as many experts as a token meets: what runs just before a layer in a model, with other weights.
  [[nodiscard]] MoELayer& neighbour() { return *neighbour_; }
  [[nodiscard]] bool cached() const { return bytes_ <= kCachedBytes; }
  // Weight bytes of one routed expert, and of what is shared.
  [[nodiscard]] double expert_bytes() const { return expert_bytes_; }
  [[nodiscard]] double shared_bytes() const { return shared_bytes_; }

  std::vector<Case> cases;
  std::vector<TorchLayer> torch_layers, torch_neighbours;

 private:
  void pack(ExpertBank& bank) {
    for (const Packable& part : bank.packable()) pack_parameter(part, kernels::packed::parse_weight_format(options_.dtype));
  }
  // Packs a layer that only computes forward; the bytes of its weights.
  int64_t packed(MoELayer& layer) {
    int64_t bytes = 0;
    const auto count = [&](ExpertBank& bank, double& per_expert) {
      per_expert = 0;
      if (!options_.backward) pack(bank);
      for (const Packable& part : bank.packable()) {
        const PackedWeights* weights = packed_form(part.parameter);
        const int64_t size = weights ? weights->bytes() : static_cast<int64_t>(part.parameter.nbytes());
        per_expert += static_cast<double>(size / part.parameter.size(0));
        bytes += size;
      }
    };
    count(layer.experts(), expert_bytes_);
    if (layer.shared_experts()) count(*layer.shared_experts(), shared_bytes_);
    return bytes;
  }

  const LayerBenchOptions& options_;
  std::vector<std::shared_ptr<MoELayer>> layers_;
  std::shared_ptr<MoELayer> neighbour_;
  std::shared_ptr<ExpertBank> dense_;
  int64_t bytes_ = 0;
  double expert_bytes_ = 0, shared_bytes_ = 0;
};

torch::Tensor run_ours(MoELayer& layer, const Case& c, const TokenChoice& choice, const LayerBenchOptions& o) {
  const ComputeScope compute(o.backward && o.dtype == "bfloat16" ? ComputeType::bfloat16 : ComputeType::float32);
  GateInput input;
  input.training = o.backward;
  if (!o.backward) {
    const torch::NoGradGuard no_grad;
    return layer.apply(c.x, input, {.choice = choice});
  }
  const auto x = c.x.detach().requires_grad_();
  const auto y = layer.apply(x, input, {.choice = choice});
  y.backward(c.dy);
  for (const auto& p : layer.parameters()) p.mutable_grad() = torch::Tensor();
  return y.detach();
}

void run_dense(ExpertBank& bank, const Case& c, const LayerBenchOptions& o) {
  const ComputeScope compute(o.backward && o.dtype == "bfloat16" ? ComputeType::bfloat16 : ComputeType::float32);
  const auto offsets = torch::tensor({int64_t{0}, c.x.size(0)}, torch::kInt64);
  if (!o.backward) {
    const torch::NoGradGuard no_grad;
    (void)bank.forward(c.x, offsets, {});
    return;
  }
  bank.forward(c.x.detach().requires_grad_(), offsets, {.training = true}).backward(c.dy);
  for (const auto& p : bank.parameters()) p.mutable_grad() = torch::Tensor();
}

double largest_error(const torch::Tensor& y, const torch::Tensor& exact) {
  const auto error = (y.slice(0, 0, exact.size(0)).to(torch::kFloat64) - exact).abs().max().item<double>();
  return error / exact.abs().max().item<double>();
}

// A ratio to an alternative that computes something else would be worthless.
void check_alternative(const TorchLayer& layer, const Case& c) {
  const torch::NoGradGuard no_grad;
  if (const double error = largest_error(layer.forward(c.x, c.choice(0)), c.exact); !(error < 0.05))
    fail(ErrorKind::internal, "libtorch's layer is off by {:.2g} of the largest output: is OPENBLAS_CORETYPE right for this CPU?", error);
}

void run_torch(const TorchLayer& layer, const Case& c, const TokenChoice& choice, bool backward) {
  if (!backward) {
    const torch::NoGradGuard no_grad;
    (void)layer.forward(c.x, choice);
    return;
  }
  const auto x = c.x.detach().requires_grad_();
  layer.forward(x, choice).backward(c.dy);
  for (const auto& p : layer.parameters()) p.mutable_grad() = torch::Tensor();
}

template <class Call>
double time_us(Call call) {
  const auto start = Clock::now();
  int calls = 0;
  do {  // at least 200 us: the clock must not count
    call(calls++);
  } while (us_since(start) < 200);
  return us_since(start) / calls;
}

// The forms of libtorch's layer that may be its fastest. One can take minutes where another takes seconds (bfloat16 on a CPU without
// instructions for it): growing parts of the case tell.
std::vector<size_t> contenders(const Layers& layers, const Case& c, bool backward) {
  constexpr int64_t kFirst = 4, kGrowth = 4;
  constexpr double kHopeless = 3;
  std::vector<size_t> left(layers.torch_layers.size());
  std::iota(left.begin(), left.end(), 0);
  for (int64_t tokens = kFirst; tokens < c.x.size(0) && left.size() > 1; tokens *= kGrowth) {
    const Case few = c.first(tokens);
    std::vector<double> us;
    for (const size_t i : left) {
      run_torch(layers.torch_layers[i], few, few.choice(0), backward);  // warm
      us.push_back(time_us([&](int) { run_torch(layers.torch_layers[i], few, few.choice(0), backward); }));
    }
    const double best = *std::min_element(us.begin(), us.end());
    for (size_t i = left.size(); i-- > 0;)
      if (us[i] > kHopeless * best) left.erase(left.begin() + static_cast<int64_t>(i));
  }
  return left;
}

// The layer's whole way for experts that do almost nothing: what sorting, gathering and adding back cost.
double dispatch_us(const LayerBenchOptions& o, const Case& c) {
  if (o.backward) return 0;
  LayerBenchOptions tiny = o;
  tiny.shape.d_expert = 16;
  tiny.shape.num_shared = 0;
  auto layer = MoELayer(layer_options(tiny.shape, 0));
  for (const Packable& part : layer.experts().packable()) pack_parameter(part, kernels::packed::parse_weight_format(o.dtype));
  std::vector<double> us;
  for (int64_t turn = 0; turn < 5; ++turn) us.push_back(time_us([&](int call) { (void)run_ours(layer, c, c.choice(turn + call), tiny); }));
  return median(us);
}

LayerBenchRow bench_case(const LayerBenchOptions& o, Layers& layers, const Case& c, const kernels::BandwidthProbe& probe) {
  const auto tokens = c.x.size(0);
  LayerBenchRow row;
  row.tokens = tokens;
  row.max_error = largest_error(run_ours(layers.layer(0), c, c.choice(0), o), c.exact);
  const std::vector<size_t> forms = contenders(layers, c, o.backward);
  for (const size_t i : forms) check_alternative(layers.torch_layers[i], c), run_torch(layers.torch_layers[i], c, c.choice(0), o.backward);  // warm
  std::vector<double> ours, dense, gbps, gflops;
  std::vector<std::vector<double>> torch_us(layers.torch_layers.size());
  const kernels::Isa isa = kernels::selected_isa();
  const auto start = Clock::now();
  int64_t turn = 0;
  // The probe has emptied the caches of weights, and also of code and stack, which in a model another layer has just used.
  const TokenChoice all{torch::arange(o.shape.top_k, torch::kInt64).repeat({tokens, 1}), c.choice(0).weights};
  for (; turn < 3 || (turn < kMostTurns && us_since(start) < o.seconds * 1e6); ++turn) {
    gbps.push_back(probe.read_gbps());
    gflops.push_back(kernels::multiply_peak(isa, unit_of(o.dtype)));
    if (layers.cached()) (void)run_ours(layers.layer(0), c, c.choice(turn), o);
    else if (tokens <= kFewTokens) (void)run_ours(layers.neighbour(), c, all, o);
    ours.push_back(time_us([&](int call) { (void)run_ours(layers.layer(turn + call), c, c.choice(turn + call), o); }));
    dense.push_back(time_us([&](int) { run_dense(layers.dense(), c, o); }));
    for (const size_t i : forms)
      if (turn < 3 || torch_us[i].front() < o.seconds * 1e5) {
        if (layers.cached()) run_torch(layers.torch_layers[i], c, c.choice(turn), o.backward);
        else if (tokens <= kFewTokens) run_torch(layers.torch_neighbours[i], c, all, o.backward);
        torch_us[i].push_back(time_us([&](int call) { run_torch(layers.torch_layers[i], c, c.choice(turn + call), o.backward); }));
      }
  }
  row.turns = static_cast<int>(turn);
  row.us = median(ours);
  row.roof_gbps = median(gbps);
  row.roof_gflops = median(gflops);
  const double passes = o.backward ? 3 : 1;  // backward multiplies twice as often, reads the weights once more and writes their gradient
  const double flop = passes * o.shape.flop_per_token() * static_cast<double>(tokens), bytes = passes * (c.active * layers.expert_bytes() + layers.shared_bytes());
  row.gflops = flop / row.us * 1e-3;
  row.gbps = bytes / row.us * 1e-3;
  const double memory_us = bytes / row.roof_gbps * 1e-3, compute_us = row.roof_gflops > 0 ? flop / row.roof_gflops * 1e-3 : 0;
  row.roof = memory_us > compute_us ? "memory" : "compute";
  row.fraction_of_roof = std::max(memory_us, compute_us) / row.us;
  for (const size_t i : forms)
    if (const double us = median(torch_us[i]); row.torch_us == 0 || us < row.torch_us) row.torch_us = us;
  row.ratio_libtorch = row.torch_us / row.us;
  row.dense_us = median(dense);
  row.ratio_dense = row.us / row.dense_us;
  row.dispatch_share = dispatch_us(o, c) / row.us;
  return row;
}

void check(const LayerBenchOptions& o) {
  (void)kernels::packed::parse_weight_format(o.dtype);
  if (o.backward && (o.dtype == "int8" || o.dtype == "int4")) fail(ErrorKind::usage, "{} weights carry no gradient: --direction both needs float32 or bfloat16", o.dtype);
  for (const int64_t t : o.tokens)
    if (t < 1) fail(ErrorKind::usage, "{} tokens: expected at least 1", t);
}

// Bytes of everything that lives at once when `experts` are routed to, by the kinds of weights that Layers holds.
double memory_of(const LayerBenchOptions& o, int64_t experts) {
  const LayerShape& s = o.shape;
  const double expert = 3.0 * static_cast<double>(s.d_model * s.d_expert), most_tokens = static_cast<double>(*std::max_element(o.tokens.begin(), o.tokens.end()));
  const double packed = o.backward ? 0 : 4.0 / static_cast<double>(kernels::packed::steps_of_line(kernels::packed::parse_weight_format(o.dtype)));
  const double master = o.backward ? 8 : 4, copy = o.dtype == "float32" ? 0 : o.alternative && o.backward ? 4 : o.alternative ? 2 : 0;  // with gradients
  const double neighbour = (master + packed + copy) * static_cast<double>(s.top_k), dense = (master + packed) * static_cast<double>(s.top_k + s.num_shared);
  const double layer = (master + packed + copy) * static_cast<double>(experts + s.num_shared);
  const double rows = most_tokens * static_cast<double>(s.top_k + s.num_shared) * static_cast<double>(2 * s.d_model + 5 * s.d_expert) * 4;
  return expert * (layer + neighbour + dense) + rows * (o.backward ? 2 : 1) + 2.0 * static_cast<double>(kColdBytes);
}

}  // namespace

LayerShape shape_that_fits(const LayerBenchOptions& o, int64_t memory) {
  check(o);
  LayerShape shape = o.shape;
  if (memory <= 0) return shape;
  while (shape.num_experts > shape.top_k && memory_of(o, shape.num_experts) > static_cast<double>(memory)) --shape.num_experts;
  if (const double needed = memory_of(o, shape.num_experts); needed > static_cast<double>(memory))
    fail(ErrorKind::usage, "shape '{}' with {} experts needs about {:.1f} GiB of memory, {:.1f} GiB are there: fewer --tokens, or --no-libtorch", shape.name, shape.num_experts,
         needed / (1 << 30), static_cast<double>(memory) / (1 << 30));
  return shape;
}

std::vector<LayerBenchRow> bench_layer(const LayerBenchOptions& options, const std::function<void(const LayerBenchRow&)>& done) {
  check(options);
  Layers layers(options, options.tokens);
  const kernels::BandwidthProbe probe;
  std::vector<LayerBenchRow> rows;
  for (const Case& c : layers.cases) {
    rows.push_back(bench_case(options, layers, c, probe));
    if (done) done(rows.back());
  }
  return rows;
}

}  // namespace switchyard::bench
