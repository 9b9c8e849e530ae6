// Experts live on different ranks: rows travel to them and back by all-to-all exchanges.
//
// Rank r of W holds the experts r * E/W .. (r+1) * E/W - 1. Rows at an expert are ordered by (source rank, token, choice):
// when the ranks hold consecutive ranges of the tokens, that is the order of a single process, and so are all sums over
// rows. Source: GShard, arXiv:2006.16668 section 3; dropless, with exact counts instead of padded buffers.
//
// Collective calls: three in forward (counts, rows, rows back) and two in backward (gradients of rows to the experts and
// back to the tokens), on every rank, also on one that has no tokens, whose tokens need no gradient or whose experts got
// no rows: the ranks must only agree on whether gradients are recorded, and if one runs backward through the result, all
// must, for the same layers. A rank that does not is reported as an error, not waited for.
#include "core/ops.h"
#include "core/torch_compat.h"
#include "switchyard/dispatcher.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>

#include <algorithm>
#include <cstring>
#include <numeric>

namespace switchyard {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

std::span<const std::byte> bytes_of(const torch::Tensor& x) { return {static_cast<const std::byte*>(x.data_ptr()), x.nbytes()}; }
std::span<std::byte> bytes_to(const torch::Tensor& x) { return {static_cast<std::byte*>(x.data_ptr()), x.nbytes()}; }

// Who sends how many rows to whom in one call of the layer. Autograd keeps it for the way back.
struct RowExchange final : torch::CustomClassHolder {
  std::shared_ptr<Communicator> communicator;
  int64_t experts = 0;            // that live on this rank
  std::vector<int64_t> sent;      // [W]: rows of this rank's tokens for the experts of each rank
  std::vector<int64_t> received;  // [W * experts]: rows of each source for each expert here
  torch::Tensor offsets;          // [experts + 1] int64: of the received rows, sorted by expert

  // rows [rows sent, d] sorted by expert -> [rows received, d], sorted by expert. One collective call.
  [[nodiscard]] torch::Tensor to_experts(const torch::Tensor& rows) const;
  // The inverse: [rows received, d] -> [rows sent, d]. One collective call.
  [[nodiscard]] torch::Tensor to_sources(const torch::Tensor& rows) const;

