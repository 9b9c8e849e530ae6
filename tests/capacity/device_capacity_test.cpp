// Capacity per device, against the definition.
#include "core/device_capacity.h"

#include "expect_error.h"
#include "support/gate_fixture.h"
#include "switchyard/moe.h"

#include <algorithm>

namespace switchyard::device_capacity_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::normal;

struct Case {
  torch::Tensor p, ids, kept, sequences;
};

Case drop(double factor, double protected_share, uint64_t seed = 0) {
  const auto z = normal({60, 8}, 3) + torch::tensor({2.f, 1.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f});
  Case c;
  c.p = at::softmax(z, 1);
  c.ids = std::get<1>(at::sort(z, true, 1, true)).slice(1, 0, 3).contiguous();
  GateInput in = testing::input_of(torch::zeros({60, 1}), true);
  in.sequence_ids = c.sequences = torch::arange(60, torch::kInt64).floor_divide(6);
  in.random = RandomStream(seed);
  CapacityOptions o;
  o.factor = factor;
  o.devices = 4;
  o.protected_share = protected_share;
  c.kept = places_on_devices({c.ids, {}}, {z, c.p}, in, 8, o);
  return c;
}

TEST(DeviceCapacity, EveryDeviceKeepsItsMostProbablePairs) {
  const Case c = drop(1, 0);
  const int64_t room = 45;  // 60 * 3 / 4
  bool full = false;
  for (int64_t d = 0; d < 4; ++d) {
    std::vector<float> kept, dropped;
    for (int64_t t = 0; t < 60; ++t)
      for (int64_t j = 0; j < 3; ++j) {
        const auto e = c.ids[t][j].item<int64_t>();
        if (e / 2 == d) (c.kept[t][j].item<bool>() ? kept : dropped).push_back(c.p[t][e].item<float>());
      }
    EXPECT_EQ(static_cast<int64_t>(kept.size()), std::min<int64_t>(room, static_cast<int64_t>(kept.size() + dropped.size()))) << "device " << d;
    full = full || !dropped.empty();
    if (!dropped.empty()) {
      EXPECT_GE(*std::min_element(kept.begin(), kept.end()), *std::max_element(dropped.begin(), dropped.end()));
    }
  }
  EXPECT_TRUE(full) << "the first device is asked for more than it can take";
}

TEST(DeviceCapacity, ProtectedSequencesDropNothing) {
  int64_t untouched = 0;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const Case c = drop(0.25, 0.3, seed);
    const RandomStream stream = RandomStream(seed).at("protected");
    for (int64_t s = 0; s < 10; ++s) {
      const bool all = c.kept.index({c.sequences.eq(s)}).all().item<bool>();
      if (stream.uniform(static_cast<uint64_t>(s)) < 0.3) {
        EXPECT_TRUE(all);
        ++untouched;
      }
    }
  }
  EXPECT_NEAR(static_cast<double>(untouched) / 500, 0.3, 0.07);
}

TEST(DeviceCapacity, ALayerDropsInTrainingOnlyAndSaysThatItLooksAhead) {
  MoEOptions options{.d_model = 6, .d_expert = 8, .num_experts = 4, .capacity = {.factor = 0.5, .devices = 2}};
  MoE layer(options);
  GateInput in;
  in.training = true;
  MoETrace trace;
  (void)layer->forward(normal({40, 6}, 2), in, &trace);
  EXPECT_GT(trace.stats.dropped_fraction(), 0.3);
  in.training = false;
  (void)layer->forward(normal({40, 6}, 2), in, &trace);
  EXPECT_EQ(trace.stats.dropped_fraction(), 0);
  EXPECT_EQ(layer->causality(), Causality::non_causal);
  options.capacity.devices = 3;
  testing::expect_error(ErrorKind::config, {"devices = 3", "num_experts = 4"}, [&] { MoE refused(options); });
}

}  // namespace
}  // namespace switchyard::device_capacity_test
