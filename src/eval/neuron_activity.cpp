#include "eval/neuron_activity.h"

#include "core/expert_of_rows.h"
#include "core/ffn_bank.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

// The tokens of the call that is observed.
struct Call {
  torch::Tensor place;  // [T] int64: index among the tokens that count, -1 for padding
  int64_t tokens = 0;   // that count
};

// Adds up what one bank does; lets go of it at the end.
class Watch {
 public:
  Watch(FfnBank& bank, BankActivity& out, const ActivityOptions& options, const Call& call) : bank_(bank), out_(out), options_(options), call_(call) {
    out.active = torch::zeros({bank.num_local_experts(), bank.d_expert()}, torch::kInt64);
    out.rows = torch::zeros({bank.num_local_experts()}, torch::kInt64);
    bank.observe([this](const torch::Tensor& offsets, const torch::Tensor& h, const RowContext& context) { add(offsets, h.detach(), context); });
  }
  ~Watch() { bank_.observe(nullptr); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  // Values of the tokens of this call behind those of the calls before.
  void end_call() {
    if (!options_.keep_values) return;
    parts_.push_back(now_.defined() ? now_ : torch::zeros({call_.tokens, out_.active.numel()}));
    now_ = torch::Tensor();
  }
  void finish() {
    if (options_.keep_values) out_.values = parts_.empty() ? torch::zeros({0, out_.active.numel()}) : at::cat(parts_);
  }

 private:
  void add(const torch::Tensor& offsets, const torch::Tensor& h, const RowContext& context) {
    const int64_t experts = out_.active.size(0), width = out_.active.size(1);
    if (offsets.size(0) != experts + 1 || !context.row_token.defined()) return;  // merged experts, rows of other ranks
    const auto expert = expert_of_rows(offsets);
    const auto place = call_.place.index_select(0, context.row_token);
    const auto counted = (place >= 0).nonzero().view({-1});
    const auto who = expert.index_select(0, counted), values = h.index_select(0, counted).to(torch::kFloat32);
    out_.active.index_add_(0, who, (values.abs() > options_.epsilon).to(torch::kInt64));
    out_.rows.index_add_(0, who, torch::ones_like(who));
    if (!options_.keep_values) return;
    if (!now_.defined()) now_ = torch::zeros({call_.tokens, experts * width});
    now_.view({-1, width}).index_copy_(0, place.index_select(0, counted) * experts + who, values);
  }

  FfnBank& bank_;
  BankActivity& out_;
  const ActivityOptions& options_;
  const Call& call_;
  torch::Tensor now_;
  std::vector<torch::Tensor> parts_;
};

}  // namespace

double BankActivity::ratio() const {
  const double seen = rows.sum().item<double>() * static_cast<double>(active.size(1));
  return active.sum().item<double>() / seen;
}

torch::Tensor BankActivity::expert_ratios() const {
  return active.sum(1).to(torch::kFloat64) / (rows.to(torch::kFloat64) * static_cast<double>(active.size(1)));
}

NeuronActivity neuron_activity(LanguageModel& model, const data::TokenStream& text, const ActivityOptions& options) {
  if (!(options.epsilon >= 0)) fail(ErrorKind::usage, "neurons: epsilon = {}, expected 0 or more", options.epsilon);
  NeuronActivity out;
  Call call;
  std::vector<std::unique_ptr<Watch>> watches;
  for (const auto& item : model.named_modules("", /*include_self=*/false))
    if (auto* bank = dynamic_cast<FfnBank*>(item.value().get()))
      watches.push_back(std::make_unique<Watch>(*bank, out.banks[item.key()], options, call));
  const auto before = [&](const data::Batch& batch) {
    call.place = places_of(batch);
    call.tokens = call.place.max().item<int64_t>() + 1;
    for (size_t t = 0; options.keep_values && t < batch.segments.size(); ++t)
      if (batch.segments[t] >= 0) out.domains.push_back(batch.tags.empty() ? 0 : batch.tags[t]);
  };
  const auto after = [&](const data::Batch&) {
    for (auto& watch : watches) watch->end_call();
  };
  visit_windows(model, text, options.windows, before, after);
  for (auto& watch : watches) watch->finish();
  return out;
}

}  // namespace switchyard
