// The same model on the CPU and on other devices (tests/support/devices.h).
#include "base/files.h"
#include "core/device.h"
#include "core/ops.h"
#include "expect_error.h"
#include "infer/generate.h"
#include "models/miniature.h"
#include "steps/recipe.h"
#include "support/devices.h"
#include "switchyard/checkpoint.h"
#include "test_files.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

namespace switchyard::device_test {  // its own: tests of a folder compile as one unit
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::devices;
using testing::kNoDevice;

// Every recipe of a language model that has a miniature; those of other tasks, and one whose layers differ in size, have none.
std::vector<std::string> recipes() {
  std::vector<std::string> out;
  const fs::path root = fs::path(SW_SOURCE_DIR) / "recipes";
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    const std::string name = fs::relative(entry.path(), root).string();
    const bool other = name.starts_with("boards") || name == "experts/transformer-components.toml";
    if (entry.path().extension() == ".toml" && !other && read_text_file(entry.path()).find("\n[task]") == std::string::npos) out.push_back(name);
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::string test_name(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param.substr(0, info.param.rfind('.'));
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

TokenBatch some_text(const ModelSpec& spec) {
  const int64_t rows = 2, length = std::min<int64_t>(24, spec.max_positions);
  TokenBatch batch;
  batch.input_ids = (torch::arange(rows * length, torch::kInt64) * 31 % 200).view({rows, length});
  batch.segments = torch::zeros({rows, length}, torch::kInt32);
  batch.segments.slice(1, length / 2).fill_(1);  // two documents in a row
  batch.segments[1].slice(0, length - 3).fill_(-1);
  batch.tags = torch::arange(rows, torch::kInt64).unsqueeze(1).expand({rows, length}).contiguous();
  if (spec.encoder) batch.source_ids = batch.input_ids.flip(1).contiguous(), batch.source_segments = batch.segments.flip(1).contiguous();
  return batch;
}

struct Pass {
  torch::Tensor logits, objective;
  std::map<std::string, torch::Tensor> gradients;
};

Pass run(LanguageModel& model, const TokenBatch& batch) {
  model.train();
  ModelOutput out = model.forward(batch, {.step = 1, .seed = 5});
  Pass pass;
  pass.logits = model.logits(out.hidden);
  const auto labels = torch::where(batch.segments >= 0, batch.input_ids.roll(-1, 1), torch::full({}, -1, torch::kInt64)).reshape({-1});
  const auto losses = ops::cross_entropy(pass.logits.reshape({-1, pass.logits.size(-1)}), labels).to(torch::kCPU), loss = losses.sum() / labels.numel();
  for (RoutingStats& stats : out.stats) stats.token_loss = losses.detach().index({(batch.segments >= 0).view({-1})});  // for gates that learn by reward
  pass.objective = loss + model.aux_loss(out).total;
  pass.objective.backward();
  for (const auto& p : model.named_parameters())
    if (p.value().grad().defined()) pass.gradients[p.key()] = p.value().grad().to_dense().to(torch::kCPU);
  return pass;
}

// What comes out behind a text that arrives in two pieces, as generation reads it.
torch::Tensor read_in_pieces(LanguageModel& model) {
  model.eval();
  const auto ids = some_text(model.spec()).input_ids;
  const auto tags = torch::ones_like(ids);
  KvCache cache(model.spec(), ids.size(0), ids.size(1), model.device());
  torch::Tensor hidden;
  for (const auto& [first, last] : {std::pair<int64_t, int64_t>{0, ids.size(1) - 2}, {ids.size(1) - 2, ids.size(1) - 1}})
    hidden = model.forward({.input_ids = ids.slice(1, first, last), .positions = {}, .segments = {}, .tags = tags.slice(1, first, last)}, {.cache = &cache}).hidden;
  return hidden.to(torch::kCPU);
}

double distance(const torch::Tensor& a, const torch::Tensor& b) {
  return (a.to(torch::kCPU) - b).abs().max().item<double>() / std::max(1e-3, b.abs().max().item<double>());
}

class EveryRecipe : public ::testing::TestWithParam<std::string> {};

// Arithmetic differs in the order of sums alone. A route that hangs on the last bit would make it differ in more: none does here.
TEST_P(EveryRecipe, LearnsOnADeviceAsOnTheCpu) {
  if (devices().empty()) GTEST_SKIP() << kNoDevice;
  const std::vector<std::string> bytes{"tokenizer.kind=byte"};
  const Recipe recipe = load_recipe(fs::path(SW_SOURCE_DIR) / "recipes" / GetParam(), bytes);
  const ModelSpec spec = miniature(resolved_model(recipe), 257);
  LanguageModel cpu(spec, 3);
  const Pass expected = run(cpu, some_text(spec));
  for (const torch::Device device : devices()) {
    LanguageModel model(spec, 3);
    model.to_device(device);
    EXPECT_EQ(model.device(), device);
    const Pass found = run(model, some_text(spec));
    EXPECT_EQ(found.logits.device(), device);
    EXPECT_LT(distance(found.logits, expected.logits), 1e-4);
    EXPECT_NEAR(found.objective.item<double>(), expected.objective.item<double>(), 1e-4);
    ASSERT_EQ(found.gradients.size(), expected.gradients.size());
    for (const auto& [name, gradient] : expected.gradients) EXPECT_LT(distance(found.gradients.at(name), gradient), 1e-3) << name;
    for (const auto& [layer, moe] : model.moe_layers()) EXPECT_EQ(moe->experts().flat_weights().device(), device) << layer;
    if (spec.causal && !spec.encoder) {
      EXPECT_LT(distance(read_in_pieces(model), read_in_pieces(cpu)), 1e-4);
    }
  }
}

ModelSpec tiny_spec() {
  ModelSpec spec;
  spec.d_model = 16, spec.num_layers = 2, spec.num_heads = 2, spec.d_ff = 32, spec.vocab_size = 64, spec.max_positions = 64;
  spec.moe.emplace();
  spec.moe->num_experts = 4;
  spec.moe->d_expert = 16;
  spec.init_std = 0.3;  // far from ties
  return spec.resolved();
}

TEST(Device, GeneratesTheSameText) {
  if (devices().empty()) GTEST_SKIP() << kNoDevice;
  const std::vector<int32_t> prompt{5, 9, 2, 33};
  GenerateOptions options;
  options.max_tokens = 20;
  options.sampling.temperature = 0;
  LanguageModel cpu(tiny_spec(), 3);
  const auto expected = generate(cpu, nullptr, prompt, options).ids;
  for (const torch::Device device : devices()) {
    LanguageModel model(tiny_spec(), 3);
    model.to_device(device);
    EXPECT_EQ(generate(model, nullptr, prompt, options).ids, expected);
    model.to_device(torch::kCPU);  // and home again
    EXPECT_EQ(generate(model, nullptr, prompt, options).ids, expected);
  }
}

TEST(Device, RoutersStayOnTheCpu) {
  if (devices().empty()) GTEST_SKIP() << kNoDevice;
  LanguageModel model(tiny_spec(), 3);
  model.to_device(devices().back());
  for (const auto& p : model.named_parameters()) EXPECT_EQ(p.value().device().is_cpu(), p.key().find(".gate.") != std::string::npos) << p.key();
}

TEST(Device, ACheckpointDoesNotTellWhereItsModelWas) {
  if (devices().empty()) GTEST_SKIP() << kNoDevice;
  const testing::TempDir dir;
  const auto saved = [&](const char* name, torch::Device device) {
    auto model = std::make_shared<LanguageModel>(tiny_spec(), 3);
    model->to_device(device);
    save_checkpoint({.model = model, .tokenizer = nullptr, .training_tensors = {}, .training_state = {}}, dir / name);
    return load_checkpoint(dir / name);
  };
  const Checkpoint here = saved("cpu", torch::kCPU);
  for (const torch::Device device : devices()) {
    const Checkpoint there = saved("device", device);
    for (const auto& p : there.model->named_parameters()) EXPECT_TRUE(torch::equal(p.value(), here.model->named_parameters()[p.key()])) << p.key();
  }
}

TEST(Device, WhatNeedsTheCpuSaysSo) {
  if (devices().empty()) GTEST_SKIP() << kNoDevice;
  const torch::Device device = devices().back();
  LanguageModel model(tiny_spec(), 3), packed(tiny_spec(), 3);
  packed.pack_weights("int8");
  expect_error(ErrorKind::unsupported, {"packed weights", "--weights plain"}, [&] { packed.to_device(device); });
  model.to_device(device);
  EXPECT_NE(model.paging_obstacle().find("memory of the CPU"), std::string::npos);
  GenerateOptions options;
  options.kv_cache = "int8";
  expect_error(ErrorKind::unsupported, {"paged cache", "memory of the CPU"}, [&] { (void)generate(model, nullptr, std::vector<int32_t>{1}, options); });
}

TEST(Device, NamesAreRead) {
  EXPECT_TRUE(parse_device("cpu").is_cpu());
  for (const char* name : {"gpu", "cuda:x", "cuda0", ""}) expect_error(ErrorKind::usage, {"expected cpu, cuda or cuda:N"}, [&] { (void)parse_device(name); });
  if (!torch::cuda::is_available()) {
    expect_error(ErrorKind::unsupported, {"device = 'cuda'", "finds no CUDA"}, [] { (void)parse_device("cuda"); });
    GTEST_SKIP() << "no GPU here";
  }
  EXPECT_EQ(parse_device("cuda"), torch::Device(torch::kCUDA, 0));
  expect_error(ErrorKind::unsupported, {"this machine has"}, [] { (void)parse_device("cuda:63"); });
}

INSTANTIATE_TEST_SUITE_P(Device, EveryRecipe, ::testing::ValuesIn(recipes()), test_name);

}  // namespace
}  // namespace switchyard::device_test