 private:
  enum class Way { to_expert_order, to_source_order };
  [[nodiscard]] torch::Tensor regroup(const torch::Tensor& rows, Way way) const;
  [[nodiscard]] std::vector<int64_t> sent_bytes(int64_t row) const;
  [[nodiscard]] std::vector<int64_t> received_bytes(int64_t row) const;
};

int64_t bytes_per_row(const torch::Tensor& rows) { return rows.size(1) * static_cast<int64_t>(rows.element_size()); }

std::vector<int64_t> RowExchange::sent_bytes(int64_t row) const {
  auto out = sent;
  for (auto& n : out) n *= row;
  return out;
}

std::vector<int64_t> RowExchange::received_bytes(int64_t row) const {
  std::vector<int64_t> out(sent.size());
  for (size_t i = 0; i < received.size(); ++i) out[i / static_cast<size_t>(experts)] += received[i] * row;
  return out;
}

// Rows arrive as runs ordered by (source, expert) and are computed ordered by (expert, source): W * experts copies.
torch::Tensor RowExchange::regroup(const torch::Tensor& rows, Way way) const {
  if (experts == 1) return rows;
  auto out = torch::empty_like(rows);
  const auto row = bytes_per_row(rows);
  const auto* from = bytes_of(rows).data();
  auto* to = bytes_to(out).data();
  const auto* first = offsets.data_ptr<int64_t>();
  std::vector<int64_t> next(first, first + experts);  // the next free row of each expert, in expert order
  int64_t in_source_order = 0;
  for (size_t i = 0; i < received.size(); ++i) {
    const auto n = received[i];
    auto& in_expert_order = next[i % static_cast<size_t>(experts)];
    const auto [read, write] = way == Way::to_expert_order ? std::pair{in_source_order, in_expert_order} : std::pair{in_expert_order, in_source_order};
    if (n > 0) std::memcpy(to + write * row, from + read * row, static_cast<size_t>(n * row));
    in_source_order += n;
    in_expert_order += n;
  }
  return out;
}

torch::Tensor RowExchange::to_experts(const torch::Tensor& rows_in) const {
  const auto rows = rows_in.contiguous();
  const auto row = bytes_per_row(rows);
  auto arrived = torch::empty({offsets.data_ptr<int64_t>()[experts], rows.size(1)}, rows.options());
  communicator->all_to_all_v(bytes_of(rows), sent_bytes(row), bytes_to(arrived), received_bytes(row));
  return regroup(arrived, Way::to_expert_order);
}

torch::Tensor RowExchange::to_sources(const torch::Tensor& rows_in) const {
  const auto rows = regroup(rows_in.contiguous(), Way::to_source_order);
  const auto row = bytes_per_row(rows);
  auto home = torch::empty({std::accumulate(sent.begin(), sent.end(), int64_t{0}), rows.size(1)}, rows.options());
  communicator->all_to_all_v(bytes_of(rows), received_bytes(row), bytes_to(home), sent_bytes(row));
  return home;
}

using Exchange = c10::intrusive_ptr<RowExchange>;

const RowExchange& saved_exchange(AutogradContext* ctx) { return static_cast<const RowExchange&>(*ctx->saved_data["exchange"].toCapsule()); }

// `anchor` is an empty tensor that asks for a gradient, so that backward runs on every rank even if nothing else does.
// The second output is the anchor of the way back: it ties the backward of both ways together, whatever the experts do.
struct ToExperts : torch::autograd::Function<ToExperts> {
  static tensor_list forward(AutogradContext* ctx, const torch::Tensor& rows, const torch::Tensor& anchor, const Exchange& exchange) {
    ctx->saved_data["exchange"] = c10::IValue::make_capsule(exchange);
    return {exchange->to_experts(rows), torch::empty_like(anchor)};
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) { return {saved_exchange(ctx).to_sources(grads[0]), {}, {}}; }
};

struct ToSources : torch::autograd::Function<ToSources> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& rows, const torch::Tensor& anchor, const Exchange& exchange) {
    ctx->saved_data["exchange"] = c10::IValue::make_capsule(exchange);
    return exchange->to_sources(rows);
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) { return {saved_exchange(ctx).to_experts(grads[0]), {}, {}}; }
};

struct ExchangeTicket final : Ticket {
  explicit ExchangeTicket(DispatchPlan p) : plan(std::move(p)) {}
  DispatchPlan plan;
  Exchange exchange;  // null: one rank, nothing travels
  torch::Tensor anchor;
};

class ExpertParallel final : public Dispatcher {
 public:
  using Options = NoOptions;
  ExpertParallel(const Options&, const DispatchShape& s) : communicator_(s.communicator ? s.communicator : self_communicator()) {
    const auto ranks = communicator_->size();
    if (s.num_experts % ranks != 0)
      fail(ErrorKind::config, "dispatcher 'expert_parallel': num_experts = {} does not divide over {} ranks; use a multiple of {}", s.num_experts, ranks, ranks);
    experts_ = s.num_experts / ranks;
  }

  Dispatched dispatch(const torch::Tensor& tokens, const DispatchPlan& plan) override;
  torch::Tensor combine(const torch::Tensor& rows, const Ticket& ticket, const torch::Tensor& weights) override;
  std::pair<int64_t, int64_t> local_experts() const override { return {communicator_->rank() * experts_, experts_}; }

 private:
  [[nodiscard]] Exchange exchange_counts(const torch::Tensor& rows, const DispatchPlan& plan) const;

  std::shared_ptr<Communicator> communicator_;
  int64_t experts_ = 0;  // per rank
};

