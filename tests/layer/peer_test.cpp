// PEER: single-neuron experts by product keys (arXiv:2407.04153).
#include "experts/peer.h"

#include "expect_error.h"
#include "support/gate_fixture.h"

#include <numeric>

namespace switchyard::peer_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::normal;

PeerBank::Options small() {
  PeerBank::Options o;
  o.num_keys = 5;
  o.heads = 3;
  o.k = 4;
  o.d_key = 6;
  return o;
}

PeerBank bank_of(const PeerBank::Options& o, int64_t d_model = 8) {
  return PeerBank(o, BankShape{.d_model = d_model, .d_expert = 1, .init_std = 0.5, .init_out_std = 0.5, .seed = 4});
}

torch::Tensor run(PeerBank& bank, const torch::Tensor& x, bool training = false) {
  RowContext context;
  context.training = training;
  return bank.forward(x, torch::tensor({int64_t{0}, x.size(0)}, torch::kInt64), context);
}

// Oracle in float64, one token, head and pair at a time: all n^2 scores, sorted.
torch::Tensor by_loops(const PeerBank& bank, const PeerBank::Options& o, const torch::Tensor& x32) {
  std::map<std::string, torch::Tensor> p;
  for (const auto& item : bank.named_parameters()) p[item.key()] = item.value().detach().to(torch::kFloat64);
  for (const auto& item : bank.named_buffers()) p[item.key()] = item.value().detach().to(torch::kFloat64);
  const auto x = x32.to(torch::kFloat64);
  auto y = torch::zeros_like(x);
  const int64_t half = o.d_key / 2, n = o.num_keys;
  for (int64_t t = 0; t < x.size(0); ++t) {
    auto q = at::mv(p["query"], x[t]);
    if (o.query_norm) q = (q - p["norm_mean"]) / (p["norm_variance"] + 1e-5).sqrt() * p["norm_weight"] + p["norm_bias"];
    for (int64_t h = 0; h < o.heads; ++h) {
      const auto q1 = q.slice(0, h * o.d_key, h * o.d_key + half), q2 = q.slice(0, h * o.d_key + half, (h + 1) * o.d_key);
      std::vector<double> score;
      for (int64_t e = 0; e < n * n; ++e) score.push_back((at::dot(q1, p["keys"][2 * h][e / n]) + at::dot(q2, p["keys"][2 * h + 1][e % n])).item<double>());
      std::vector<int64_t> best(score.size());
      std::iota(best.begin(), best.end(), 0);
      std::stable_sort(best.begin(), best.end(), [&](int64_t a, int64_t b) { return score[static_cast<size_t>(a)] > score[static_cast<size_t>(b)]; });
      best.resize(static_cast<size_t>(o.k));
      double sum = 0;
      for (const int64_t e : best) sum += std::exp(score[static_cast<size_t>(e)]);
      for (const int64_t e : best) {
        const double s = score[static_cast<size_t>(e)];
        const double weight = o.weigh == "softmax" ? std::exp(s) / sum : o.weigh == "sigmoid" ? 1 / (1 + std::exp(-s)) : std::max(s, 0.0);
        y[t] += weight * at::gelu(at::dot(p["w_in"][e], x[t])) * p["w_out"][e];
      }
    }
  }
  return y;
}

TEST(Peer, EqualsLoopsOverAllExpertsForEveryWayToWeigh) {
  const torch::NoGradGuard no_grad;
  for (const char* weigh : {"softmax", "sigmoid", "relu"})
    for (const bool norm : {true, false}) {
      auto o = small();
      o.weigh = weigh;
      o.query_norm = norm;
      auto bank = bank_of(o);
      const auto x = normal({9, 8}, 1);
      EXPECT_TRUE(all_close(run(bank, x), by_loops(bank, o, x), 1e-5)) << weigh << " " << norm;
    }
}

TEST(Peer, WithEveryExpertChosenItIsTheDenseMixture) {
  auto o = small();
  o.k = 25;
  auto bank = bank_of(o);
  const torch::NoGradGuard no_grad;
  const auto x = normal({7, 8}, 1);
  EXPECT_TRUE(all_close(run(bank, x), by_loops(bank, o, x), 1e-5));
}

