// A device per domain (DEMix): every rank holds the expert of its domain and reads its texts alone. Shared weights learn from the
// sum over the ranks, an expert on its own rank, and both as in one process that reads everything.
#include "dispatch/rank_cases.h"
#include "switchyard/moe.h"

#include <map>

namespace switchyard::domain_ranks_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::noise;

constexpr int64_t kTokensOfADomain = 9;

MoEOptions options_of(int64_t domains) {
  MoEOptions o{.d_model = 12, .d_expert = 7, .num_experts = domains};
  o.gate = BlockSpec("by_tag");
  o.num_shared_experts = 1;
  o.init_std = o.init_out_std = 0.5;
  o.seed = 7;
  return o;
}

// Tokens of the domains first .. last - 1, one domain after the other.
GateInput tags_of(int64_t first, int64_t last) {
  GateInput in;
  in.tags = torch::arange(first, last, torch::kInt64).repeat_interleave(kTokensOfADomain);
  in.training = true;
  return in;
}

TEST(DomainRanks, SharedWeightsAreSynchronisedOverAllRanksAndExpertsOnTheirOwn) {
  for (const int64_t domains : {2, 3}) {
    const auto x = noise({domains * kTokensOfADomain, 12}, 3), dy = noise({domains * kTokensOfADomain, 12}, 4);
    MoELayer whole(options_of(domains));
    const auto y = whole.forward(x, tags_of(0, domains));
    (y * dy).sum().backward();
    const auto want = whole.named_parameters();
    for_each_rank(domains, [&](const std::shared_ptr<Communicator>& comm) {
      const int64_t r = comm->rank();
      auto o = options_of(domains);
      o.dispatcher = "expert_parallel";
      o.communicator = comm;
      MoELayer layer(o);
      const auto own = [&](const torch::Tensor& v) { return v.slice(0, r * kTokensOfADomain, (r + 1) * kTokensOfADomain); };
      const auto part = layer.forward(own(x), tags_of(r, r + 1));
      EXPECT_TRUE(torch::equal(part, own(y))) << "rank " << r;
      (part * own(dy)).sum().backward();
      for (const auto& item : layer.named_parameters()) {
        const auto grad = item.value().grad(), all = want[item.key()].grad();
        if (item.key().starts_with("experts.")) {
          EXPECT_TRUE(all_close(grad, all.slice(0, r, r + 1), 2e-6)) << item.key();
        } else {
          EXPECT_FALSE(all_close(grad, all, 2e-6)) << item.key() << ": one domain is not all of them";
          comm->all_reduce_sum(std::span(grad.data_ptr<float>(), static_cast<size_t>(grad.numel())));
          EXPECT_TRUE(all_close(grad, all, 2e-6)) << item.key();
        }
      }
    });
  }
}

}  // namespace
}  // namespace switchyard::domain_ranks_test
