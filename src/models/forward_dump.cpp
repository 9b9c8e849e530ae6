#include "models/forward_dump.h"

#include "core/ops.h"
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

torch::Tensor read_ids(const SafetensorsFile& file, const std::string& name, const torch::Tensor& like) {
  const TensorEntry* entry = file.find(name);
  if (!entry) return {};
  if (entry->dtype != DType::i64 || entry->shape.size() != 2 || (like.defined() && entry->shape != like.sizes().vec()))
    fail(ErrorKind::checkpoint, "{}: '{}' is {} {}, expected I64 {}", file.path().string(), name, name_of(entry->dtype), show_shape(entry->shape),
         like.defined() ? show_shape(like.sizes().vec()) : "[batch, sequence]");
  return as_tensor(*entry);
}

}  // namespace

ForwardDump forward_dump(LanguageModel& model, const torch::Tensor& input_ids, const torch::Tensor& attention_mask, const torch::Tensor& position_ids) {
  const torch::NoGradGuard no_grad;
  model.eval();
  TokenBatch batch{input_ids, position_ids, {}};
  if (attention_mask.defined()) batch.segments = (attention_mask != 0).to(torch::kInt32) - 1;
  ModelTrace trace;
  ForwardOptions options;
  options.trace = &trace;
  const auto out = model.forward(batch, options);

  ForwardDump dump{{"logits", model.logits(out.hidden)}};
  for (size_t i = 0; i < trace.hidden_states.size(); ++i) dump[fmt::format("hidden_states.{}", i)] = trace.hidden_states[i];
  dump[fmt::format("layer.{}.output", model.spec().num_layers - 1)] = trace.last_layer_output;
  for (const auto& [layer, moe] : model.moe_layers()) {
    const auto prefix = fmt::format("moe.{}.", layer);
    dump[prefix + "input"] = trace.moe_input.at(layer);
    dump[prefix + "output"] = trace.moe_output.at(layer);
    add_routing(dump, prefix, trace.moe.at(layer).routing, moe->options().num_experts, moe->options().routed_scale);
  }
  for (const auto& [layer, mixer] : trace.mixer) add_routing(dump, fmt::format("moe.{}.attn.", layer), mixer.routing, mixer.stats->num_experts, 1);
  return dump;
}

void forward_file(const std::filesystem::path& model_folder, const std::filesystem::path& input, const std::filesystem::path& output,
                  const std::string& compute) {
  const ComputeScope scope(parse_compute_type(compute));
  const auto file = SafetensorsFile::open(input);
  const auto ids = read_ids(file, "input_ids", {});
  if (!ids.defined()) fail(ErrorKind::checkpoint, "{}: no tensor 'input_ids'", input.string());
  const auto mask = read_ids(file, "attention_mask", ids), positions = read_ids(file, "position_ids", ids);
  const auto checkpoint = load_checkpoint(model_folder);
  std::vector<TensorSource> tensors;
  for (const auto& [name, tensor] : forward_dump(*checkpoint.model, ids, mask, positions)) tensors.push_back(as_stored(name, tensor));
  write_safetensors(output, tensors);
}

}  // namespace switchyard
