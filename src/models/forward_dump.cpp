#include "models/forward_dump.h"

#include "core/ops.h"
#include "models/encoder_stack.h"
#include "models/eval_mode.h"
#include "models/stored_tensors.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

// What a router did with the tokens: `scale` multiplies the sum that its weights form.
void add_routing(ForwardDump& dump, const std::string& prefix, const Routing& routing, int64_t num_experts, double scale) {
  if (routing.scores.logits.defined()) dump[prefix + "router_logits"] = routing.scores.logits;
  const auto* choice = std::get_if<TokenChoice>(&routing.choice);
  if (!choice) return;
  const auto weights = choice->weights.to(torch::kFloat32) * scale;
  dump[prefix + "topk_index"] = choice->expert_ids;
  dump[prefix + "topk_weight"] = weights;
  dump[prefix + "combine"] = torch::zeros({weights.size(0), num_experts}).scatter_add(1, choice->expert_ids.clamp_min(0), weights);
}

// One stack of a model, named by layers, or by blocks behind a prefix.
void add_stack(ForwardDump& dump, const std::string& prefix, LanguageModel& stack, const ModelTrace& trace) {
  const ModelSpec& s = stack.spec();
  const auto number = [&](int64_t layer) { return prefix.empty() ? layer : block_of_layer(s, layer); };
  const auto name = [&](const char* what, int64_t i, const char* of = "") { return fmt::format("{}{}.{}{}", prefix, what, i, of); };
  dump[name("hidden_states", 0)] = trace.hidden_states[0];
  for (int64_t i = 0; i < s.num_layers; ++i) dump[name("hidden_states", number(i) + 1)] = trace.hidden_states[static_cast<size_t>(i) + 1];
  dump[name("layer", number(s.num_layers - 1), ".output")] = trace.last_layer_output;
  for (const auto& [layer, moe] : stack.moe_layers()) {
    const auto of = name("moe", number(layer), ".");
    dump[of + "input"] = trace.moe_input.at(layer);
    dump[of + "output"] = trace.moe_output.at(layer);
    add_routing(dump, of, trace.moe.at(layer).routing, moe->options().num_experts, moe->options().routed_scale);
  }
  for (const auto& [layer, mixer] : trace.mixer) add_routing(dump, name("moe", number(layer), ".attn."), mixer.routing, mixer.stats->num_experts, 1);
}

torch::Tensor segments_of(const torch::Tensor& mask) { return mask.defined() ? (mask != 0).to(torch::kInt32) - 1 : mask; }

torch::Tensor read_ids(const SafetensorsFile& file, const std::string& name, const torch::Tensor& like) {
  const TensorEntry* entry = file.find(name);
  if (!entry) return {};
  if (entry->dtype != DType::i64 || entry->shape.size() != 2 || (like.defined() && entry->shape != like.sizes().vec()))
    fail(ErrorKind::checkpoint, "{}: '{}' is {} {}, expected I64 {}", file.path().string(), name, name_of(entry->dtype), show_shape(entry->shape),
         like.defined() ? show_shape(like.sizes().vec()) : "[batch, sequence]");
  return as_tensor(*entry);
}

ForwardDump dump_file(LanguageModel& model, const SafetensorsFile& file) {
  const auto need = [&](const char* name) {
    auto ids = read_ids(file, name, {});
    if (!ids.defined()) fail(ErrorKind::checkpoint, "{}: no tensor '{}'", file.path().string(), name);
    return ids;
  };
  const auto ids = need("input_ids"), mask = read_ids(file, "attention_mask", ids);
  if (model.encoder()) return forward_dump_of_two(model, ids, mask, need("decoder_input_ids"));
  return forward_dump(model, ids, mask, read_ids(file, "position_ids", ids));
}

}  // namespace

ForwardDump forward_dump(LanguageModel& model, const torch::Tensor& input_ids, const torch::Tensor& attention_mask, const torch::Tensor& position_ids) {
  const EvalMode eval_mode(model);
  ModelTrace trace;
  ForwardOptions options;
  options.trace = &trace;
  const auto out = model.forward({.input_ids = input_ids, .positions = position_ids, .segments = segments_of(attention_mask)}, options);
  ForwardDump dump{{"logits", model.logits(out.hidden)}};
  add_stack(dump, "", model, trace);
  return dump;
}

ForwardDump forward_dump_of_two(LanguageModel& model, const torch::Tensor& input_ids, const torch::Tensor& attention_mask, const torch::Tensor& decoder_input_ids) {
  const EvalMode eval_mode(model);
  ModelTrace trace;
  ForwardOptions options;
  options.trace = &trace;
  TokenBatch batch{.input_ids = decoder_input_ids, .positions = {}, .segments = {}};
  batch.source_ids = input_ids;
  batch.source_segments = segments_of(attention_mask);
  const auto out = model.forward(batch, options);
  ForwardDump dump{{"logits", model.logits(out.hidden)}, {"encoder.last_hidden_state", out.encoder->hidden}};
  add_stack(dump, "encoder.", *model.encoder(), *trace.encoder);
  add_stack(dump, "decoder.", model, trace);
  return dump;
}

void forward_file(const std::filesystem::path& model_folder, const std::filesystem::path& input, const std::filesystem::path& output,
                  const std::string& compute) {
  const ComputeScope scope(parse_compute_type(compute));
  const auto file = SafetensorsFile::open(input);
  const auto checkpoint = load_checkpoint(model_folder);
  std::vector<TensorSource> tensors;
  for (const auto& [name, tensor] : dump_file(*checkpoint.model, file)) tensors.push_back(as_stored(name, tensor));
  write_safetensors(output, tensors);
}

}  // namespace switchyard
