#include "core/device_capacity.h"

#include "core/routing_groups.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace switchyard {
namespace {

struct Pair {
  int64_t place;  // in [T, k]
  float affinity;
  bool is_protected;
};

bool is_protected(const GateInput& in, int64_t token, double share) {
  if (share == 0 || !in.sequence_ids.defined()) return false;
  const auto sequence = static_cast<uint64_t>(in.sequence_ids.data_ptr<int64_t>()[token]);
  return in.random.at("protected").uniform(sequence) < share;
}

// Keeps the first `room` pairs in the order protected, probable, early; the protected ones whatever the room.
void keep_best(std::vector<Pair>& pairs, int64_t room, bool* kept) {
  std::stable_sort(pairs.begin(), pairs.end(), [](const Pair& a, const Pair& b) {
    return a.is_protected != b.is_protected ? a.is_protected : a.affinity > b.affinity;
  });
  for (size_t i = 0; i < pairs.size(); ++i) kept[pairs[i].place] = pairs[i].is_protected || static_cast<int64_t>(i) < room;
}

}  // namespace

torch::Tensor places_on_devices(const TokenChoice& choice, const Scores& scores, const GateInput& input, int64_t num_experts,
                                const CapacityOptions& options) {
  if (!scores.probs.defined()) fail(ErrorKind::config, "capacity per device needs a gate with probabilities");
  const int64_t tokens = choice.expert_ids.size(0), k = choice.expert_ids.size(1), size = num_experts / options.devices;
  const auto affinity = scores.probs.detach().gather(1, choice.expert_ids.clamp_min(0)).to(torch::kFloat32).contiguous();
  const auto* expert = choice.expert_ids.data_ptr<int64_t>();
  auto kept = torch::zeros({tokens, k}, torch::kBool);
  for (const auto& group : routing_groups(input, tokens, options.group_size, options.per_sequence)) {
    std::vector<std::vector<Pair>> of_device(static_cast<size_t>(options.devices));
    int64_t wanted = 0;
    for (int64_t t = group.first; t < group.last; ++t) {
      const bool safe = is_protected(input, t, options.protected_share);
      for (int64_t p = t * k; p < (t + 1) * k; ++p) {
        if (expert[p] < 0) continue;
        of_device[static_cast<size_t>(expert[p] / size)].push_back({p, affinity.data_ptr<float>()[p], safe});
        ++wanted;
      }
    }
    const double factor = input.training ? options.factor : options.eval_factor;
    const auto room = static_cast<int64_t>(std::ceil(factor * static_cast<double>(wanted) / static_cast<double>(options.devices) - 1e-9));
    for (auto& pairs : of_device) keep_best(pairs, std::max(room, options.min_capacity), kept.data_ptr<bool>());
  }
  return kept;
}

}  // namespace switchyard
