// Conversions lose nothing that they need not: GGUF and back, other dtypes, quantised weights within the bounds of their formats.
#include "models/convert.h"

#include "base/files.h"
#include "expect_error.h"
#include "io/gguf/gguf.h"
#include "io/quant/minifloat.h"
#include "io/quant/scaled_blocks.h"
#include "io/safetensors_set.h"
#include "models/golden.h"
#include "models/small_specs.h"
#include "test_files.h"

#include <cmath>
#include <cstring>
#include <set>

namespace switchyard::testing {
namespace {
namespace convert {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

torch::Tensor logits(LanguageModel& model) {
  const torch::NoGradGuard no_grad;
  model.eval();
  const auto ids = torch::arange(12).remainder(model.spec().vocab_size).view({2, 6});
  return model.logits(model.forward({ids, {}, {}}).hidden);
}

void run(const fs::path& in, const fs::path& out, const ConvertOptions& options = {}) { plan_conversion(in, out, options).write({}); }

// Rows of 256 values, so that every block format fits.
ModelSpec wide_spec(bool sparse) {
  ModelSpec s = sparse ? mixtral_like_spec() : llama_like_spec();
  s.vocab_size = 40;
  s.d_model = s.d_ff = 256;
  s.num_heads = 4;
  s.num_kv_heads = 2;
  s.head_dim = 64;
  s.init_std = 0.05;
  if (s.moe) s.moe->num_experts = 3, s.moe->d_expert = 256;
  return s.resolved();
}

fs::path saved(const ModelSpec& spec, const fs::path& folder) {
  Checkpoint checkpoint;
  checkpoint.model = std::make_shared<LanguageModel>(spec, 7);
  save_checkpoint(checkpoint, folder);
  return folder;
}

// Logits that the Hugging Face library recorded, through GGUF; and the second file has the bytes of the first.
TEST(Convert, GoldenModelsSurviveGguf) {
  for (const char* name : {"llama", "mixtral", "mixtral-sharded"}) {
    const TempDir dir;
    run(golden_folder(name), dir / "a.gguf");
    const auto want = load_checkpoint(golden_folder(name)), got = load_checkpoint(dir / "a.gguf");
    EXPECT_TRUE(same_bits(logits(*got.model), logits(*want.model))) << name;
    EXPECT_EQ(load_spec(dir / "a.gguf").d_model, want.model->spec().d_model);

    run(dir / "a.gguf", dir / "folder");
    run(dir / "folder", dir / "b.gguf");
    EXPECT_EQ(read_text_file(dir / "a.gguf"), read_text_file(dir / "b.gguf")) << name;
    EXPECT_TRUE(same_bits(logits(*load_checkpoint(dir / "folder").model), logits(*want.model))) << name;
  }
}

TEST(Convert, FoldersToOtherTypesAndShards) {
  const TempDir dir;
  const auto folder = saved(wide_spec(true), dir / "model");
  ConvertOptions options;
  options.dtype = "bfloat16";
  options.max_shard_bytes = 300'000;
  const auto plan = plan_conversion(folder, dir / "small", options);
  plan.write({});
  EXPECT_TRUE(fs::exists(dir / "small/model.safetensors.index.json"));
  EXPECT_EQ(json::parse(read_text_file(dir / "small/config.json"))["torch_dtype"], "bfloat16");
  const auto a = load_checkpoint(folder), b = load_checkpoint(dir / "small");
  const auto other = b.model->named_parameters();
  for (const auto& item : a.model->named_parameters())
    EXPECT_TRUE(same_bits(item.value().to(torch::kBFloat16).to(torch::kFloat32), other[item.key()])) << item.key();
  int64_t bytes = 0;
  for (const auto& tensor : plan.tensors) bytes += tensor.bytes;
  EXPECT_EQ(bytes, 2 * [&] { int64_t n = 0; for (const auto& p : a.model->parameters()) n += p.numel(); return n; }());
}

// Bounds of io/quant/block_format.h, loosely by the largest value of the matrix: a row's blocks have smaller ranges.
TEST(Convert, QuantisedWeightsStayWithinTheirBounds) {
  const TempDir dir;
  for (const bool sparse : {false, true}) {
    const auto folder = saved(wide_spec(sparse), dir / (sparse ? "mixtral" : "llama"));
    auto exact = load_checkpoint(folder);
    const auto want = logits(*exact.model);
    // {format, largest error as a share of the largest value, share of the logits' size that we accept}
    const std::vector<std::tuple<io::GgmlType, double, double>> formats = {{io::GgmlType::f16, 0x1p-11, 0.01}, {io::GgmlType::bf16, 0x1p-8, 0.05},
                                                                           {io::GgmlType::q8_0, 0.51 / 127, 0.05}, {io::GgmlType::q6_k, 1.0 / 31, 0.15},
                                                                           {io::GgmlType::q4_k, 2.0 / 15, 0.6}};
    for (const auto& [type, share, accepted] : formats) {
      const auto file = dir / fmt::format("{}-{}.gguf", sparse, io::format_of(type).name);
      ConvertOptions options;
      options.quantize = type;
      run(folder, file, options);
      auto loaded = load_checkpoint(file);
      const auto other = loaded.model->named_parameters();
      for (const auto& item : exact.model->named_parameters()) {
        const auto difference = (item.value() - other[item.key()]).abs().max().item<double>(), most = item.value().abs().max().item<double>();
        EXPECT_LE(difference, share * most) << item.key() << " as " << io::format_of(type).name;
      }
      const auto found = logits(*loaded.model);
      EXPECT_LE((found - want).norm().item<double>(), accepted * want.norm().item<double>()) << io::format_of(type).name;
      EXPECT_FALSE(found.equal(want));
    }
  }
}

TEST(Convert, RoutersAndVectorsStayFloat32) {
  const TempDir dir;
  ConvertOptions options;
  options.quantize = io::GgmlType::q4_k;
  run(saved(wide_spec(true), dir / "model"), dir / "m.gguf", options);
  const auto file = io::GgufFile::open(dir / "m.gguf");
  EXPECT_EQ(file.find("blk.0.ffn_gate_inp.weight")->format->name, "F32");
  EXPECT_EQ(file.find("blk.1.attn_norm.weight")->format->name, "F32");
  EXPECT_EQ(file.find("blk.1.ffn_down_exps.weight")->format->name, "Q4_K");
  EXPECT_EQ(file.find("blk.1.ffn_down_exps.weight")->shape, (std::vector<int64_t>{3, 256, 256}));
  EXPECT_EQ(io::to_json(*io::find(file.metadata(), "llama.expert_used_count")), 2);
}

// As Llama 3.1 has them: the tensor that other programs read, by wave lengths; rounding of divisors to float32 is all that is lost.
TEST(Convert, PositionsOfLlama3BecomeDivisorsInGguf) {
  const TempDir dir;
  ModelSpec spec = wide_spec(false);
  spec.rope_theta = 500;
  spec.rope.scaling = "llama3", spec.rope.factor = 8, spec.rope.low_freq_factor = 1, spec.rope.high_freq_factor = 4, spec.rope.original_positions = 64;
  const auto folder = saved(spec, dir / "model");
  run(folder, dir / "a.gguf");
  const auto file = io::GgufFile::open(dir / "a.gguf");
  const io::GgufTensor* tensor = file.find("rope_freqs.weight");
  ASSERT_NE(tensor, nullptr);
  ASSERT_EQ(tensor->shape, std::vector<int64_t>{32});
  std::set<int> kinds;
  for (int i = 0; i < 32; ++i) {
    float found = 0;
    std::memcpy(&found, tensor->bytes.data() + 4 * i, 4);
    const double wave = 2 * 3.14159265358979323846 * std::pow(500.0, i / 32.0);
    const double smooth = (64 / wave - 1) / (4 - 1);
    EXPECT_NEAR(found, wave < 16 ? 1 : wave > 64 ? 8 : 1 / ((1 - smooth) / 8 + smooth), 1e-6) << i;
    kinds.insert(wave < 16 ? 0 : wave > 64 ? 2 : 1);
  }
  EXPECT_EQ(kinds.size(), 3u);
  const auto want = load_checkpoint(folder), got = load_checkpoint(dir / "a.gguf");
  EXPECT_EQ(got.model->spec().rope.scaling, "longrope");
  EXPECT_LT((logits(*got.model) - logits(*want.model)).abs().max().item<double>(), 1e-5);
  run(dir / "a.gguf", dir / "folder");
  run(dir / "folder", dir / "b.gguf");
  EXPECT_EQ(read_text_file(dir / "a.gguf"), read_text_file(dir / "b.gguf"));
}

// The library's own stacked files have the tensors that --layout stacked writes, and the way back gives the file that it came from.
TEST(Convert, LayoutsOfTheGoldenModelsAreThoseOfTheLibrary) {
  for (const std::string name : {"mixtral", "qwen2_moe", "deepseek_v3", "jamba"}) {
    const TempDir dir;
    ConvertOptions options;
    options.layout = "stacked";
    run(golden_folder(name), dir / "stacked", options);
    const auto want = SafetensorsSet::open(golden_folder(name + "-fused")), got = SafetensorsSet::open(dir / "stacked");
    ASSERT_EQ(want.entries().size(), got.entries().size()) << name;
    for (const TensorEntry* entry : want.entries()) {
      ASSERT_NE(got.find(entry->name), nullptr) << entry->name;
      EXPECT_EQ(got.at(entry->name).shape, entry->shape) << entry->name;
      EXPECT_TRUE(std::ranges::equal(got.at(entry->name).bytes, entry->bytes)) << entry->name;
    }
    expect_error(ErrorKind::unsupported, {"--layout published"}, [&] { (void)plan_conversion(dir / "stacked", dir / "x.gguf", {}); });
    options.layout = "published";
    run(dir / "stacked", dir / "back", options);
    const auto first = SafetensorsSet::open(golden_folder(name)), back = SafetensorsSet::open(dir / "back");
    ASSERT_EQ(first.entries().size(), back.entries().size()) << name;
    for (const TensorEntry* entry : first.entries()) EXPECT_TRUE(std::ranges::equal(back.at(entry->name).bytes, entry->bytes)) << entry->name;
  }
}

// What stands beside the weights comes along, and "auto" keeps 16-bit floats, whether tensors go over one by one or through memory.
TEST(Convert, AnotherLayoutKeepsSideFilesAndFloats) {
  const TempDir dir;
  fs::copy(golden_folder("olmoe-bf16"), dir / "model");
  write_file_atomic(dir / "model/tokenizer_config.json", "{}");
  write_file_atomic(dir / "model/chat_template.jinja", "x");
  ConvertOptions options;
  options.layout = "stacked";
  const Conversion plan = plan_conversion(dir / "model", dir / "out", options);
  plan.write({});
  for (const auto& file : plan.files) EXPECT_TRUE(fs::exists(dir / "out" / file)) << file;
  EXPECT_EQ(read_text_file(dir / "out/chat_template.jinja"), "x");
  const auto files = SafetensorsSet::open(dir / "out");
  for (const TensorEntry* entry : files.entries()) EXPECT_EQ(entry->dtype, DType::bf16) << entry->name;
  options.layout = "fused";
  expect_error(ErrorKind::unsupported, {"'fused'", "published, stacked"}, [&] { (void)plan_conversion(dir / "model", dir / "x", options); });
  options.layout = "stacked";
  expect_error(ErrorKind::unsupported, {"'stacked'", "published"}, [&] { (void)plan_conversion(golden_folder("llama"), dir / "x", options); });
  expect_error(ErrorKind::usage, {"--layout"}, [&] { (void)plan_conversion(dir / "model", dir / "x.gguf", options); });
}

TEST(Convert, RefusesWhatDoesNotFit) {
  const TempDir dir;
  const auto folder = saved(wide_spec(true), dir / "model");
  fs::create_directory(dir / "full");
  write_file_atomic(dir / "full/x", "");
  expect_error(ErrorKind::usage, {"exists"}, [&] { (void)plan_conversion(folder, dir / "full", {}); });
  ConvertOptions options;
  options.family = "llama";
  expect_error(ErrorKind::unsupported, {"cannot convert to 'llama'"}, [&] { (void)plan_conversion(folder, dir / "x", options); });
  expect_error(ErrorKind::unsupported, {"folder of 'llama' first"}, [&] { (void)plan_conversion(folder, dir / "x.gguf", options); });
  options = {};
  options.quantize = io::GgmlType::q8_0;
  expect_error(ErrorKind::usage, {"blocks of GGUF"}, [&] { (void)plan_conversion(folder, dir / "x", options); });
  options.quantize = io::GgmlType::q2_k;
  expect_error(ErrorKind::usage, {"Q2_K", "Q4_K"}, [&] { (void)plan_conversion(folder, dir / "x.gguf", options); });
  options = {};
  options.dtype = "int3";
  expect_error(ErrorKind::usage, {"int3"}, [&] { (void)plan_conversion(folder, dir / "x", options); });
  EXPECT_FALSE(fs::exists(dir / "x"));
  EXPECT_FALSE(fs::exists(dir / "x.gguf"));
}

TEST(Convert, AnotherFamilyWhereTheMathematicsAllowIt) {
  const TempDir dir;
  const auto folder = saved(wide_spec(false), dir / "model");
  ConvertOptions options;
  options.family = "switchyard";
  run(folder, dir / "own", options);
  EXPECT_EQ(json::parse(read_text_file(dir / "own/config.json"))["model_type"], "switchyard");
  EXPECT_TRUE(same_bits(logits(*load_checkpoint(dir / "own").model), logits(*load_checkpoint(folder).model)));
}

// A folder as DeepSeek-V3 stores its matrices, made here: codes and scales per block.
TEST(Convert, Float8FoldersAreDecodedWhenLoaded) {
  const TempDir dir;
  const auto folder = saved(wide_spec(true), dir / "model");
  const auto file = SafetensorsFile::open(folder / "model.safetensors");
  std::map<std::string, torch::Tensor> want;
  std::vector<std::vector<std::byte>> kept_codes;
  std::vector<std::vector<float>> kept_scales;
  kept_codes.reserve(100), kept_scales.reserve(100);
  std::vector<TensorSource> sources;
  for (const TensorEntry& entry : file.entries()) {
    const auto values = as_tensor(entry);
    if (entry.shape.size() != 2 || entry.shape[0] % 64 != 0 || entry.shape[1] % 64 != 0) {
      sources.push_back(as_stored(entry.name, values));
      continue;
    }
    auto& codes = kept_codes.emplace_back(values.numel());
    auto& scales = kept_scales.emplace_back();
    const auto rows = entry.shape[0], columns = entry.shape[1];
    io::encode_fp8_blocks(DType::f8_e4m3, {values.data_ptr<float>(), static_cast<size_t>(values.numel())}, rows, columns, 64, codes.data(), scales);
    sources.push_back(tensor_source(entry.name, DType::f8_e4m3, entry.shape, codes));
    sources.push_back(tensor_source(entry.name + "_scale_inv", DType::f32, {rows / 64, columns / 64}, std::as_bytes(std::span(scales))));
    auto decoded = torch::empty_like(values);
    for (int64_t r = 0; r < rows; ++r)  // one value at a time
      for (int64_t c = 0; c < columns; ++c)
        decoded[r][c] = io::f8_e4m3_to_float32(std::to_integer<uint8_t>(codes[static_cast<size_t>(r * columns + c)])) *
                        scales[static_cast<size_t>(r / 64 * (columns / 64) + c / 64)];
    want[entry.name] = decoded;
    if (want.size() == 4) break;
  }
  for (const TensorEntry& entry : file.entries())
    if (std::none_of(sources.begin(), sources.end(), [&](const TensorSource& s) { return s.name == entry.name; }))
      sources.push_back(as_stored(entry.name, as_tensor(entry)));
  write_safetensors(dir / "fp8.safetensors", sources);
  fs::create_directory(dir / "fp8");
  fs::rename(dir / "fp8.safetensors", dir / "fp8/model.safetensors");
  json config = json::parse(read_text_file(folder / "config.json"));
  config["quantization_config"] = {{"quant_method", "fp8"}, {"fmt", "e4m3"}, {"weight_block_size", {64, 64}}, {"activation_scheme", "dynamic"}};
  write_file_atomic(dir / "fp8/config.json", config.dump());

  auto loaded = load_checkpoint(dir / "fp8");
  run(dir / "fp8", dir / "plain");
  const auto plain = SafetensorsFile::open(dir / "plain/model.safetensors");
  ASSERT_EQ(want.size(), 4U);
  for (const auto& [name, values] : want) EXPECT_TRUE(same_bits(as_tensor(*plain.find(name)), values)) << name;
  EXPECT_TRUE(same_bits(logits(*loaded.model), logits(*load_checkpoint(dir / "plain").model)));
  EXPECT_FALSE(json::parse(read_text_file(dir / "plain/config.json")).contains("quantization_config"));
  config["quantization_config"]["quant_method"] = "gptq";
  write_file_atomic(dir / "fp8/config.json", config.dump());
  expect_error(ErrorKind::unsupported, {"quantization_config"}, [&] { (void)load_checkpoint(dir / "fp8"); });
}

}  // namespace convert
}  // namespace
}  // namespace switchyard::testing
