// The tables come from the build (sw_plugin_table); this file only gives each of them a name and a home.
#include "core/registries.h"

#include "switchyard/dispatcher.h"
#include "switchyard/expert_bank.h"
#include "switchyard/gate.h"
#include "switchyard/join.h"
#include "switchyard/loss.h"
#include "switchyard/mixer.h"

#define SW_REGISTRY(function, Entry, kind, label)          \
  std::vector<Entry> builtin_##kind##_entries();           \
  Registry<Entry>& function() {                            \
    static Registry<Entry> table(label, builtin_##kind##_entries()); \
    return table;                                          \
  }

namespace switchyard {

namespace gates {
SW_REGISTRY(poolers, PoolEntry, pool, "pool block")
SW_REGISTRY(scorers, ScoreEntry, score, "score block")
SW_REGISTRY(noisers, NoiseEntry, noise, "noise block")
SW_REGISTRY(normalisers, NormaliseEntry, normalise, "normalise block")
SW_REGISTRY(selectors, SelectEntry, select, "select block")
SW_REGISTRY(weighers, WeighEntry, weigh, "weigh block")
SW_REGISTRY(balancers, BalanceEntry, balance, "balance block")
SW_REGISTRY(keepers, KeepEntry, keep, "keep block")
}  // namespace gates

SW_REGISTRY(gate_registry, GateEntry, gate, "gate")
SW_REGISTRY(join_registry, JoinEntry, join, "join")
SW_REGISTRY(mixer_registry, MixerEntry, mixer, "mixer")
SW_REGISTRY(loss_registry, LossEntry, loss, "loss")
SW_REGISTRY(priority_registry, PriorityEntry, priority, "capacity priority")
SW_REGISTRY(expert_registry, ExpertEntry, expert, "expert kind")
SW_REGISTRY(dispatcher_registry, DispatcherEntry, dispatcher, "dispatcher")

}  // namespace switchyard
