// Rules of placement, L layers counted from 0 (published ones often count from 1):
//
//   every        i >= first_k_dense and i % every == offset    GShard, GLaM, Switch: 2, 1; ST-MoE, NLLB: 4, 3; DeepSeek: first_k_dense
//   last_even    the last n of the even blocks, counted from 1: i odd    "Last-n" of V-MoE, arXiv:2106.05974
//   first_half   i < L / 2 (rounded down); second_half: the others; interval: i even    MoE-LLaVA, arXiv:2401.15947
//   spread       n layers as config.json of Switch counts them: step = L / n, i % step == 1, all when step = 1
//   list         those of `layers`
#include "models/placement.h"

#include "base/nearest_name.h"
#include "switchyard/error.h"

#include <algorithm>

namespace switchyard {
namespace {

struct Rule {
  const char* name;
  bool takes_n, takes_layers;
};
constexpr Rule kRules[] = {{"every", false, false},    {"last_even", true, false}, {"first_half", false, false}, {"second_half", false, false},
                           {"interval", false, false}, {"spread", true, false},    {"list", false, true}};

const Rule& rule_of(const std::string& kind) {
  std::vector<std::string> known;
  for (const Rule& rule : kRules) {
    if (kind == rule.name) return rule;
    known.emplace_back(rule.name);
  }
  fail(ErrorKind::config, "model.moe.where = '{}' is no rule of placement{}", kind, suggestion(kind, known));
}

void check_list(const std::vector<int64_t>& layers, int64_t num_layers) {
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i] < 0 || layers[i] >= num_layers)
      fail(ErrorKind::config, "model.moe.where.layers[{}] = {}, expected 0 to {} (num_layers = {})", i, layers[i], num_layers - 1, num_layers);
    if (i > 0 && layers[i] <= layers[i - 1])
      fail(ErrorKind::config, "model.moe.where.layers[{}] = {} after {}, expected rising numbers", i, layers[i], layers[i - 1]);
  }
}

}  // namespace

bool placed(const MoESpec& m, int64_t layer, int64_t num_layers) {
  const std::string& kind = m.where.kind;
  if (kind == "last_even") return layer % 2 == 1 && (num_layers / 2 * 2 - 1 - layer) / 2 < m.where.n;
  if (kind == "first_half") return layer < num_layers / 2;
  if (kind == "second_half") return layer >= num_layers / 2;
  if (kind == "interval") return layer % 2 == 0;
  if (kind == "spread") {
    const int64_t step = num_layers / m.where.n;
    return step == 1 || layer % step == 1;
  }
  if (kind == "list") return std::find(m.where.layers.begin(), m.where.layers.end(), layer) != m.where.layers.end();
  return layer >= m.first_k_dense && layer % m.every == m.offset;
}

void check_placement(const MoESpec& m, int64_t num_layers) {
  const PlacementSpec& where = m.where;
  const Rule& rule = rule_of(where.kind);
  if (!rule.takes_n && where.n != 0) fail(ErrorKind::config, "model.moe.where = '{}' takes no n, but n = {}", where.kind, where.n);
  if (!rule.takes_layers && !where.layers.empty()) fail(ErrorKind::config, "model.moe.where = '{}' takes no layers; where.kind = 'list' does", where.kind);
  if (rule.takes_n && (where.n < 1 || where.n > num_layers))
    fail(ErrorKind::config, "model.moe.where.n = {} of '{}', expected 1 to num_layers = {}", where.n, where.kind, num_layers);
  check_list(where.layers, num_layers);
  if (where.kind != "every" && (m.every != 1 || m.offset != 0 || m.first_k_dense != 0))
    fail(ErrorKind::config, "model.moe: every = {}, offset = {}, first_k_dense = {} belong to where = 'every', but where = '{}'; give one of the two", m.every,
         m.offset, m.first_k_dense, where.kind);
}

}  // namespace switchyard
