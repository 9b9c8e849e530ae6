#include "models/tag_model.h"

#include "layer/tag_network.h"
#include "models/encoder_stack.h"
#include "switchyard/error.h"

#include <c10/core/GradMode.h>

namespace switchyard {
namespace {

// Where a Mixture-of-Experts layer stands among the tensors of a model.
std::string place_of(int64_t layer) { return "layers." + std::to_string(layer) + ".ffn."; }

using Layers = std::map<std::string, std::shared_ptr<MoELayer>>;  // by place

Layers layers_of_tag(LanguageModel& model, int64_t tag) {
  Layers out;
  for (auto& [index, layer] : model.moe_layers()) out.emplace(place_of(index), network_of_tag(*layer, tag));
  return out;
}

int64_t common_number_of_experts(const Layers& layers, int64_t tag) {
  const auto& first = layers.begin()->second->options();
  if (first.num_experts < 1) fail(ErrorKind::unsupported, "layers.{}.ffn gives tag {} no expert at all", first.layer, tag);
  for (const auto& [place, layer] : layers)
    if (const auto& o = layer->options(); o.num_experts != first.num_experts)
      fail(ErrorKind::unsupported, "layers.{}.ffn gives tag {} {} experts, layers.{}.ffn {}: a model has as many experts in all of its layers", first.layer, tag,
           first.num_experts, o.layer, o.num_experts);
  return first.num_experts;
}

// The tensor that `name` of the small model is filled from.
const torch::Tensor& source_of(const std::string& name, const torch::OrderedDict<std::string, torch::Tensor>& whole, const Layers& layers, bool buffer) {
  for (const auto& [place, layer] : layers) {
    if (name.rfind(place, 0) != 0) continue;
    const auto named = buffer ? layer->named_buffers() : layer->named_parameters();
    if (const auto* found = named.find(name.substr(place.size()))) return *found;
  }
  if (const auto* found = whole.find(name)) return *found;
  fail(ErrorKind::internal, "model_of_tag: nothing fills {}", name);
}

}  // namespace

std::shared_ptr<LanguageModel> model_of_tag(LanguageModel& model, int64_t tag) {
  const c10::NoGradGuard no_grad;
  refuse_encoder(model.spec(), "model_of_tag");
  if (model.moe_layers().empty()) fail(ErrorKind::unsupported, "the model has no Mixture-of-Experts layer: there is nothing to cut out for tag {}", tag);
  ModelSpec spec = model.spec();
  for (const LayerSpec& layer : spec.pattern)
    if (layer.moe.is_table() && !layer.moe.table()->empty())
      fail(ErrorKind::unsupported, "model.pattern gives layers experts of their own ('{}' with keys of moe); a model can be cut down to a tag when all its layers have the same", layer.kind);
  const Layers layers = layers_of_tag(model, tag);
  spec.moe->num_experts = common_number_of_experts(layers, tag);
  spec.moe->gate = "fixed";
  spec.moe->capacity = {};
  spec.moe->losses = {};
  spec.moe->dispatcher = "local";
  auto out = std::make_shared<LanguageModel>(spec, std::nullopt);
  const auto parameters = model.named_parameters(), buffers = model.named_buffers();
  for (auto& item : out->named_parameters()) item.value().copy_(source_of(item.key(), parameters, layers, false));
  for (auto& item : out->named_buffers()) item.value().copy_(source_of(item.key(), buffers, layers, true));
  return out;
}

}  // namespace switchyard
