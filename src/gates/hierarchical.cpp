// A gate of gates: a primary noisy top-k over `groups` groups of E / groups experts, and in each chosen group a noisy top-k
// of its own; the weight of expert j of group i is the product  G^P(x)_i * G_i(x)_j.
//
// Only the routers of the chosen groups are evaluated: a + k a-th of E logits per token instead of E.
// Loss: `importance` reads the products as they are. Term (loss gate_term) "load" = CV^2 over all experts of
//   Load_ij = Load^P_i * Load_i(X^(i))_j / |X^(i)|,   X^(i) the tokens sent to group i (groups without tokens count as 0).
// Source: Shazeer et al., arXiv:1701.06538 appendix B.
#include "core/cv_squared.h"
#include "core/expected_load.h"
#include "core/ops.h"
#include "switchyard/dispatch_plan.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

namespace switchyard {
namespace {

class Hierarchical final : public Gate {
 public:
  struct Options {
    int64_t groups = 2, k_groups = 2, k = 1;
    double init_std = 0, noise_floor = 1e-2;
    bool allow_constant_weight = false;
    template <class V> void fields(V&& v) {
      v("groups", groups, "equal groups of consecutive experts");
      v("k_groups", k_groups, "groups per token");
      v("k", k, "experts per chosen group");
      v("init_std", init_std, "deviation of the initial routers; the source starts at 0");
      v("noise_floor", noise_floor, "smallest deviation of the noise");
      v("allow_constant_weight", allow_constant_weight, "accept one expert in all with the constant weight 1: the task loss cannot train the routers");
    }
  };

  Hierarchical(const Options& o, const GateShape& s) : o_(o), size_(s.num_experts / std::max<int64_t>(1, o.groups)) {
    const auto refuse = [&](const char* key, int64_t value, const std::string& expected) {
      fail(ErrorKind::config, "gate hierarchical: {} = {} in layers.{}.ffn, expected {}", key, value, s.layer, expected);
    };
    if (o.groups < 1 || s.num_experts % o.groups != 0) refuse("groups", o.groups, "a divisor of num_experts = " + std::to_string(s.num_experts));
    if (o.k_groups < 1 || o.k_groups > o.groups) refuse("k_groups", o.k_groups, "1 to groups = " + std::to_string(o.groups));
    if (o.k < 1 || o.k > size_) refuse("k", o.k, "1 to the " + std::to_string(size_) + " experts of a group");
    if (o.k_groups == 1 && o.k == 1 && !o.allow_constant_weight)
      fail(ErrorKind::config,
           "gate hierarchical: one expert of one group in layers.{}.ffn always has weight 1, so that the task loss cannot train the routers; "
           "use k_groups or k above 1, or set allow_constant_weight = true", s.layer);
    if (!(o.noise_floor > 0)) fail(ErrorKind::config, "gate hierarchical: noise_floor = {}, expected more than 0", o.noise_floor);
    const auto stream = RandomStream(s.seed).at("router", static_cast<uint64_t>(s.layer));
    const auto router = [&](const char* name, torch::IntArrayRef sizes, double std) {
      auto w = torch::empty(sizes);
      stream.at(name).fill_normal(w.data_ptr<float>(), w.numel());
      return register_parameter(name, w * std);
    };
    primary_ = router("primary", {o.groups, s.d_model}, o.init_std);
    primary_noise_ = router("primary_noise", {o.groups, s.d_model}, 0);
    secondary_ = router("secondary", {o.groups, size_, s.d_model}, o.init_std);
    secondary_noise_ = router("secondary_noise", {o.groups, size_, s.d_model}, 0);
  }

