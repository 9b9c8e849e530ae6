#include "vision/channel_bank.h"

#include "switchyard/error.h"
#include "vision/training.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard::vision {
namespace {

torch::Tensor he(const RandomStream& random, std::vector<int64_t> shape) {
  int64_t fan = 1;
  for (size_t i = 1; i < shape.size(); ++i) fan *= shape[i];
  return normal(random, std::move(shape), std::sqrt(2.0 / static_cast<double>(fan)));
}

torch::Tensor conv(const torch::Tensor& x, const torch::Tensor& kernel, int64_t stride = 1) { return at::conv2d(x, kernel, {}, stride, /*padding=*/1); }

// Every layer but the last halves the picture.
torch::Tensor pooled(const torch::Tensor& x, bool last) { return last ? x : at::avg_pool2d(x, 2); }

constexpr int64_t kQuarters = 4;  // of the picture, whose means are classified

torch::Tensor classified(const torch::Tensor& x, const torch::Tensor& classifier) {
  return at::matmul(at::adaptive_avg_pool2d(x, {2, 2}).flatten(1), classifier.t());
}

void add_parameters(std::vector<torch::Tensor>& out, const std::vector<std::shared_ptr<BatchNorm>>& norms) {
  for (const auto& norm : norms)
    for (const auto& p : norm->parameters()) out.push_back(p);
}

void check(const ConvSizes& s) {
  if (s.channels.empty()) fail(ErrorKind::config, "convolutions: no layers");
  for (const int64_t c : s.channels)
    if (c < 1) fail(ErrorKind::config, "convolutions: {} channels, expected at least 1", c);
  if (s.size < (int64_t{1} << s.channels.size())) fail(ErrorKind::config, "convolutions: pictures of {} pixels cannot be halved {} times", s.size, s.channels.size() - 1);
}

}  // namespace

GatedCnn::GatedCnn(const Options& o, uint64_t seed) : options_(o) {
  check(o.sizes);
  const RandomStream random(seed, "gated cnn");
  int64_t in = 1;
  for (size_t l = 0; l < o.sizes.channels.size(); ++l) {
    const auto name = std::to_string(l);
    kernels_.push_back(register_parameter("kernel" + name, he(random.at("kernel", l), {o.sizes.channels[l], in, 3, 3})));
    // Gates near 1 at first.
    heads_.push_back(register_parameter("head" + name, normal(random.at("head", l), {o.sizes.channels[l], o.embedding + 1}, 0.1)));
    const torch::NoGradGuard no_grad;
    heads_.back().select(1, o.embedding).fill_(1);
    norms_.push_back(register_module("norm" + name, std::make_shared<BatchNorm>(o.sizes.channels[l])));
    in = o.sizes.channels[l];
  }
  classifier_ = register_parameter("classifier", normal(random.at("classifier"), {o.sizes.classes, in * kQuarters}, 0.1));
  embed_kernel_ = register_parameter("embed_kernel", he(random.at("embed_kernel"), {o.embedding, 1, 3, 3}));
  embed_map_ = register_parameter("embed_map", he(random.at("embed_map"), {o.embedding, o.embedding * 16}));
  embed_classifier_ = register_parameter("embed_classifier", normal(random.at("embed_classifier"), {o.sizes.classes, o.embedding}, 0.1));
}

torch::Tensor GatedCnn::embedding(const torch::Tensor& x) const {
  const auto places = at::adaptive_avg_pool2d(at::relu(conv(x, embed_kernel_, 2)), {4, 4}).flatten(1);
  return at::relu(at::matmul(places, embed_map_.t()));
}

torch::Tensor GatedCnn::through(const torch::Tensor& x_in, const std::vector<torch::Tensor>& gates) const {
  auto x = x_in;
  for (size_t l = 0; l < kernels_.size(); ++l) {
    auto y = norms_[l]->forward(conv(x, kernels_[l]));
    if (!gates.empty()) y = y * gates[l].unsqueeze(2).unsqueeze(3);
    x = pooled(at::relu(y), l + 1 == kernels_.size());
  }
  return classified(x, classifier_);
}

GatedCnn::Output GatedCnn::forward(const torch::Tensor& x) const {
  Output out;
  const auto e = embedding(x);
  out.embedding_logits = at::matmul(e, embed_classifier_.t());
  const auto with_one = at::cat({e, torch::ones({x.size(0), 1}, x.options())}, 1);
  for (const auto& head : heads_) out.gates.push_back(options_.gated ? at::relu(at::matmul(with_one, head.t())) : torch::ones({x.size(0), head.size(0)}, x.options()));
  out.logits = through(x, out.gates);
  return out;
}

torch::Tensor GatedCnn::forward_ungated(const torch::Tensor& x) const { return through(x, {}); }