// What ranks tell each other before rows travel; the counts of the receiver's experts follow.
struct Notice {
  int64_t width = 0, scalar_type = 0, records_gradients = 0;
  bool operator==(const Notice&) const = default;
  [[nodiscard]] std::string text() const {
    return fmt::format("rows of {} {} {} gradients", width, torch::toString(static_cast<torch::ScalarType>(scalar_type)),
                       records_gradients ? "with" : "without");
  }
};
constexpr int64_t kNoticeWords = sizeof(Notice) / sizeof(int64_t);

Exchange ExpertParallel::exchange_counts(const torch::Tensor& rows, const DispatchPlan& plan) const {
  const auto ranks = communicator_->size(), words = kNoticeWords + experts_;
  if (plan.offsets.size(0) != ranks * experts_ + 1)
    fail(ErrorKind::internal, "dispatcher 'expert_parallel': the plan has {} experts, expected {}", plan.offsets.size(0) - 1, ranks * experts_);
  const Notice mine{rows.size(1), static_cast<int64_t>(rows.scalar_type()), at::GradMode::is_enabled()};
  const auto* offset = plan.offsets.data_ptr<int64_t>();
  std::vector<int64_t> send, recv(static_cast<size_t>(ranks * words));
  for (int64_t r = 0; r < ranks; ++r) {
    send.insert(send.end(), {mine.width, mine.scalar_type, mine.records_gradients});
    for (int64_t e = r * experts_; e < (r + 1) * experts_; ++e) send.push_back(offset[e + 1] - offset[e]);
  }
  const std::vector<int64_t> bytes(static_cast<size_t>(ranks), words * static_cast<int64_t>(sizeof(int64_t)));
  communicator_->all_to_all_v(std::as_bytes(std::span(send)), bytes, std::as_writable_bytes(std::span(recv)), bytes);

  auto out = c10::make_intrusive<RowExchange>();
  out->communicator = communicator_;
  out->experts = experts_;
  out->offsets = torch::zeros({experts_ + 1}, torch::kInt64);
  auto* here = out->offsets.data_ptr<int64_t>();
  for (int64_t r = 0; r < ranks; ++r) {
    const auto* from = recv.data() + r * words;
    if (const Notice theirs{from[0], from[1], from[2]}; theirs != mine)
      fail(ErrorKind::communication, "rank {} of {}: rank {} dispatches {}, this rank {}", communicator_->rank(), ranks, r, theirs.text(), mine.text());
    out->sent.push_back(offset[(r + 1) * experts_] - offset[r * experts_]);
    for (int64_t e = 0; e < experts_; ++e) here[e + 1] += out->received.emplace_back(from[kNoticeWords + e]);
  }
  std::partial_sum(here, here + experts_ + 1, here);
  return out;
}

Dispatched ExpertParallel::dispatch(const torch::Tensor& tokens, const DispatchPlan& plan) {
  const auto rows = ops::gather_rows(tokens, plan);
  const auto ticket = std::make_shared<ExchangeTicket>(plan);
  if (communicator_->size() == 1) return {rows, plan.offsets, ticket};
  if (!rows.device().is_cpu()) fail(ErrorKind::unsupported, "dispatcher 'expert_parallel' moves rows in host memory, they are on {}", rows.device().str());
  ticket->exchange = exchange_counts(rows, plan);
  const auto anchor = torch::empty({0}).requires_grad_();
  const auto arrived = ToExperts::apply(rows, anchor, ticket->exchange);
  ticket->anchor = arrived[1];
  return {arrived[0], ticket->exchange->offsets, ticket};
}

torch::Tensor ExpertParallel::combine(const torch::Tensor& rows, const Ticket& ticket, const torch::Tensor& weights) {
  const auto& t = static_cast<const ExchangeTicket&>(ticket);
  const auto home = t.exchange ? ToSources::apply(rows, t.anchor, t.exchange) : rows;
  return ops::combine_rows(home, weights, t.plan);
}

}  // namespace

DispatcherEntry dispatcher_expert_parallel() {
  return plug_in<ExpertParallel, DispatcherEntry>("expert_parallel", "arXiv:2006.16668", "experts shared out over ranks: all-to-all exchange of rows");
}

}  // namespace switchyard
