#include "models/forward_dump.h"

#include "core/ops.h"
#include "models/stored_tensors.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

void add_moe(ForwardDump& dump, const ModelTrace& trace, int64_t layer) {
  const auto name = [&](const char* what) { return fmt::format("moe.{}.{}", layer, what); };
  const MoETrace& moe = trace.moe.at(layer);
  dump[name("input")] = trace.moe_input.at(layer);
  dump[name("output")] = trace.moe_output.at(layer);
  if (moe.routing.scores.logits.defined()) dump[name("router_logits")] = moe.routing.scores.logits;
  const auto* choice = std::get_if<TokenChoice>(&moe.routing.choice);
  if (!choice) return;
  const auto weights = choice->weights.to(torch::kFloat32);
  dump[name("topk_index")] = choice->expert_ids;
  dump[name("topk_weight")] = weights;
  dump[name("combine")] = torch::zeros({weights.size(0), moe.stats.num_experts}).scatter_add(1, choice->expert_ids.clamp_min(0), weights);
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
  for (const auto& item : trace.moe) add_moe(dump, trace, item.first);
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
