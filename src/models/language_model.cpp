// Initial weights: every matrix N(0, init_std^2); those that write to the residual stream (attention output, second matrix
// of an expert) N(0, init_std^2 / number of residual sums), so that the variance of the stream does not grow with depth (GPT-2,
// Radford et al. 2019, section 2.3); norm weights 1; the router as its score block says.
#include "switchyard/language_model.h"

#include "core/beside.h"
#include "core/ops.h"
#include "core/packed_parameter.h"
#include "core/paged_cache.h"
#include "models/checkpointed_block.h"
#include "models/encoder_stack.h"
#include "models/initial_weights.h"
#include "models/layer_copies.h"
#include "models/mixer_of.h"
#include "models/norm.h"
#include "models/position_tables.h"
#include "models/rotary.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

namespace switchyard {

namespace {

std::vector<LossSpec> losses_of(const std::vector<BlockSpec>& losses) {
  std::vector<LossSpec> out;
  for (const auto& loss : losses) out.push_back(read_loss(loss));
  return out;
}

}  // namespace

struct LanguageModel::Impl {
  explicit Impl(const ModelSpec& spec) : aux_losses(losses_of(spec.moe ? spec.moe->losses : spec.losses)) {
    for (const MixtureSpec& mixture : spec.mixtures) mixture_losses.emplace_back(losses_of(mixture.losses));
  }

