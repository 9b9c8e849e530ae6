// What the encoder-decoder families of the Hugging Face ecosystem have in common. A published decoder layer, self-attention, attention to
// the source and a network, is two layers of the specification: "attention", then "cross_attention+dense" or "cross_attention+moe".
#pragma once

#include "models/canonical_spec.h"
#include "models/encoder_stack.h"
#include "models/hf_config.h"
#include "models/hf_places.h"

#include <array>

namespace switchyard {

// One of the two stacks: its layers, its name in the file, and what stands before its parameters in the model.
struct HfStack {
  ModelSpec spec;
  std::string file, model;
  [[nodiscard]] bool decodes() const { return spec.causal; }
};

class HfEncoderDecoder : public Family {
 public:
  HfEncoderDecoder(std::string model_type, std::string architecture) : model_type_(std::move(model_type)), architecture_(std::move(architecture)) {}

  [[nodiscard]] ModelSpec read_config(const ConfigNode& node) const final;
  [[nodiscard]] nlohmann::ordered_json write_config(const ModelSpec& spec) const final;
  [[nodiscard]] std::vector<Places> layouts(const LanguageModel& model) const final;

 protected:
  [[nodiscard]] virtual ModelSpec read(HfConfig& config) const = 0;
  // `s` is resolved and canonical, and has two stacks whose decoder is made as set_stacks does.
  virtual void write(nlohmann::ordered_json& config, const ModelSpec& s) const = 0;
  virtual void add_outer(Places& out, const ModelSpec& s) const = 0;  // embedding and head
  virtual void add_stack(Places& out, const HfStack& stack) const = 0;  // final norm, and what belongs to no layer
  virtual void add_layer(Places& out, const HfStack& stack, int64_t layer) const = 0;

 private:
  std::string model_type_, architecture_;
};

// Layers of both stacks by which of them are sparse; `cross` is the mixer that reads the source.
void set_stacks(ModelSpec& s, const std::vector<bool>& encoder, const std::vector<bool>& decoder, const BlockSpec& cross);
// The other way, block by block.
[[nodiscard]] std::vector<bool> sparse_blocks(const ModelSpec& stack);
// The kind of a network of two matrices by its activation, and the name of that activation in the file.
[[nodiscard]] BlockSpec plain_kind(HfConfig& config, const char* key, bool bias);
[[nodiscard]] std::string plain_name(const ModelSpec& s);

struct PlainNames {
  std::string in, out;  // of the two matrices: "wi", "wo"
};
// Both matrices, and with `bias` both biases, of expert `index` of the bank; width = {key, size}.
void add_plain_expert(Places& out, const std::string& file, const PlainNames& names, const std::string& bank, int64_t index, const Dimension& width,
                      int64_t d_model, bool bias);
// The classifier of a router, whose score block may have a bias.
inline const ConfigNode kScoreWithBias{{"kind", "linear"}, {"bias", true}};
[[nodiscard]] bool has_router_bias(const BlockSpec& gate);
void add_classifier(Places& out, const std::string& file, const std::string& score, const MoESpec& m, int64_t d_model);
// Projections of attention; `names` for q, k, v and o.
void add_projections(Places& out, const ModelSpec& s, const std::string& file, const std::array<const char*, 4>& names, const std::string& model, bool bias);

}  // namespace switchyard
