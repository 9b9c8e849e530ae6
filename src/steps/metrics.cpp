#include "steps/metrics.h"

namespace switchyard {

using Json = nlohmann::ordered_json;

Json to_json(const StepMetrics& m) {
  Json line = {{"kind", "train"}, {"step", m.step}, {"loss", m.loss}, {"lr", m.lr}, {"grad_norm", m.grad_norm},
               {"tokens", m.tokens}, {"tokens_per_s", m.tokens_per_s}, {"seconds", m.seconds}};
  for (const LayerMetrics& layer : m.layers) {
    line["load_cv"].push_back(layer.load_cv);
    line["load_cv_floor"].push_back(layer.load_cv_floor);
    line["dropped"].push_back(layer.dropped);
    line["entropy"].push_back(layer.entropy);
    line["load"].push_back(layer.load);
  }
  for (const LossValue& loss : m.aux) line["aux"][loss.name] = {{"raw", loss.raw}, {"weighted", loss.weighted}};
  return line;
}

Json to_json(const EvalMetrics& m) {
  return {{"kind", "eval"}, {"step", m.step}, {"loss", m.result.loss}, {"loss_se", m.result.loss_se},
          {"perplexity", m.result.perplexity}, {"bits_per_byte", m.result.bits_per_byte}, {"seconds", m.seconds}};
}

Json to_json(const EventMetrics& m) {
  return {{"kind", "event"}, {"step", m.step}, {"what", m.what}, {"seconds", m.seconds}};
}

}  // namespace switchyard