  torch::Tensor embed, head, head_bias;  // [V, d], [V, d], [V]; head is embed when they are tied
  torch::Tensor position_embed;          // [max_positions, d]; undefined without learned positions
  torch::Tensor relative;                // [relative_buckets, H]; undefined without relative positions
  Norm norm;
  std::vector<std::shared_ptr<StackLayer>> blocks;
  Rotary rotary;
  AuxLosses aux_losses;
  std::vector<AuxLosses> mixture_losses;  // by mixture
};

namespace {

void check_ids(const torch::Tensor& ids, int64_t vocab_size) {
  if (ids.dim() != 2 || ids.numel() == 0)
    fail(ErrorKind::usage, "input_ids have shape {}, expected [batch, sequence] with at least one token", fmt::join(ids.sizes(), " x "));
  const auto [low, high] = at::aminmax(ids);
  for (const int64_t id : {low.item<int64_t>(), high.item<int64_t>()})
    if (id < 0 || id >= vocab_size) fail(ErrorKind::usage, "input_ids hold {}, expected 0 .. {} (vocab_size = {})", id, vocab_size - 1, vocab_size);
}

torch::Tensor positions_of(const TokenBatch& batch, const ForwardOptions& options, int64_t max_positions) {
  const int64_t first = options.cache ? options.cache->length : 0, seq = batch.input_ids.size(1);
  if (!batch.positions.defined()) {
    if (first + seq > max_positions) fail(ErrorKind::usage, "{} tokens do not fit into max_positions = {} of the model", first + seq, max_positions);
    return at::arange(first, first + seq, torch::kInt64).expand({batch.input_ids.size(0), seq}).contiguous();
  }
  const auto positions = batch.positions.to(torch::kInt64).contiguous();
  if (positions.numel() > 0) {
    const auto [low, high] = at::aminmax(positions);
    if (low.item<int64_t>() < 0 || high.item<int64_t>() >= max_positions)
      fail(ErrorKind::usage, "positions reach from {} to {}, expected 0 .. {} (max_positions = {})", low.item<int64_t>(), high.item<int64_t>(),
           max_positions - 1, max_positions);
  }
  return positions;
}

// Who sees whom, and who counts: nobody is padding unless segments say so.
void set_segments(CallContext& call, const TokenBatch& batch, KvCache* cache) {
  const int64_t rows = batch.input_ids.size(0), seq = batch.input_ids.size(1);
  const auto segments = batch.segments.defined() ? batch.segments.to(torch::kInt32).contiguous() : at::zeros({rows, seq}, torch::kInt32);
  const auto [low, high] = at::aminmax(segments);
  if (low.item<int32_t>() < 0) call.valid = (segments >= 0).view({-1});
  if (low.item<int32_t>() < 0 || !low.equal(high)) call.q_segments = call.k_segments = segments;  // else attention has nothing to compare
  const auto row = at::arange(rows, torch::kInt64).unsqueeze(1);
  // One number per document of the batch; -1 for padding.
  call.sequence_ids = at::where(segments >= 0, row * (high.item<int64_t>() + 1) + segments, -1).view({-1});
  if (!cache) return;
  if (cache->length + seq > cache->segments.size(1))
    fail(ErrorKind::usage, "the cache holds {} tokens and has room for {}, but {} more arrive", cache->length, cache->segments.size(1), seq);
  cache->segments.narrow(1, cache->length, seq).copy_(segments);
  call.q_segments = segments;
  call.k_segments = cache->segments.narrow(1, 0, cache->length + seq);
}

// Token ids, and with a cache the token before each: that of the first one stands in the cache.
void set_previous(CallContext& call, const torch::Tensor& ids, KvCache* cache) {
  call.token_ids = ids.view({-1});
  if (!cache || ids.numel() == 0) return;
  const int64_t start = cache->length, seq = ids.size(1);
  cache->token_ids.narrow(1, start, seq).copy_(ids);
  call.previous_ids = at::full_like(ids, -1);
  const int64_t first = std::max<int64_t>(0, start - 1);  // the first place with a token behind it
  const auto before = cache->token_ids.slice(1, first, start + seq - 1), segment = cache->segments.slice(1, first, start + seq - 1);
  const auto same = segment == cache->segments.slice(1, first + 1, start + seq);
  call.previous_ids.slice(1, start > 0 ? 0 : 1).copy_(at::where(same, before, torch::full({}, -1, torch::kInt64)));
  call.previous_ids = call.previous_ids.view({-1});
}

void move_all_but_routers(torch::nn::Module& module, torch::Device device) {
  if (dynamic_cast<Gate*>(&module)) return;
  const c10::NoGradGuard no_grad;
  for (torch::Tensor& p : module.parameters(/*recurse=*/false)) p.set_data(p.to(device));
  for (torch::Tensor& b : module.buffers(/*recurse=*/false)) b.set_data(b.to(device));
  for (const auto& child : module.children()) move_all_but_routers(*child, device);
}

bool has_shortcuts(const ModelSpec& s) {
  for (int64_t i = 0; i < s.num_layers; ++i)
    if (const auto plan = s.layer(i); plan.moe && plan.moe->input.starts_with("previous")) return true;
  return false;
}

void add_to_trace(ModelTrace& trace, StackLayer& block, const BlockTrace& done) {
  if (done.mixer.stats) trace.mixer.emplace(block.layer(), done.mixer);
  if (!block.moe()) return;
  trace.moe.emplace(block.layer(), done.moe);
  trace.moe_input.emplace(block.layer(), done.ffn_input);
  trace.moe_output.emplace(block.layer(), done.ffn_output);
}

// All gradient of the losses meets in one node before it enters the block, as it does when the block is recomputed: sums of
// gradients then have the same order in both modes.
void give_own_node(BlockTrace& done) {
  for (torch::Tensor* tensor : done.differentiable()) *tensor = tensor->view_as(*tensor);
}

}  // namespace

LanguageModel::LanguageModel(const ModelSpec& spec, std::optional<uint64_t> seed, const torch::Tensor& embed)
    : spec_(spec.resolved()), impl_(std::make_shared<Impl>(spec_)) {
  std::optional<RandomStream> init;
  if (seed) init = RandomStream(*seed, "init");
  const auto* stream = init ? &*init : nullptr;
  impl_->embed = embed.defined() ? embed : register_parameter("embed", normal_weight(stream, "embed", {spec_.vocab_size, spec_.d_model}, spec_.init_std));
  const auto layers = register_module("layers", std::make_shared<torch::nn::Module>("layers"));
  for (int64_t i = 0; i < spec_.num_layers; ++i) impl_->blocks.push_back(layers->register_module(std::to_string(i), make_stack_layer(spec_, i, seed)));
  Join* first_join = nullptr;
  for (const auto& [number, layer] : moe_layers()) {
    if (!layer->join()) continue;
    if (first_join) layer->join()->share(*first_join);
    else first_join = layer->join();
  }
  impl_->norm = Norm(*this, "norm", spec_);
  impl_->head =
      spec_.tie_embeddings ? impl_->embed : register_parameter("head", normal_weight(stream, "head", {spec_.vocab_size, spec_.d_model}, spec_.init_std));
  if (spec_.head_bias) impl_->head_bias = register_parameter("head_bias", torch::zeros({spec_.vocab_size}));
  if (spec_.positions == "learned")
    impl_->position_embed = register_parameter("position_embed", normal_weight(stream, "position_embed", {spec_.max_positions, spec_.d_model}, spec_.init_std));
  if (has_distances(spec_))
    impl_->relative = register_parameter("relative", normal_weight(stream, "relative", {spec_.relative_buckets, spec_.num_heads}, spec_.init_std));
  impl_->rotary = Rotary(spec_, rotary_dims(spec_));
  if (!spec_.encoder) return;
  const auto own = seed ? std::optional(RandomStream(*seed, "encoder").bits(0)) : std::nullopt;
  encoder_ = register_module("encoder", std::shared_ptr<LanguageModel>(new LanguageModel(encoder_spec(spec_), own, impl_->embed)));
}

// A model of two stacks reads the source in the first call; later ones with the same cache find it there.
void LanguageModel::read_source(CallContext& call, const TokenBatch& batch, const ForwardOptions& options, ModelOutput& out) {
  if (!encoder_) {
    if (batch.source_ids.defined()) fail(ErrorKind::usage, "the batch has source_ids, but the model has no encoder");
    return;
  }
  if (options.cache && options.cache->length > 0) return;
  if (!batch.source_ids.defined())
    fail(ErrorKind::usage, "the model has an encoder, but the batch has no source_ids: what continues a text by itself is a model of one stack");
  if (batch.source_ids.dim() != 2 || batch.source_ids.size(0) != batch.input_ids.size(0))
    fail(ErrorKind::usage, "source_ids have shape {}, expected one row for each of the {} texts", fmt::join(batch.source_ids.sizes(), " x "), batch.input_ids.size(0));
  ForwardOptions own = options;
  own.cache = nullptr;
  own.seed = RandomStream(options.seed, "encoder").bits(0);
  if (options.trace) own.trace = (options.trace->encoder = std::make_shared<ModelTrace>()).get();
  out.encoder = std::make_shared<ModelOutput>(encoder_->forward({.input_ids = batch.source_ids, .positions = {}, .segments = batch.source_segments}, own));
  call.memory = out.encoder->hidden;
  if (batch.source_segments.defined() && (batch.source_segments < 0).any().item<bool>())
    call.memory_segments = at::clamp(batch.source_segments, -1, 0).to(torch::kInt32).contiguous();
}

ModelOutput LanguageModel::forward(const TokenBatch& batch, const ForwardOptions& options) {
  const auto ids = options.paged ? options.paged->input_ids() : batch.input_ids.to(torch::kInt64).contiguous();
  check_ids(ids, spec_.vocab_size);
  if (options.paged)
    if (const std::string obstacle = paging_obstacle(); !obstacle.empty()) fail(ErrorKind::unsupported, "a paged cache: {}", obstacle);
  // A recomputed block gives gradient to its input alone; a decoder has the source as well.
  const bool recompute = options.checkpoint_activations && at::GradMode::is_enabled() && !options.cache && !encoder_;
  const at::AutoGradMode grad(at::GradMode::is_enabled() && !options.cache && !options.paged);

  CallContext call;
  // Distances have no end; all other positions do.
  TokenBatch tokens = batch;
  if (options.paged) tokens.input_ids = ids, tokens.positions = options.paged->positions();
  call.positions = positions_of(tokens, options, has_distances(spec_) ? std::numeric_limits<int64_t>::max() : spec_.max_positions);
  call.rotary = impl_->rotary.upto(call.positions.numel() > 0 ? call.positions.max().item<int64_t>() + 1 : 1);
  if (options.paged) {
    call.paged = options.paged;
    call.token_ids = ids.view({-1});
    call.sequence_ids = options.paged->sequence_ids();
    call.previous_ids = options.paged->previous_ids();
  } else {
    set_segments(call, batch, options.cache);
    set_previous(call, ids, options.cache);
  }
  if (batch.tags.defined()) call.tags = batch.tags.to(torch::kInt64).reshape({-1});
  call.random = RandomStream(options.seed, "model").at("step", static_cast<uint64_t>(options.step));
  call.step = options.step;
  call.first_token = options.first_token;
  call.training = is_training();

  auto x = at::embedding(impl_->embed, beside(impl_->embed, ids), spec_.padding_id);  // [B, S, d]
  if (spec_.embed_scale != 1) x = x * spec_.embed_scale;
  if (impl_->position_embed.defined()) x = x + at::embedding(impl_->position_embed, beside(x, call.positions));
  if (spec_.positions == "sinusoidal") x = x + beside(x, sinusoidal(numbered_positions(ids, batch.positions, spec_.padding_id, options.cache), spec_.d_model));
  if (call.training && spec_.dropout > 0) x = ops::dropout(x, spec_.dropout, call.dropout_stream("embed_dropout", 0));
  ModelOutput out;
  if (options.trace) {
    *options.trace = {};
    options.trace->hidden_states.push_back(x);
  }
  const bool shortcuts = has_shortcuts(spec_), with_stats = !(options.cache || options.paged) || options.trace;
  if (recompute && shortcuts)
    fail(ErrorKind::config, "activation checkpointing recomputes one layer at a time, and with model.moe.input = '{}' experts read the layer before", spec_.moe->input);
  read_source(call, batch, options, out);
  if (impl_->relative.defined()) {
    const int64_t before = options.cache ? options.cache->length : 0;
    call.position_bias = relative_bias(impl_->relative, before, ids.size(1), before + ids.size(1), spec_);
  }
  for (const auto& block : impl_->blocks) {
    BlockTrace done;
    done.moe.wants_stats = with_stats;
    const auto input = x;
    if (recompute) {
      x = checkpointed_forward(block, x, call, done);
    } else if (options.cache) {
      const auto i = static_cast<size_t>(block->layer());
      LayerCache layer{options.cache->states[i], options.cache->length, &options.cache->mixes[i]};
      x = block->forward(x, call, &layer, done);
      options.cache->states[i] = std::move(layer.state);  // room may have been made in the call
    } else {
      x = block->forward(x, call, nullptr, done);
      give_own_node(done);
    }
    if (shortcuts) call.previous_input = input, call.previous_mixed = done.mixed;
    if (spec_.positions == "relative_first") call.position_bias = torch::Tensor();
    if (block->moe() && with_stats) out.stats.push_back(done.moe.stats);
    if (done.mixer.stats) out.mixer_stats.push_back(*done.mixer.stats);
    out.mixtures.insert(out.mixtures.end(), done.mixtures.begin(), done.mixtures.end());
    if (!options.trace) continue;
    add_to_trace(*options.trace, *block, done);
    options.trace->hidden_states.push_back(x);
  }
  if (options.cache) options.cache->length += ids.size(1);
  out.hidden = impl_->norm(x);
  if (options.trace) {
    options.trace->last_layer_output = x;
    options.trace->hidden_states.back() = out.hidden;
  }
  return out;
}

void LanguageModel::to_device(torch::Device device) {
  if (device.is_cpu() && this->device().is_cpu()) return;
  for (const Packable& part : packable())
    if (packed_form(part.parameter)) fail(ErrorKind::unsupported, "packed weights multiply on the CPU alone: load a model for {} with --weights plain", device.str());
  move_all_but_routers(*this, device);
}

torch::Device LanguageModel::device() const { return impl_->embed.device(); }

std::string LanguageModel::paging_obstacle() {
  if (!device().is_cpu()) return "it lies in the memory of the CPU, the model on a device";
  if (encoder_) return "a model with an encoder answers one source";
  if (impl_->relative.defined() || spec_.positions == "sinusoidal") return fmt::format("positions = '{}' are counted per call", spec_.positions);
  for (const auto& [layer, moe] : moe_layers())
    if (moe->causality() == Causality::non_causal) return fmt::format("gate '{}' in layers.{}.ffn chooses among the tokens of a call", moe->options().gate.kind, layer);
  for (const auto& module : modules(/*include_self=*/false))
    if (auto* mixer = dynamic_cast<Mixer*>(module.get()); mixer && !mixer->pages()) return "a mixer of the model keeps a state of its own (only plain attention has pages)";
  return "";
}

std::vector<Packable> LanguageModel::packable() {
  std::vector<Packable> out;
  for (const auto& module : modules(/*include_self=*/false)) {
    std::vector<Packable> parts;
    if (auto* bank = dynamic_cast<ExpertBank*>(module.get())) parts = bank->packable();
    if (auto* mixer = dynamic_cast<Mixer*>(module.get())) parts = mixer->packable();
    out.insert(out.end(), parts.begin(), parts.end());
  }
  if (!spec_.tie_embeddings) out.push_back({impl_->head});
  return out;
}

void LanguageModel::pack_weights(const std::string& format_name) {
  const WeightFormat format = kernels::packed::parse_weight_format(format_name);
  for (const Packable& part : packable())
    if (!packed_form(part.parameter)) pack_parameter(part, format);  // layers may share parameters, and a loader may have been here
  if (spec_.tie_embeddings && !packed_form(impl_->head)) impl_->head = packed_copy(impl_->head, format);
}

torch::Tensor LanguageModel::logits(const torch::Tensor& hidden) {
  auto out = ops::linear(hidden, impl_->head);
  if (spec_.logit_scale != 1) out = out * spec_.logit_scale;
  return impl_->head_bias.defined() ? out + impl_->head_bias : out;
}

AuxLoss LanguageModel::aux_loss(const std::vector<RoutingStats>& stats) const { return impl_->aux_losses(stats); }

AuxLoss LanguageModel::aux_loss(const ModelOutput& output) const {
  auto routers = output.stats;
  routers.insert(routers.end(), output.mixer_stats.begin(), output.mixer_stats.end());
  AuxLoss out = aux_loss(routers);
  for (size_t i = 0; i < impl_->mixture_losses.size(); ++i) {
    std::vector<RoutingStats> sites;
    for (const MixtureStats& one : output.mixtures)
      if (one.mixture == static_cast<int64_t>(i)) sites.push_back(one.stats);
    const AuxLoss one = impl_->mixture_losses[i](sites);
    out.total = out.total + one.total;
    for (const LossValue& v : one.values) out.values.push_back({fmt::format("mixtures[{}].{}", i, v.name), v.raw, v.weighted});
  }
  if (output.encoder) {
    const AuxLoss one = encoder_->aux_loss(*output.encoder);
    out.total = out.total + one.total;
    for (const LossValue& v : one.values) out.values.push_back({"encoder." + v.name, v.raw, v.weighted});
  }
  return out;
}

std::vector<MoELayer*> LanguageModel::mixtures() {
  std::vector<MoELayer*> out;
  for (const auto& block : impl_->blocks)
    if (block->mixtures())
      for (const SiteMixture& place : block->mixtures()->places()) out.push_back(place.moe.get());
  return out;
}

std::vector<std::pair<int64_t, MoELayer*>> LanguageModel::moe_layers() {
  std::vector<std::pair<int64_t, MoELayer*>> out;
  for (const auto& block : impl_->blocks)
    if (block->moe()) out.emplace_back(block->layer(), block->moe());
  return out;
}

}  // namespace switchyard
