#include "steps/slice_sets.h"

#include "core/ffn_bank.h"
#include "data/batches.h"
#include "eval/batch_tensors.h"
#include "models/eval_mode.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace switchyard {
namespace {

std::vector<FfnBank*> networks_of(LanguageModel& model) {
  std::vector<FfnBank*> out;
  const auto modules = model.named_modules("", /*include_self=*/false);
  for (int64_t i = 0; i < model.spec().num_layers; ++i) {
    const auto* module = modules.find("layers." + std::to_string(i) + ".ffn");
    auto* bank = module ? dynamic_cast<FfnBank*>(module->get()) : nullptr;
    if (!bank) fail(ErrorKind::unsupported, "slice: layer {} has no feed-forward network with inner neurons", i);
    out.push_back(bank);
  }
  return out;
}

torch::Tensor unit_rows(const torch::Tensor& x) { return x / x.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-12); }

// Inner activations of all layers over a text, with the gradient of the loss when asked for: [layer] of [f, tokens].
class Recorder {
 public:
  Recorder(LanguageModel& model, bool gradients) : model_(model), gradients_(gradients), banks_(networks_of(model)), parts_(banks_.size()), now_(banks_.size()) {
    for (size_t i = 0; i < banks_.size(); ++i)
      banks_[i]->observe([this, i](const torch::Tensor&, const torch::Tensor& h, const RowContext&) {
        now_[i] = h;
        if (gradients_) now_[i].retain_grad();
      });
  }
  ~Recorder() {
    for (FfnBank* bank : banks_) bank->observe(nullptr);
  }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  void add(const data::Batch& batch) {
    const auto tensors = to_tensors(batch);
    const at::AutoGradMode grad(gradients_);
    const auto out = model_.forward(tensors.tokens);
    if (gradients_) ops::cross_entropy(model_.logits(out.hidden).flatten(0, 1), tensors.labels).sum().backward();
    const auto counted = (places_of(batch) >= 0).nonzero().view({-1});
    for (size_t i = 0; i < now_.size(); ++i) {
      const auto value = gradients_ ? (now_[i] * now_[i].grad()).abs() : now_[i];
      parts_[i].push_back(value.detach().index_select(0, counted));
      now_[i] = torch::Tensor();
    }
    for (auto& p : model_.parameters()) p.mutable_grad() = torch::Tensor();
  }

  [[nodiscard]] torch::Tensor features(size_t layer) const { return unit_rows(at::cat(parts_[layer]).t().contiguous()); }

 private:
  LanguageModel& model_;
  bool gradients_;
  std::vector<FfnBank*> banks_;
  std::vector<std::vector<torch::Tensor>> parts_;
  std::vector<torch::Tensor> now_;
};

}  // namespace

std::vector<NeuronSets> slice_sets(LanguageModel& dense, const std::string& method, int64_t num_experts, uint64_t seed, const data::TokenStream* text,
                                   const WindowOptions& windows) {
  const auto banks = networks_of(dense);
  const RandomStream random(seed, "slice");
  const auto of_layer = [&](size_t i) { return random.at("layer", i); };
  std::vector<NeuronSets> out;
  if (method == "random") {
    for (size_t i = 0; i < banks.size(); ++i) out.push_back(random_sets(banks[i]->d_expert(), num_experts, of_layer(i)));
  } else if (method == "clusters") {
    for (size_t i = 0; i < banks.size(); ++i)
      out.push_back(balanced_clusters(banks[i]->named_parameters()["w_in"].detach()[0].slice(0, 0, banks[i]->d_expert()), num_experts, of_layer(i)));
  } else if (method == "coactivation" || method == "gradient") {
    if (!text) fail(ErrorKind::usage, "slice: method '{}' needs a text", method);
    const EvalMode mode(dense);
    const ComputeScope scope(windows.compute);
    Recorder recorder(dense, method == "gradient");
    const data::EvalBatches batches(*text, {.seq_len = windows.seq_len, .batch_size = 8, .cross_documents = windows.cross_documents,
                                            .max_windows = (windows.max_tokens + windows.seq_len - 1) / windows.seq_len});
    if (batches.size() == 0) fail(ErrorKind::usage, "slice: the text has no tokens for method '{}'", method);
    for (int64_t b = 0; b < batches.size(); ++b) recorder.add(batches.batch(b));
    for (size_t i = 0; i < banks.size(); ++i) out.push_back(balanced_clusters(recorder.features(i), num_experts, of_layer(i)));
  } else {
    fail(ErrorKind::usage, "slice: method '{}', expected random, clusters, coactivation or gradient", method);
  }
  return out;
}

}  // namespace switchyard
