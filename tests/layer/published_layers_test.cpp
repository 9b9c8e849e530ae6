// What the entries of published layers promise, on whole layers.
#include "support/moe_oracle.h"
#include "switchyard/moe.h"

#include <map>

namespace switchyard::published_layers_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;

torch::Tensor noise(torch::IntArrayRef shape, uint64_t seed) {
  auto x = torch::empty(shape);
  RandomStream(seed).fill_normal(x.data_ptr<float>(), x.numel());
  return x;
}

MoEOptions options_of(int64_t experts, const BlockSpec& gate, const char* kind = "swiglu") {
  MoEOptions o{.d_model = 12, .d_expert = 8, .num_experts = experts, .gate = gate, .experts = kind};
  o.init_std = o.init_out_std = 0.5;
  o.seed = 7;
  return o;
}

BlockSpec raw_top(int64_t k) { return {"top_k", {{"k", k}, {"renormalise", false}}}; }

TEST(DenseLayer, EqualsTopKOfAllExperts) {
  MoELayer dense(options_of(6, "dense")), renormalised(options_of(6, {"top_k", {{"k", 6}}})), raw(options_of(6, raw_top(6)));
  const auto x = noise({23, 12}, 3);
  const auto want = dense(x).hidden;
  EXPECT_TRUE(all_close(renormalised(x).hidden, want, 1e-6));
  EXPECT_TRUE(all_close(raw(x).hidden, want, 1e-6));
}

TEST(DenseLayer, EqualExpertsGiveThatExpertForAnyRouter) {
  MoELayer layer(options_of(5, "dense"));
  torch::NoGradGuard no_grad;
  for (auto& item : layer.experts().named_parameters()) item.value().copy_(item.value().slice(0, 0, 1).expand_as(item.value()).clone());
  const auto p = layer.named_parameters();
  const auto expert = testing::ffn_expert("swiglu", p["experts.w_in"], p["experts.w_out"]);
  const auto x = noise({9, 12}, 8);
  for (double scale : {0.0, 1.0, 30.0}) {
    p["gate.score.weight"].copy_(noise({5, 12}, 9) * scale);
    const auto y = layer(x).hidden;
    for (int64_t t = 0; t < 9; ++t) EXPECT_TRUE(all_close(y[t], expert(0, x[t]), 1e-5)) << scale;
  }
}

TEST(DenseLayer, RenamingExpertsChangesNothing) {
  MoELayer layer(options_of(6, "dense"));
  const auto x = noise({21, 12}, 8);
  torch::NoGradGuard no_grad;
  const auto before = layer(x).hidden.clone();
  const auto order = torch::tensor({3, 0, 5, 1, 4, 2}, torch::kInt64);
  for (auto& item : layer.named_parameters()) item.value().copy_(item.value().index_select(0, order));
  EXPECT_TRUE(all_close(layer(x).hidden, before, 1e-6));
}

// The start of upcycling: every expert is a copy of one feed-forward network.
TEST(NormalisationOrder, CopiesOfOneExpertGiveItExactlyOrScaledByTheKeptProbability) {
  MoELayer renormalised(options_of(4, {"top_k", {{"k", 2}}})), raw(options_of(4, raw_top(2)));
  torch::NoGradGuard no_grad;
  for (auto* layer : {&renormalised, &raw})
    for (auto& item : layer->experts().named_parameters()) item.value().copy_(item.value().slice(0, 0, 1).expand_as(item.value()).clone());
  const auto x = noise({9, 12}, 8);
  const auto p = raw.named_parameters();
  const auto expert = testing::ffn_expert("swiglu", p["experts.w_in"], p["experts.w_out"]);
  const auto kept = std::get<0>(at::softmax(at::matmul(x, p["gate.score.weight"].t()), 1).topk(2)).sum(1);
  for (int64_t t = 0; t < 9; ++t) {
    EXPECT_TRUE(all_close(renormalised(x).hidden[t], expert(0, x[t]), 1e-5));
    EXPECT_TRUE(all_close(raw(x).hidden[t], kept[t] * expert(0, x[t]), 1e-5));
  }
}

