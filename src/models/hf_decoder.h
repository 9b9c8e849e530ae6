// What the decoder families of the Hugging Face ecosystem have in common: a family says what its keys mean and where the tensors
// of a layer are.
#pragma once

#include "models/canonical_spec.h"
#include "models/hf_config.h"
#include "models/hf_places.h"

namespace switchyard {

class HfDecoder : public Family {
 public:
  HfDecoder(std::string model_type, std::string architecture) : model_type_(std::move(model_type)), architecture_(std::move(architecture)) {}

  [[nodiscard]] ModelSpec read_config(const ConfigNode& node) const final;
  [[nodiscard]] nlohmann::ordered_json write_config(const ModelSpec& spec) const final;
  [[nodiscard]] std::vector<Places> layouts(const LanguageModel& model) const override;
  // "stacked": all experts of a layer in one tensor, as transformers 5 holds them in memory.
  [[nodiscard]] std::vector<std::string> layout_names() const final {
    return has_stacked_layout() ? std::vector<std::string>{"published", "stacked"} : std::vector<std::string>{"published"};
  }
  [[nodiscard]] bool ignores(const std::string& stored, const ModelSpec& spec) const override { return is_known_leftover(stored, spec); }

 protected:
  [[nodiscard]] virtual ModelSpec read(HfConfig& config) const = 0;
  // `s` is resolved and canonical.
  virtual void write(nlohmann::ordered_json& config, const ModelSpec& s) const = 0;
  // The network of a layer. `stacked`: in the layout that transformers 5 has in memory, if there is one.
  virtual void add_network(Places& out, const ModelSpec& s, int64_t layer, bool stacked) const = 0;
  [[nodiscard]] virtual bool has_stacked_layout() const { return false; }
  [[nodiscard]] virtual HfNames names() const { return {}; }

 private:
  std::string model_type_, architecture_;
};

}  // namespace switchyard
