// What only a dispatcher with ranks can get wrong: plans that differ per rank, calls that do not match, layers cut in pieces.
#include "core/registries.h"
#include "dispatch/rank_cases.h"
#include "expect_error.h"
#include "switchyard/moe.h"

#include <map>

namespace switchyard {
namespace {

using testing::all_close;
using testing::expect_error;
using testing::noise;
using testing::Pass;
using Comm = std::shared_ptr<Communicator>;

// Every rank gets for its tokens what it would get alone with all experts; the gradients of an expert add up over ranks.
void expect_what_each_rank_gets_alone(const std::function<Routing(int64_t rank, int64_t tokens)>& decide, const CapacityOptions& capacity) {
  constexpr int64_t ranks = 3, experts = 6;
  std::vector<Pass> got(ranks), want(ranks);
  const auto priority = priority_registry().make(capacity.priority);
  for_each_rank(ranks, [&](const Comm& comm) {
    const auto r = comm->rank(), tokens = 5 + 7 * r;
    const auto x = noise({tokens, testing::kWidth}, 30 + r), dy = noise({tokens, testing::kWidth}, 40 + r);
    const auto routing = decide(r, tokens);
    const auto run = [&](const std::string& kind, const Comm& communicator) {
      const auto dispatcher = dispatcher_registry().make(kind, DispatchShape{experts, communicator});
      const auto bank = testing::bank_of(experts, dispatcher->local_experts(), torch::kFloat32);
      return testing::pass_through(*dispatcher, *bank, x, routing, dy, experts, capacity, priority.get());
    };
    got[r] = run("expert_parallel", comm);
    want[r] = run("local", nullptr);
  });
  auto dw_in = torch::zeros_like(want[0].dw_in), dw_out = torch::zeros_like(want[0].dw_out);
  for (int64_t r = 0; r < ranks; ++r) {
    EXPECT_GT(want[r].y.abs().max().item<double>(), 0);
    EXPECT_TRUE(torch::equal(got[r].y, want[r].y)) << r;
    EXPECT_TRUE(torch::equal(got[r].dx, want[r].dx)) << r;
    EXPECT_TRUE(torch::equal(got[r].dweights, want[r].dweights)) << r;
    dw_in += want[r].dw_in;
    dw_out += want[r].dw_out;
  }
  EXPECT_TRUE(all_close(testing::joined(got).dw_in, dw_in, 2e-6));
  EXPECT_TRUE(all_close(testing::joined(got).dw_out, dw_out, 2e-6));
}

TEST(ExpertParallel, DropsPerRankWhatThatRankWouldDropAlone) {
  CapacityOptions half;
  half.factor = 0.5;
  expect_what_each_rank_gets_alone(
      [](int64_t r, int64_t tokens) {
        return Routing{.choice = TokenChoice{std::get<1>(noise({tokens, 6}, 50 + r).topk(2, -1)), at::softmax(noise({tokens, 2}, 60 + r), -1)}, .scores = {}};
      },
      half);
}

TEST(ExpertParallel, CarriesExpertChoice) {
  expect_what_each_rank_gets_alone(
      [](int64_t r, int64_t tokens) {
        auto ids = std::get<1>(noise({6, tokens}, 50 + r).topk(4, -1)).clone();  // [E, 4]
        ids[1].fill_(-1);
        ids[4][2] = -1;
        return Routing{.choice = ExpertChoice{ids, at::softmax(noise({6, 4}, 60 + r), -1)}, .scores = {}};
      },
      {});
}

// Counts exchanges on their way to another communicator.
class Counting final : public Communicator {
 public:
  explicit Counting(Comm inner) : inner_(std::move(inner)) {}
  int64_t exchanges = 0;
  int64_t rank() const override { return inner_->rank(); }
  int64_t size() const override { return inner_->size(); }
  Comm split(int64_t colour, int64_t key) override { return inner_->split(colour, key); }
  void all_to_all_v(std::span<const std::byte> send, std::span<const int64_t> send_bytes, std::span<std::byte> recv,
                    std::span<const int64_t> recv_bytes) override {
    ++exchanges;
    inner_->all_to_all_v(send, send_bytes, recv, recv_bytes);
  }
  void all_reduce_sum(std::span<float> v) override { inner_->all_reduce_sum(v); }
  void all_reduce_sum(std::span<double> v) override { inner_->all_reduce_sum(v); }
  void all_reduce_sum(std::span<int64_t> v) override { inner_->all_reduce_sum(v); }
  void all_gather(std::span<const std::byte> send, std::span<std::byte> recv) override { inner_->all_gather(send, recv); }
  void broadcast(std::span<std::byte> v, int64_t root) override { inner_->broadcast(v, root); }
  void barrier() override { inner_->barrier(); }

