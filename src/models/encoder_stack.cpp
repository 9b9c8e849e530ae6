#include "models/encoder_stack.h"

#include "models/mixer_of.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

bool reads_source(const ModelSpec& s, int64_t layer) {
  const auto mixer = sizes_of_mixer(s, layer);
  return mixer && mixer->reads_memory();
}

int64_t readers_of(const ModelSpec& s) {
  int64_t out = 0;
  const int64_t period = s.pattern.empty() ? 1 : static_cast<int64_t>(s.pattern.size());
  for (int64_t i = 0; i < std::min(period, s.num_layers); ++i) out += reads_source(s, i);
  return out;
}

}  // namespace

ModelSpec encoder_spec(const ModelSpec& model) {
  ModelSpec out = model;
  out.encoder.reset();
  out.causal = false;
  out.num_layers = model.encoder->num_layers;
  out.pattern = model.encoder->pattern;
  out.tie_embeddings = true;
  out.head_bias = false;
  out.logit_scale = 1;
  out.mixtures.clear();
  if (out.moe) {
    bool any = false;
    for (int64_t i = 0; i < out.num_layers; ++i) any = any || out.is_moe_layer(i);
    if (!any) out.moe.reset();
  }
  return out;
}

void resolve_encoder(ModelSpec& model) {
  const int64_t readers = readers_of(model);
  if (!model.encoder) {
    if (readers > 0) fail(ErrorKind::config, "model: a layer has the mixer cross_attention, but there is no [model.encoder] whose output it could read");
    return;
  }
  if (readers == 0) fail(ErrorKind::config, "model.encoder: no layer of model.pattern has the mixer cross_attention, so nobody reads what the encoder makes");
  if (!model.causal) fail(ErrorKind::config, "model.causal = false, but a decoder behind model.encoder writes token by token; expected true");
  try {
    model.encoder->pattern = encoder_spec(model).resolved().pattern;
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("model.encoder: {}", error.what()));
  }
}

void refuse_encoder(const ModelSpec& model, const char* what) {
  if (model.encoder) fail(ErrorKind::unsupported, "{} works with models of one stack, and this one has an encoder, which needs a source beside each text", what);
}

int64_t block_of_layer(const ModelSpec& stack, int64_t layer) {
  int64_t begun = 0;
  for (int64_t i = 0; i <= layer; ++i) begun += stack.layer(i).mixer.has_value() && !reads_source(stack, i);
  return begun - 1;
}

}  // namespace switchyard
