// A layer whose experts live on several ranks is the layer of one rank, cut in pieces.
#include "dispatch/rank_cases.h"
#include "switchyard/moe.h"

#include <map>

namespace switchyard {
namespace {

using testing::all_close;
using testing::noise;

MoEOptions options_of() {
  MoEOptions o{.d_model = 12, .d_expert = 7, .num_experts = 12};
  o.gate = {"top_k", {{"k", 2}, {"renormalise", true}}};
  o.num_shared_experts = 1;
  o.init_std = o.init_out_std = 0.5;
  o.seed = 7;
  return o;
}

struct Whole {
  std::map<std::string, torch::Tensor> parameters, grads;
  torch::Tensor y, dx;
};

Whole on_one_rank(const torch::Tensor& x_in, const torch::Tensor& dy) {
  MoELayer layer(options_of());
  auto x = x_in.clone().requires_grad_();
  const auto y = layer.forward(x, {});
  (y * dy).sum().backward();
  Whole out{.parameters = {}, .grads = {}, .y = y.detach(), .dx = x.grad()};
  for (const auto& item : layer.named_parameters()) {
    out.parameters[item.key()] = item.value().detach();
    out.grads[item.key()] = item.value().grad();
  }
  return out;
}

class ParallelLayer : public ::testing::TestWithParam<std::tuple<int64_t, bool>> {};
INSTANTIATE_TEST_SUITE_P(Ranks, ParallelLayer, ::testing::Combine(::testing::Values(1, 2, 3, 4, 6), ::testing::Bool()), [](const auto& info) {
  return fmt::format("{}{}", std::get<0>(info.param), std::get<1>(info.param) ? "_one_idle" : "");
});

TEST_P(ParallelLayer, IsTheLayerOfOneRankCutInPieces) {
  const auto [ranks, idle] = GetParam();
  const auto x = noise({41, 12}, 3), dy = noise({41, 12}, 4);
  const auto whole = on_one_rank(x, dy);
  const auto bounds = testing::token_bounds(41, ranks, idle);
  for_each_rank(ranks, [&](const std::shared_ptr<Communicator>& comm) {
    const auto r = comm->rank();
    const auto per_rank = 12 / comm->size();
    auto o = options_of();
    o.dispatcher = "expert_parallel";
    o.communicator = comm;
    MoELayer layer(o);
    const auto tokens = [&](const torch::Tensor& v) { return v.slice(0, bounds[r], bounds[r + 1]); };
    const auto experts = [&](const torch::Tensor& v) { return v.slice(0, r * per_rank, (r + 1) * per_rank); };
    for (const auto& item : layer.named_parameters()) {
      const auto& all = whole.parameters.at(item.key());
      EXPECT_TRUE(torch::equal(item.value(), item.key().starts_with("experts.") ? experts(all) : all)) << item.key();
    }
    auto mine = tokens(x).clone().requires_grad_();
    const auto y = layer.forward(mine, {});
    (y * tokens(dy)).sum().backward();
    EXPECT_TRUE(torch::equal(y, tokens(whole.y))) << "rank " << r;
    EXPECT_TRUE(all_close(mine.grad(), tokens(whole.dx), 2e-6));
    for (const auto& item : layer.named_parameters()) {
      const auto grad = item.value().grad();
      ASSERT_TRUE(grad.defined()) << item.key();
      const auto& all = whole.grads.at(item.key());
      if (item.key().starts_with("experts.")) {
        EXPECT_TRUE(torch::equal(grad, experts(all))) << item.key();
      } else {
        comm->all_reduce_sum(std::span(grad.data_ptr<float>(), static_cast<size_t>(grad.numel())));
        EXPECT_TRUE(all_close(grad, all, 2e-6)) << item.key();
      }
    }
  });
}

}  // namespace
}  // namespace switchyard