// The gathered rows as one network of width heads * k.
TEST(Peer, IsANetworkOfTheRowsThatItGathers) {
  auto bank = bank_of(small());
  torch::Tensor experts, weights;
  bank.observe([&](const torch::Tensor& e, const torch::Tensor& w, const RowContext&) { experts = e, weights = w; });
  const torch::NoGradGuard no_grad;
  const auto x = normal({7, 8}, 1), y = run(bank, x);
  const auto p = bank.named_parameters();
  ASSERT_EQ(experts.sizes(), (std::vector<int64_t>{7, 12}));
  for (int64_t t = 0; t < 7; ++t) {
    const auto u = p["w_in"].index_select(0, experts[t]), v = p["w_out"].index_select(0, experts[t]);
    EXPECT_TRUE(all_close(y[t], at::mv(v.t(), at::gelu(at::mv(u, x[t])) * weights[t]), 1e-5));
    EXPECT_TRUE(all_close(weights[t].view({3, 4}).sum(1), torch::ones({3}), 1e-6)) << "each head's weights are a softmax";
  }
}

TEST(Peer, OnlyGatheredRowsHaveAGradient) {
  auto bank = bank_of(small());
  torch::Tensor experts;
  bank.observe([&](const torch::Tensor& e, const torch::Tensor&, const RowContext&) { experts = e; });
  run(bank, normal({2, 8}, 1)).square().sum().backward();
  const auto read = std::get<0>(at::_unique(experts));
  ASSERT_LT(read.size(0), 25);
  for (const char* name : {"w_in", "w_out"}) {
    const auto gradient = bank.named_parameters()[name].grad();
    ASSERT_TRUE(gradient.is_sparse()) << name;
    EXPECT_TRUE(torch::equal(gradient.coalesce().indices()[0], read)) << name;
    EXPECT_TRUE(gradient.coalesce().values().abs().sum(1).gt(0).all().item<bool>()) << name;
  }
}

TEST(Peer, GradientsMatchFiniteDifferencesInFloat64) {
  for (const bool training : {false, true}) {
    auto bank = bank_of(small());
    bank.to(torch::kFloat64);
    auto x = normal({6, 8}, 1).to(torch::kFloat64).requires_grad_();
    const auto dy = normal({6, 8}, 2).to(torch::kFloat64);
    const auto loss = [&] { return (run(bank, x, training) * dy).sum(); };
    EXPECT_LT(testing::finite_difference_gap(loss, x, 48), 1e-4) << training;
    for (auto& item : bank.named_parameters()) EXPECT_LT(testing::finite_difference_gap(loss, item.value(), 24), 1e-4) << item.key() << " " << training;
  }
}

TEST(Peer, QueriesAreNormalisedOverTheBatchAndRunningMeansFollow) {
  auto o = small();
  o.momentum = 1;  // the means of the last batch
  auto bank = bank_of(o);
  const auto x = 3 * normal({64, 8}, 1) + 1;
  const auto trained = run(bank, x, /*training=*/true);
  const auto q = at::matmul(x, bank.named_parameters()["query"].t()).detach();
  EXPECT_TRUE(all_close(bank.named_buffers()["norm_mean"], q.mean(0), 1e-5));
  EXPECT_TRUE(all_close(bank.named_buffers()["norm_variance"], q.var(0, /*unbiased=*/true), 1e-5));
  const auto before = bank.named_buffers()["norm_mean"].clone();
  {
    const torch::NoGradGuard no_grad;  // as the first pass of a block that is recomputed
    EXPECT_TRUE(torch::equal(run(bank, x, /*training=*/true), trained.detach()));
    (void)run(bank, -x, /*training=*/true);
  }
  (void)run(bank, -x);
  EXPECT_TRUE(torch::equal(bank.named_buffers()["norm_mean"], before));
}

TEST(Peer, CountsItsParametersAndWhatARowMeets) {
  auto bank = bank_of(small());
  int64_t built = 0;
  for (const auto& p : bank.parameters()) built += p.numel();
  EXPECT_EQ(bank.parameters_per_expert(), built);
  EXPECT_EQ(bank.active_parameters_per_expert(), built - 2 * (25 - 12) * 8);
  const PeerBank none(small(), BankShape{.d_model = 8, .d_expert = 1, .num_local_experts = 0});
  for (const auto& p : none.parameters()) EXPECT_EQ(p.numel(), 0);
}