torch::Tensor GatedCnn::forward_skipping(const torch::Tensor& x) const {
  const auto gates = forward(x).gates;
  std::vector<torch::Tensor> out;
  for (int64_t b = 0; b < x.size(0); ++b) {
    auto y = x.slice(0, b, b + 1);
    torch::Tensor live = torch::zeros({1}, torch::kInt64);  // channels that come in
    for (size_t l = 0; l < kernels_.size(); ++l) {
      const auto now = (gates[l][b] != 0).nonzero().view({-1});
      const auto kernel = kernels_[l].index_select(0, now).index_select(1, live);
      const bool last = l + 1 == kernels_.size();
      // Without channels that come in the sums are zero, and the normalisation still moves them.
      const auto sums = kernel.numel() == 0 ? torch::zeros({1, now.size(0), y.size(2), y.size(3)}, x.options()) : conv(y, kernel);
      if (now.size(0) == 0) y = torch::zeros({1, 0, last ? y.size(2) : y.size(2) / 2, last ? y.size(3) : y.size(3) / 2}, x.options());
      else y = pooled(at::relu(norms_[l]->forward_live(sums, now) * gates[l][b].index_select(0, now).view({1, -1, 1, 1})), last);
      live = now;
    }
    if (live.size(0) == 0) {
      out.push_back(torch::zeros({1, options_.sizes.classes}, x.options()));
      continue;
    }
    const auto classifier = classifier_.view({options_.sizes.classes, -1, kQuarters}).index_select(1, live).flatten(1);
    out.push_back(classified(y, classifier));
  }
  return at::cat(out);
}

double GatedCnn::flops(const std::vector<torch::Tensor>& gates) const {
  double sum = 0, side = static_cast<double>(options_.sizes.size);
  auto before = torch::ones({gates[0].size(0)}, torch::kFloat64);
  for (const auto& gate : gates) {
    const auto now = (gate != 0).sum(1).to(torch::kFloat64);
    sum += 2 * 9 * side * side * (now * before).mean().item<double>();
    before = now;
    side /= 2;
  }
  return sum;
}

double GatedCnn::flops_of_all() const {
  std::vector<torch::Tensor> ones;
  for (const auto& kernel : kernels_) ones.push_back(torch::ones({1, kernel.size(0)}));
  return flops(ones);
}

std::vector<torch::Tensor> GatedCnn::gate_parameters() const {
  std::vector<torch::Tensor> out = heads_;
  out.insert(out.end(), {embed_kernel_, embed_map_, embed_classifier_});
  return out;
}

std::vector<torch::Tensor> GatedCnn::base_parameters() const {
  std::vector<torch::Tensor> out = kernels_;
  add_parameters(out, norms_);
  out.push_back(classifier_);
  return out;
}

BlockedCnn::BlockedCnn(const Options& o, uint64_t seed) : options_(o) {
  check(o.sizes);
  if (o.experts < 1) fail(ErrorKind::config, "convolutions: {} experts, expected at least 1", o.experts);
  const RandomStream random(seed, "blocked cnn");
  int64_t in = 1;
  for (size_t l = 0; l < o.sizes.channels.size(); ++l) {
    kernels_.push_back(register_parameter("kernel" + std::to_string(l), he(random.at("kernel", l), {o.experts * o.sizes.channels[l], in, 3, 3})));
    norms_.push_back(register_module("norm" + std::to_string(l), std::make_shared<BatchNorm>(o.sizes.channels[l])));
    in = o.sizes.channels[l];
  }
  classifier_ = register_parameter("classifier", normal(random.at("classifier"), {o.sizes.classes, in * kQuarters}, 0.1));
  router_kernel_ = register_parameter("router_kernel", he(random.at("router_kernel"), {8, 1, 3, 3}));
  router_map_ = register_parameter("router_map", normal(random.at("router_map"), {o.experts, 8 * 16}, 0.1));
}

torch::Tensor BlockedCnn::route(const torch::Tensor& x) const {
  return at::matmul(at::adaptive_avg_pool2d(at::relu(conv(x, router_kernel_, 2)), {4, 4}).flatten(1), router_map_.t());
}

torch::Tensor BlockedCnn::forward(const torch::Tensor& x_in, const torch::Tensor& scores) const {
  const auto one_hot = torch::zeros_like(scores).detach().scatter_(1, scores.detach().argmax(1, /*keepdim=*/true), 1);
  const auto mask = (one_hot + scores - scores.detach()).view({x_in.size(0), options_.experts, 1, 1, 1});
  auto x = x_in;
  for (size_t l = 0; l < kernels_.size(); ++l) {
    const auto y = conv(x, kernels_[l]);
    const auto blocks = y.view({y.size(0), options_.experts, -1, y.size(2), y.size(3)});
    x = pooled(at::relu(norms_[l]->forward((blocks * mask).sum(1))), l + 1 == kernels_.size());
  }
  return classified(x, classifier_);
}

torch::Tensor BlockedCnn::pathway(int64_t expert, const torch::Tensor& x_in) const {
  auto x = x_in;
  for (size_t l = 0; l < kernels_.size(); ++l) {
    const int64_t width = options_.sizes.channels[l];
    x = pooled(at::relu(norms_[l]->forward(conv(x, kernels_[l].slice(0, expert * width, (expert + 1) * width)))), l + 1 == kernels_.size());
  }
  return classified(x, classifier_);
}

std::vector<torch::Tensor> BlockedCnn::backbone_parameters() const {
  std::vector<torch::Tensor> out = kernels_;
  add_parameters(out, norms_);
  out.push_back(classifier_);
  return out;
}

}  // namespace switchyard::vision