// y = h + sigmoid(h c_a) FFN_a(h) with a last matrix of zeros: the block starts as the identity.
TEST(BaseLayer, IsTheIdentityAtFirstAndAGatedResidualThen) {
  auto o = options_of(4, {"chain", {{"select", ConfigNode{{"kind", "assignment"}, {"solver", "exact"}}}, {"weigh", "sigmoid"}}}, "relu");
  o.init_out_std = 0;
  MoELayer layer(o);
  const auto h = noise({16, 12}, 5);
  EXPECT_TRUE(torch::equal(h + layer(h).hidden, h));
  torch::NoGradGuard no_grad;
  const auto p = layer.named_parameters();
  p["experts.w_out"].copy_(noise({4, 12, 8}, 6));
  const auto expert = testing::ffn_expert("relu", p["experts.w_in"], p["experts.w_out"]);
  MoETrace trace;
  GateInput in;
  in.training = true;
  const auto y = layer.forward(h, in, &trace);
  EXPECT_TRUE(torch::equal(trace.stats.counts, torch::full({4}, 4.f)));
  for (int64_t t = 0; t < 16; ++t) {
    const auto a = trace.stats.expert_ids[t][0].item<int64_t>();
    EXPECT_TRUE(all_close(y[t], at::sigmoid((h[t] * p["gate.score.weight"][a]).sum()) * expert(a, h[t]), 1e-5)) << t;
  }
}

TEST(FfnExperts, ALayerOfOneExpertIsThePlainNetworkBitForBit) {
  for (const char* kind : {"relu", "gelu", "gelu_tanh"}) {
    MoELayer layer(options_of(1, raw_top(1), kind));
    const auto x = noise({33, 12}, 8);
    torch::NoGradGuard no_grad;
    const auto plain = layer.experts().forward(x, torch::tensor({int64_t{0}, int64_t{33}}, torch::kInt64), {});
    EXPECT_TRUE(torch::equal(layer(x).hidden, plain)) << kind;
  }
}

TEST(FfnExperts, TheTanhFormOfGeluIsAnotherFunctionWithin5e4) {
  // Identity matrices: the experts are their activations.
  const auto values = [](const char* kind, const torch::Tensor& x) {
    auto bank = expert_registry().make(BlockSpec(kind), BankShape{.d_model = 1, .d_expert = 1});
    torch::NoGradGuard no_grad;
    for (auto& item : bank->named_parameters()) item.value().fill_(1);
    return bank->forward(x.unsqueeze(1), torch::tensor({int64_t{0}, x.size(0)}, torch::kInt64), {}).squeeze(1);
  };
  const auto x = torch::arange(-10, 10, 1e-3, torch::kFloat32);
  const auto gap = (values("gelu", x) - values("gelu_tanh", x)).abs().max().item<double>();
  EXPECT_LE(gap, 5e-4);
  EXPECT_GT(gap, 3e-4);
  EXPECT_TRUE(all_close(values("gelu", x), at::gelu(x.to(torch::kFloat64)), 1e-6));
  EXPECT_TRUE(all_close(values("gelu_tanh", x), at::gelu(x.to(torch::kFloat64), "tanh"), 1e-6));
  EXPECT_TRUE(torch::equal(values("relu", x), at::relu(x)));
}

TEST(DeepSeekMoE, WithoutSharedExpertsAndWithEveryExpertChosenIsTheDenseMixture) {
  MoELayer all(options_of(6, raw_top(6))), dense(options_of(6, "dense"));
  const auto x = noise({17, 12}, 5);
  EXPECT_TRUE(all_close(all(x).hidden, dense(x).hidden, 1e-6));
}

TEST(DeepSeekMoE, SharedExpertsAreExpertsThatAreAlwaysChosenWithWeightOne) {
  auto o = options_of(4, raw_top(2));
  o.num_shared_experts = 2;
  MoELayer shared(o), routed(options_of(6, raw_top(2)));
  const auto x = noise({15, 12}, 8);
  torch::NoGradGuard no_grad;
  const auto from = shared.named_parameters(), to = routed.named_parameters();
  const auto f = o.d_expert;
  to["experts.w_in"].slice(0, 0, 4).copy_(from["experts.w_in"]);
  to["experts.w_out"].slice(0, 0, 4).copy_(from["experts.w_out"]);
  for (int64_t s = 0; s < 2; ++s) {  // the wide network holds gate rows of both, then up rows of both
    to["experts.w_in"][4 + s].slice(0, 0, f).copy_(from["shared_experts.w_in"][0].slice(0, s * f, s * f + f));
    to["experts.w_in"][4 + s].slice(0, f).copy_(from["shared_experts.w_in"][0].slice(0, (2 + s) * f, (3 + s) * f));
    to["experts.w_out"][4 + s].copy_(from["shared_experts.w_out"][0].slice(1, s * f, s * f + f));
  }
  GateInput in;
  MoETrace trace;
  const auto want = shared.forward(x, in, &trace);
  const auto& choice = std::get<TokenChoice>(trace.routing.choice);
  const TokenChoice with_shared{at::cat({choice.expert_ids, torch::tensor({4, 5}, torch::kInt64).expand({15, 2})}, 1),
                                at::cat({choice.weights, torch::ones({15, 2})}, 1)};
  EXPECT_TRUE(all_close(routed.apply(x, in, {.choice = with_shared, .scores = {}}), want, 1e-5));
}