  Routing route(const GateInput& in) override {
    const auto x = in.hidden.scalar_type() == torch::kFloat64 ? in.hidden : in.hidden.to(torch::kFloat32);
    const auto of = [&](const torch::Tensor& w) { return ops::linear(x, w, /*exact=*/true); };
    const Level top = level(of(primary_), of(primary_noise_), draw(in, "primary", x.size(0), o_.groups), o_.k_groups);

    // One row per (token, chosen group), sorted by group.
    TokenChoice groups{top.ids, top.weights};
    if (in.valid.defined()) groups.expert_ids = groups.expert_ids.masked_fill(~in.valid.unsqueeze(1), -1);
    const auto plan = plan_dispatch({.choice = groups}, in, o_.groups, {}, nullptr).plan;
    const auto rows = ops::gather_rows(x, plan);
    const auto group_of_row = groups.expert_ids.reshape({-1}).index_select(0, plan.row_weight_index);
    const auto in_group = [&](const torch::Tensor& w) { return by_group(rows, plan.offsets, w); };
    const auto pairs = x.size(0) * o_.k_groups;
    auto noise = draw(in, "secondary", pairs, size_);  // per (token, choice), wherever its row stands
    if (noise.defined()) noise = noise.index_select(0, plan.row_weight_index);
    const Level leaf = level(in_group(secondary_), in_group(secondary_noise_), noise, o_.k);

    const auto scatter = [&](const torch::Tensor& of_row, const torch::Tensor& empty) { return empty.index_copy(0, plan.row_weight_index, of_row); };
    const auto ids = scatter(at::where(leaf.ids >= 0, leaf.ids + group_of_row.unsqueeze(1) * size_, leaf.ids), torch::full({pairs, o_.k}, -1, torch::kInt64));
    const auto weights = scatter(leaf.weights, torch::zeros({pairs, o_.k}, leaf.weights.options())) * top.weights.reshape({-1, 1});
    Routing out{.choice = TokenChoice{ids.view({x.size(0), o_.k_groups * o_.k}), weights.view({x.size(0), o_.k_groups * o_.k})}};
    if (in.training) out.terms["load"] = load(top, leaf, group_of_row, in.valid);
    return out;
  }
  double experts_per_token() const override { return static_cast<double>(o_.k_groups * o_.k); }

 private:
  // A noisy top-k gate over the columns of `clean`.
  struct Level {
    torch::Tensor clean, noisy, std;  // [U, n]; std undefined outside training
    torch::Tensor ids, weights;       // [U, k]
  };

  // N(0, 1) [rows, n] in training, undefined otherwise.
  [[nodiscard]] static torch::Tensor draw(const GateInput& in, const char* name, int64_t rows, int64_t n) {
    if (!in.training) return {};
    auto noise = torch::empty({rows, n}, torch::kFloat32);
    const int64_t rows_per_token = rows / std::max<int64_t>(1, in.hidden.size(0));
    in.random.at(name).fill_normal(noise.data_ptr<float>(), noise.numel(), static_cast<uint64_t>(in.first_token * rows_per_token * n));
    return noise;
  }

  [[nodiscard]] Level level(const torch::Tensor& clean, const torch::Tensor& noise_logits, const torch::Tensor& noise, int64_t k) const {
    Level out{.clean = clean, .noisy = clean, .std = {}, .ids = {}, .weights = {}};
    if (noise.defined()) {
      out.std = at::softplus(noise_logits) + o_.noise_floor;
      out.noisy = clean + noise * out.std;
    }
    out.ids = ops::top_k(out.noisy.detach().contiguous(), k);
    const auto none = out.ids < 0;
    const auto z = out.noisy.gather(1, out.ids.clamp_min(0)).masked_fill(none, -std::numeric_limits<float>::infinity());
    const auto weights = at::softmax(z, -1);
    const auto nobody = weights.isnan();  // a row without a finite score, or with an infinite one
    out.ids = out.ids.masked_fill(nobody, -1);
    out.weights = weights.masked_fill(none | nobody, 0);
    return out;
  }

  // rows sorted by group, w [groups, size, d] -> [rows, size]; router arithmetic, exact whatever the compute type.
  [[nodiscard]] static torch::Tensor by_group(const torch::Tensor& rows, const torch::Tensor& offsets, const torch::Tensor& w) {
    const ComputeScope exact(ComputeType::float32);
    return ops::grouped_linear(rows, offsets, w);
  }

  [[nodiscard]] static torch::Tensor expected(const Level& level, int64_t k) {
    if (k < level.clean.size(1)) return chance_to_be_chosen(level.clean, level.noisy, level.std, k);
    return torch::ones_like(level.clean);
  }

  [[nodiscard]] torch::Tensor load(const Level& top, const Level& leaf, const torch::Tensor& group_of_row, const torch::Tensor& valid) const {
    auto primary = expected(top, o_.k_groups);
    if (valid.defined()) primary = primary * valid.unsqueeze(1).to(primary.scalar_type());
    const auto tokens = at::bincount(group_of_row, {}, o_.groups).to(primary.scalar_type()).clamp_min(1).unsqueeze(1);
    const auto inside = torch::zeros({o_.groups, size_}, leaf.clean.options()).index_add(0, group_of_row, expected(leaf, o_.k));
    return cv_squared(primary.sum(0).unsqueeze(1) * inside / tokens);
  }

  Options o_;
  int64_t size_;
  torch::Tensor primary_, primary_noise_, secondary_, secondary_noise_;
};

}  // namespace

GateEntry gate_hierarchical() {
  return plug_in<Hierarchical, GateEntry>("hierarchical", "arXiv:1701.06538", "a noisy top-k gate over groups, and one inside each chosen group");
}

}  // namespace switchyard