TEST(Peer, AMillionExpertsAreLookedUp) {
  PeerBank::Options o;
  o.num_keys = 1024;
  o.heads = 1;
  o.d_key = 8;
  PeerBank bank(o, BankShape{.d_model = 4, .d_expert = 1, .seed = 1});
  EXPECT_EQ(bank.num_neurons(), 1048576);
  auto x = normal({3, 4}, 1).requires_grad_();
  run(bank, x).sum().backward();
  EXPECT_LE(bank.named_parameters()["w_in"].grad().coalesce().indices().size(1), 3 * 16);
}

TEST(Peer, WhatMakesNoSenseIsRefused) {
  const auto refused = [](std::initializer_list<std::string_view> words, auto change, int64_t experts = 1) {
    auto o = small();
    change(o);
    testing::expect_error(ErrorKind::config, words, [&] { PeerBank bank(o, BankShape{.d_model = 8, .d_expert = 1, .num_experts = experts, .layer = 3}); });
  };
  refused({"k = 26", "layers.3.ffn", "25"}, [](auto& o) { o.k = 26; });
  refused({"d_key = 3", "even"}, [](auto& o) { o.d_key = 3; });
  refused({"num_keys = 0"}, [](auto& o) { o.num_keys = 0; });
  refused({"heads = 0"}, [](auto& o) { o.heads = 0; });
  refused({"weigh = 'max'"}, [](auto& o) { o.weigh = "max"; });
  refused({"activation = 'glu'"}, [](auto& o) { o.activation = "glu"; });
  refused({"momentum = 0"}, [](auto& o) { o.momentum = 0; });
  refused({"2 of them", "`ffn`"}, [](auto&) {}, 2);
}

// 400 pairs to be remembered, against a dense network with as many multiplications in its matrices.
TEST(Peer, RemembersMoreThanADenseNetworkOfTheSameCost) {
  const int64_t pairs = 400, d = 16;
  const auto key = normal({pairs, d}, 1), value = normal({pairs, d}, 2);
  const auto train = [&](ExpertBank& bank) {
    std::vector<torch::Tensor> m, v;
    for (const auto& p : bank.parameters()) m.push_back(torch::zeros_like(p)), v.push_back(torch::zeros_like(p));
    double last = 0;
    for (int64_t step = 1; step <= 150; ++step) {
      for (auto& p : bank.parameters()) p.mutable_grad() = torch::Tensor();
      RowContext context;
      context.training = true;
      const auto loss = (bank.forward(key, torch::tensor({int64_t{0}, pairs}, torch::kInt64), context) - value).square().mean();
      loss.backward();
      last = loss.item<double>();
      const torch::NoGradGuard no_grad;
      auto parameters = bank.parameters();
      for (size_t i = 0; i < parameters.size(); ++i) {  // Adam
        if (!parameters[i].grad().defined()) continue;
        const auto g = parameters[i].grad().is_sparse() ? parameters[i].grad().to_dense() : parameters[i].grad();
        m[i].mul_(0.9).add_(g, 0.1);
        v[i].mul_(0.99).addcmul_(g, g, 0.01);
        parameters[i].sub_(1e-2 * m[i] / (1 - std::pow(0.9, step)) / ((v[i] / (1 - std::pow(0.99, step))).sqrt() + 1e-8));
      }
    }
    return last;
  };
  PeerBank::Options o;
  o.num_keys = 32;
  o.heads = 4;
  o.k = 4;
  o.d_key = 16;
  PeerBank peer(o, BankShape{.d_model = d, .d_expert = 1, .init_std = 0.3, .init_out_std = 0.3, .seed = 1});
  const auto dense = expert_registry().make("gelu", BankShape{.d_model = d, .d_expert = 16, .init_std = 0.3, .init_out_std = 0.3, .seed = 1});
  EXPECT_LT(train(peer), 0.6 * train(*dense));
}

}  // namespace
}  // namespace switchyard::peer_test