// Ranks of one process: rank r of W has tokens r T/W .. (r+1) T/W - 1 and its share of the experts.
torch::Tensor share_of(const torch::Tensor& all, const Communicator& comm) {
  const auto n = all.size(0) / comm.size();
  return all.slice(0, comm.rank() * n, comm.rank() * n + n);
}

TEST(ExpertParallelism, WhoIsDroppedDependsOnGroupsNotOnRanks) {
  const auto x = noise({32, 12}, 8);
  for (const char* priority : {"arrival", "score", "random"}) {
    auto o = options_of(8, {"top_k", {{"k", 2}}});
    o.capacity = {.factor = 0.75, .priority = priority, .group_size = 8};
    GateInput input;
    input.training = true;
    MoELayer whole(o);
    MoETrace want;
    const auto y = whole.forward(x, input, &want).detach();
    ASSERT_GT(want.stats.dropped_fraction(), 0);
    for (int64_t ranks : {1, 2, 4})
      for_each_rank(ranks, [&](const std::shared_ptr<Communicator>& comm) {
        auto part = o;
        part.dispatcher = "expert_parallel";
        part.communicator = comm;
        MoELayer layer(part);
        auto mine = input;
        mine.first_token = comm->rank() * 32 / ranks;
        MoETrace got;
        EXPECT_TRUE(torch::equal(layer.forward(share_of(x, *comm), mine, &got), share_of(y, *comm))) << priority << " " << ranks;
        EXPECT_TRUE(torch::equal(got.plan.kept, share_of(want.plan.kept, *comm))) << priority << " " << ranks;
      });
  }
}

// Plain gradient descent on one batch; what is not an expert is replicated, and its gradients are summed over the ranks.
std::map<std::string, torch::Tensor> trained(const std::shared_ptr<Communicator>& comm, const torch::Tensor& x, const torch::Tensor& target) {
  auto o = options_of(4, {"top_k", {{"k", 2}}});
  o.num_shared_experts = 1;
  o.dispatcher = "expert_parallel";
  o.communicator = comm;
  MoELayer layer(o);
  for (int step = 0; step < 3; ++step) {
    layer.zero_grad();
    const auto y = layer.forward(share_of(x, *comm), {});
    ((y - share_of(target, *comm)).square().sum() / x.size(0)).backward();
    for (auto& item : layer.named_parameters()) {
      auto grad = item.value().grad();
      if (item.key().rfind("experts.", 0) != 0) comm->all_reduce_sum(std::span(grad.data_ptr<float>(), static_cast<size_t>(grad.numel())));
      torch::NoGradGuard no_grad;
      item.value().sub_(grad * 0.05);
    }
  }
  std::map<std::string, torch::Tensor> out;
  for (const auto& item : layer.named_parameters()) out[item.key()] = item.value().detach();
  return out;
}

TEST(ExpertParallelism, ThreeTrainingStepsOnSeveralRanksEndWhereOneRankDoes) {
  const auto x = noise({24, 12}, 8), target = noise({24, 12}, 9);
  const auto want = trained(self_communicator(), x, target);
  for (int64_t ranks : {2, 4})
    for_each_rank(ranks, [&](const std::shared_ptr<Communicator>& comm) {
      for (const auto& [name, value] : trained(comm, x, target))
        EXPECT_TRUE(all_close(value, name.rfind("experts.", 0) == 0 ? share_of(want.at(name), *comm) : want.at(name), 1e-5)) << name << " " << ranks;
    });
}

}  // namespace
}  // namespace switchyard::published_layers_test
