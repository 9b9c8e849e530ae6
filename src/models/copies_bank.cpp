#include "models/copies_bank.h"

#include "core/beside.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

// The call as a batch of the given rows alone. `mine` [B', S]: who takes part; the others are padding to those who do.
CallContext rows_of(const CallContext& call, const torch::Tensor& texts, const torch::Tensor& mine) {
  const int64_t rows = call.positions.size(0), seq = call.positions.size(1);
  const auto pick = [&](const torch::Tensor& per_row) { return per_row.defined() ? per_row.index_select(0, texts) : per_row; };
  const auto pick_tokens = [&](const torch::Tensor& per_token) {
    return per_token.defined() ? per_token.view({rows, seq}).index_select(0, texts).view({-1}) : per_token;
  };
  CallContext out = call;
  out.positions = pick(call.positions);
  out.q_segments = pick(call.q_segments);
  out.k_segments = pick(call.k_segments);
  for (torch::Tensor* per_token : {&out.valid, &out.token_ids, &out.sequence_ids, &out.tags, &out.previous_ids}) *per_token = pick_tokens(*per_token);
  if (mine.all().item<bool>()) return out;
  out.valid = out.valid.defined() ? out.valid & mine.view({-1}) : mine.view({-1});
  const auto hide = [&](const torch::Tensor& segments) {
    return (segments.defined() ? segments : torch::zeros_like(mine, torch::kInt32)).masked_fill(~mine, -1);
  };
  out.q_segments = hide(out.q_segments);
  const int64_t before = out.k_segments.defined() ? out.k_segments.size(1) - seq : 0;  // what a cache holds
  out.k_segments = before == 0 ? out.q_segments : at::cat({out.k_segments.slice(1, 0, before), out.q_segments}, 1);
  return out;
}

}  // namespace

CopiesBank::CopiesBank(const ModelSpec& copy, int64_t layer, int64_t num_copies, std::optional<uint64_t> seed) : layer_(layer) {
  for (int64_t i = 0; i < num_copies; ++i) {
    const auto own = seed ? std::optional(RandomStream(*seed, "layer_copy").at("copy", static_cast<uint64_t>(i)).bits(0)) : std::nullopt;
    copies_.push_back(register_module(std::to_string(i), std::make_shared<Block>(copy, layer, own)));
  }
}

torch::Tensor CopiesBank::forward(const torch::Tensor& rows, const torch::Tensor& offsets, const RowContext& context) {
  if (!call_) fail(ErrorKind::internal, "the copies of layer {} were asked for rows outside a call", layer_);
  const auto* first = offsets.data_ptr<int64_t>();
  std::vector<torch::Tensor> out;
  for (size_t i = 0; i < copies_.size(); ++i)
    if (first[i + 1] > first[i]) out.push_back(run(i, rows.slice(0, first[i], first[i + 1]), context.row_token.slice(0, first[i], first[i + 1])));
  return out.empty() ? rows : at::cat(out, 0);
}

torch::Tensor CopiesBank::run(size_t copy, const torch::Tensor& rows, const torch::Tensor& token) {
  if (rows.size(0) != call_->positions.numel()) return run_part(copy, rows, token);
  CallContext call = *call_;  // the rows of a copy are in the order of their tokens: this is the whole batch
  call.random = call.random.at("copy", copy);
  BlockTrace unused;
  return copies_[copy]->forward(rows.view({call.positions.size(0), call.positions.size(1), -1}), call, cache_, unused).view(rows.sizes());
}

torch::Tensor CopiesBank::run_part(size_t copy, const torch::Tensor& rows, const torch::Tensor& token) {
  const int64_t seq = call_->positions.size(1), width = rows.size(1);
  const auto [texts, number] = at::_unique(at::floor_divide(token, seq), /*sorted=*/true, /*return_inverse=*/true);
  refuse_split(copy, token, texts);
  const auto place = number * seq + token % seq;
  const auto x = torch::zeros({texts.size(0) * seq, width}, rows.options().requires_grad(false)).index_copy(0, beside(rows, place), rows);
  const auto mine = torch::zeros({texts.size(0) * seq}, torch::kBool).index_fill_(0, place, true).view({-1, seq});
  CallContext call = rows_of(*call_, texts, mine);
  call.random = call.random.at("copy", copy);
  BlockTrace unused;
  if (!cache_) return copies_[copy]->forward(x.view({-1, seq, width}), call, nullptr, unused).view({-1, width}).index_select(0, beside(rows, place));
  LayerCache part{.state = {}, .length = cache_->length};
  for (const auto& all : cache_->state) part.state.push_back(all.index_select(0, beside(all, texts)));
  const auto y = copies_[copy]->forward(x.view({-1, seq, width}), call, &part, unused);
  for (size_t i = 0; i < part.state.size(); ++i) cache_->state[i].index_copy_(0, beside(part.state[i], texts), part.state[i]);
  return y.view({-1, width}).index_select(0, beside(y, place));
}

// Where all tokens of the touched rows of text are here, nothing is split.
void CopiesBank::refuse_split(size_t copy, const torch::Tensor& token, const torch::Tensor& texts) const {
  if (token.size(0) == texts.size(0) * call_->positions.size(1)) return;
  const auto& sequence = call_->sequence_ids;  // -1 = padding
  const auto here = sequence.index_select(0, token);
  const auto present = torch::zeros({sequence.max().item<int64_t>() + 1}, torch::kBool).index_fill_(0, here, true);
  auto elsewhere = (sequence >= 0) & present.index_select(0, sequence.clamp_min(0));
  elsewhere.index_fill_(0, token, false);
  if (elsewhere.any().item<bool>())
    fail(ErrorKind::usage,
         "layers.{}: a sequence is split between copy {} and another one; all its tokens must choose the same copies: pool = 'tag' with documents "
         "apart (data.cross_documents = false), or pool = 'sequence'",
         layer_, copy);
}

int64_t CopiesBank::parameters_per_expert() const {
  int64_t out = 0;
  for (const auto& p : copies_.at(0)->parameters()) out += p.numel();
  return out;
}

// Of the matrices; what attention does with its keys depends on the length of the text.
double CopiesBank::flops_per_row() const {
  int64_t out = 0;
  for (const auto& p : copies_.at(0)->parameters()) out += p.dim() > 1 ? 2 * p.numel() : 0;
  return static_cast<double>(out);
}

torch::Tensor CopiesBank::flat_weights() const {
  std::vector<torch::Tensor> out;
  for (const auto& copy : copies_) {
    std::vector<torch::Tensor> matrices;
    for (const auto& p : copy->parameters())
      if (p.dim() > 1) matrices.push_back(p.detach().flatten());
    out.push_back(at::cat(matrices));
  }
  return at::stack(out);
}

}  // namespace switchyard
