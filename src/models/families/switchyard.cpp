// Our own layout: the whole specification under the key "spec", tensors named as the parameters of the model.
#include "base/config_tree.h"
#include "models/family.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

std::vector<Dimension> plain_shape(const torch::Tensor& tensor) {
  std::vector<Dimension> out;
  for (const int64_t size : tensor.sizes()) out.push_back({"", size});
  return out;
}

struct Own final : Family {
  ModelSpec read_config(const ConfigNode& config) const override {
    const ConfigNode* spec = config.find("spec");
    if (!spec) fail(ErrorKind::config, "{}'spec' is missing: a model of type \"switchyard\" states its whole specification there", config.location());
    return read_model_spec(*spec, "spec");
  }

  nlohmann::ordered_json write_config(const ModelSpec& spec) const override {
    return {{"architectures", {"SwitchyardLanguageModel"}}, {"model_type", "switchyard"}, {"spec", to_json(spec)}};
  }

  std::vector<std::vector<TensorPlace>> layouts(const LanguageModel& model) const override {
    std::vector<TensorPlace> places;
    for (const auto& item : model.named_parameters()) places.push_back({item.key(), item.key(), plain_shape(item.value())});
    for (const auto& item : model.named_buffers()) places.push_back({item.key(), item.key(), plain_shape(item.value())});
    return {places};
  }
};

}  // namespace

FamilyEntry family_switchyard() { return {"switchyard", "", "any model of this library, with its whole specification", std::make_shared<Own>()}; }

}  // namespace switchyard