 private:
  Comm inner_;
};

// A layer of four experts and the tokens of one rank, with switches for what a rank may lack.
struct Part {
  explicit Part(const Comm& comm, int64_t tokens = 6) {
    dispatcher = dispatcher_registry().make("expert_parallel", DispatchShape{4, comm});
    bank = testing::bank_of(4, dispatcher->local_experts(), torch::kFloat32);
    x = noise({tokens, testing::kWidth}, 3).requires_grad_();
  }
  std::shared_ptr<Dispatcher> dispatcher;
  std::shared_ptr<ExpertBank> bank;
  torch::Tensor x;
  bool disconnect_bank = false;

  torch::Tensor forward() const {
    GateInput input;
    input.hidden = x;
    const auto tokens = x.size(0);
    const TokenChoice choice{torch::arange(tokens, torch::kInt64).unsqueeze(1) % 4, torch::ones({tokens, 1})};
    const auto sent = dispatcher->dispatch(x, plan_dispatch({.choice = choice, .scores = {}}, input, 4, {}, nullptr).plan);
    auto rows = bank->forward(sent.rows, sent.offsets, {});
    if (disconnect_bank) rows = rows.detach();
    return dispatcher->combine(rows, *sent.ticket, choice.weights);
  }
};

TEST(ExpertParallel, MakesThreeExchangesForwardAndTwoBackwardWhateverARankLacks) {
  const std::map<std::string, std::function<void(Part&)>> lacks = {
      {"nothing", [](Part&) {}},
      {"tokens", [](Part& p) { p.x = torch::zeros({0, testing::kWidth}).requires_grad_(); }},
      {"gradients of tokens", [](Part& p) { p.x = p.x.detach(); }},
      {"tokens and their gradients", [](Part& p) { p.x = torch::zeros({0, testing::kWidth}); }},
      {"trainable experts", [](Part& p) { for (auto& w : p.bank->parameters()) w.requires_grad_(false); }},
      {"everything", [](Part& p) {
         p.x = torch::zeros({0, testing::kWidth});
         for (auto& w : p.bank->parameters()) w.requires_grad_(false);
       }},
      {"experts that pass gradients", [](Part& p) { p.disconnect_bank = true; }}};
  for (const auto& [what, take_away] : lacks)
    for (const int64_t lacking : {0, 1}) {
      SCOPED_TRACE(fmt::format("rank {} lacks {}", lacking, what));
      for_each_rank(2, [&, &take_away = take_away](const Comm& comm) {
        const auto counting = std::make_shared<Counting>(comm);
        Part part(counting);
        if (comm->rank() == lacking) take_away(part);
        const auto y = part.forward();
        EXPECT_EQ(counting->exchanges, 3);
        EXPECT_TRUE(y.requires_grad());
        y.sum().backward();
        EXPECT_EQ(counting->exchanges, 5);
        EXPECT_EQ(part.x.grad().defined(), part.x.requires_grad());
        const torch::NoGradGuard no_grad;
        EXPECT_FALSE(part.forward().requires_grad());
        EXPECT_EQ(counting->exchanges, 8);
      });
    }
}

TEST(ExpertParallel, OneRankSendsNothing) {
  const auto counting = std::make_shared<Counting>(self_communicator());
  const Part part(counting);
  part.forward().sum().backward();
  EXPECT_EQ(counting->exchanges, 0);
}

TEST(ExpertParallel, RefusesRanksThatDoNotFitTogether) {
  const auto refused = [](std::string_view words, const std::function<void(Part&)>& body) {
    expect_error(ErrorKind::communication, {words}, [&] {
      for_each_rank(2, [&](const Comm& comm) {
        Part part(comm);
        body(part);
      });
    });
  };
  const auto first = [](const Part& p) { return p.dispatcher->local_experts().first == 0; };
  refused("rows of 10 Float without gradients", [&](Part& p) {
    const at::AutoGradMode mode(first(p));
    (void)p.forward();
  });
  refused("rows of 9 Float with gradients", [&](Part& p) {
    if (first(p)) p.x = p.x.detach().slice(1, 0, 9);
    (void)p.forward();
  });
  refused("rows of 10 Double with gradients", [&](Part& p) {
    if (first(p)) p.x = p.x.detach().to(torch::kFloat64);
    (void)p.forward();
  });
  refused("has returned and takes no part in all_to_all_v", [&](Part& p) {  // only one rank runs backward
    const auto y = p.forward();
    if (first(p)) y.sum().backward();
  });
}

TEST(ExpertParallel, RefusesExpertsThatDoNotDivideOverTheRanks) {
  expect_error(ErrorKind::config, {"num_experts = 8 does not divide over 3 ranks; use a multiple of 3"}, [] {
    for_each_rank(3, [](const Comm& comm) { (void)dispatcher_registry().make("expert_parallel", DispatchShape{8, comm}); });
  });
  expect_error(ErrorKind::config, {"dispatcher 'local' works on one rank, the communicator has 2"}, [] {
    for_each_rank(2, [](const Comm& comm) { (void)dispatcher_registry().make("local", DispatchShape{8, comm}); });
  });
}

}  // namespace
}  // namespace switchyard
