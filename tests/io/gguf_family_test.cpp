// Tables of names and keys against lists recorded from github.com/ggml-org/llama.cpp (gguf-py/gguf/constants.py: TENSOR_NAMES,
// MODEL_TENSORS, Keys; gguf-py/gguf/tensor_mapping.py; MIT licence, names only), and the translation of tokenizers.
#include "base/files.h"
#include "expect_error.h"
#include "io/gguf/gguf_config.h"
#include "io/gguf/gguf_tokenizer.h"
#include "io/gguf/pre_tokenizers.h"
#include "io/llama2c.h"
#include "io/tokenizer/tokenizer.h"
#include "test_files.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <set>

namespace switchyard::io {
namespace {
namespace gguf_family {

using nlohmann::ordered_json;
using testing::expect_error;
using testing::TempDir;

// TENSOR_NAMES of constants.py that decoders with experts use.
const std::set<std::string> kPublishedNames = {"token_embd",
                                               "output_norm",
                                               "output",
                                               "blk.{i}.attn_norm",
                                               "blk.{i}.attn_q",
                                               "blk.{i}.attn_k",
                                               "blk.{i}.attn_v",
                                               "blk.{i}.attn_qkv",
                                               "blk.{i}.attn_output",
                                               "blk.{i}.attn_sinks",
                                               "blk.{i}.attn_q_norm",
                                               "blk.{i}.attn_k_norm",
                                               "blk.{i}.attn_output_norm",
                                               "blk.{i}.post_attention_norm",
                                               "blk.{i}.ffn_gate_inp",
                                               "blk.{i}.ffn_gate_inp_shexp",
                                               "blk.{i}.ffn_norm",
                                               "blk.{i}.ffn_gate",
                                               "blk.{i}.ffn_down",
                                               "blk.{i}.ffn_up",
                                               "blk.{i}.ffn_gate_shexp",
                                               "blk.{i}.ffn_down_shexp",
                                               "blk.{i}.ffn_up_shexp",
                                               "blk.{i}.ffn_gate_exps",
                                               "blk.{i}.ffn_down_exps",
                                               "blk.{i}.ffn_up_exps",
                                               "blk.{i}.exp_probs_b",
                                               "blk.{i}.attn_q_a",
                                               "blk.{i}.attn_q_b",
                                               "blk.{i}.attn_kv_a_mqa",
                                               "blk.{i}.attn_kv_b",
                                               "blk.{i}.attn_k_b",
                                               "blk.{i}.attn_v_b",
                                               "blk.{i}.ffn_norm_exps",
                                               "blk.{i}.ssm_in",
                                               "blk.{i}.ssm_conv1d",
                                               "blk.{i}.ssm_x",
                                               "blk.{i}.ssm_dt",
                                               "blk.{i}.ssm_dt_norm",
                                               "blk.{i}.ssm_b_norm",
                                               "blk.{i}.ssm_c_norm",
                                               "blk.{i}.ssm_a",
                                               "blk.{i}.ssm_d",
                                               "blk.{i}.ssm_out",
                                               "blk.{i}.attn_q_a_norm",
                                               "blk.{i}.attn_kv_a_norm",
                                               "blk.{i}.ffn_gate.{e}",
                                               "blk.{i}.ffn_down.{e}",
                                               "blk.{i}.ffn_up.{e}"};

// Keys of constants.py, behind the architecture.
const std::set<std::string> kPublishedKeys = {"context_length",
                                              "embedding_length",
                                              "block_count",
                                              "feed_forward_length",
                                              "expert_feed_forward_length",
                                              "expert_shared_feed_forward_length",
                                              "expert_count",
                                              "expert_used_count",
                                              "expert_shared_count",
                                              "expert_weights_scale",
                                              "expert_weights_norm",
                                              "expert_gating_func",
                                              "expert_group_count",
                                              "expert_group_used_count",
                                              "nextn_predict_layers",
                                              "attention.key_length_mla",
                                              "attention.value_length_mla",
                                              "rope.scaling.original_context_length",
                                              "rope.scaling.attn_factor",
                                              "rope.scaling.yarn_log_multiplier",
                                              "ssm.conv_kernel",
                                              "ssm.inner_size",
                                              "ssm.state_size",
                                              "ssm.time_step_rank",
                                              "leading_dense_block_count",
                                              "attention.head_count",
                                              "attention.head_count_kv",
                                              "attention.clamp_kqv",
                                              "attention.key_length",
                                              "attention.value_length",
                                              "attention.layer_norm_epsilon",
                                              "attention.layer_norm_rms_epsilon",
                                              "attention.q_lora_rank",
                                              "attention.kv_lora_rank",
                                              "attention.sliding_window",
                                              "attention.scale",
                                              "rope.dimension_count",
                                              "rope.freq_base",
                                              "rope.scaling.type",
                                              "embedding_scale",
                                              "residual_scale",
                                              "logit_scale",
                                              "vocab_size",
                                              "tensor_data_layout"};

TEST(GgufFamily, NamesAndKeysAreTheOnesThatArePublished) {
  for (const GgufFamily& family : gguf_families()) {
    std::set<std::string_view> names;
    for (const NameRow& row : family.names) {
      const bool bare = row.gguf == "blk.{i}.ssm_a" || row.gguf == "blk.{i}.ssm_d";  // parameters of a module, without a name of their own
      const size_t dot = bare ? row.gguf.size() : row.gguf.rfind('.');
      EXPECT_TRUE(kPublishedNames.count(std::string(row.gguf.substr(0, dot)))) << family.model_type << ": " << row.gguf;
      EXPECT_TRUE(bare || row.gguf.substr(dot) == ".weight" || row.gguf.substr(dot) == ".bias") << row.gguf;
      EXPECT_TRUE(names.insert(row.gguf).second) << row.gguf;
      EXPECT_EQ(row.gguf.find("{i}") == row.gguf.npos, row.hf.find("{i}") == row.hf.npos) << row.gguf;
      EXPECT_EQ(row.hf.find("{e}") != row.hf.npos, row.how == Arrange::stack || row.how == Arrange::old_expert) << row.gguf;
    }
    for (const KeyRow& row : family.keys) EXPECT_TRUE(kPublishedKeys.count(std::string(row.gguf))) << family.model_type << ": " << row.gguf;
    for (const std::string_view key : family.more) EXPECT_TRUE(kPublishedKeys.count(std::string(key))) << family.model_type << ": " << key;
    for (const std::string_view key : family.known) EXPECT_TRUE(kPublishedKeys.count(std::string(key))) << family.model_type << ": " << key;
  }
}

// Pairs of tensor_mapping.py.
TEST(GgufFamily, PairsAreTheOnesOfTheMapping) {
  const auto pair = [](const char* model_type, const char* gguf) -> std::string {
    for (const NameRow& row : gguf_family_of(model_type).names)
      if (row.gguf == gguf) return std::string(row.hf);
    return "";
  };
  EXPECT_EQ(pair("mixtral", "blk.{i}.ffn_gate_inp.weight"), "model.layers.{i}.block_sparse_moe.gate.weight");
  EXPECT_EQ(pair("mixtral", "blk.{i}.ffn_down_exps.weight"), "model.layers.{i}.block_sparse_moe.experts.{e}.w2.weight");
  EXPECT_EQ(pair("qwen2_moe", "blk.{i}.ffn_gate_inp_shexp.weight"), "model.layers.{i}.mlp.shared_expert_gate.weight");
  EXPECT_EQ(pair("qwen3_moe", "blk.{i}.attn_q_norm.weight"), "model.layers.{i}.self_attn.q_norm.weight");
  EXPECT_EQ(pair("olmoe", "blk.{i}.ffn_up_exps.weight"), "model.layers.{i}.mlp.experts.{e}.up_proj.weight");
  EXPECT_EQ(pair("deepseek_v2", "blk.{i}.attn_kv_a_mqa.weight"), "model.layers.{i}.self_attn.kv_a_proj_with_mqa.weight");
  EXPECT_EQ(pair("deepseek_v2", "blk.{i}.ffn_down_shexp.weight"), "model.layers.{i}.mlp.shared_experts.down_proj.weight");
  EXPECT_EQ(pair("dbrx", "blk.{i}.attn_output_norm.weight"), "transformer.blocks.{i}.norm_attn_norm.norm_2.weight");
  EXPECT_EQ(pair("granitemoe", "blk.{i}.ffn_down_exps.weight"), "model.layers.{i}.block_sparse_moe.output_linear.weight");
  EXPECT_EQ(pair("gpt_oss", "blk.{i}.attn_sinks.weight"), "model.layers.{i}.self_attn.sinks");
}

TEST(GgufFamily, PatternsMatchWholeNamesOnly) {
  const auto numbers = match("blk.{i}.ffn_up.{e}.weight", "blk.12.ffn_up.7.weight");
  ASSERT_TRUE(numbers);
  EXPECT_EQ(numbers->layer, 12);
  EXPECT_EQ(numbers->expert, 7);
  EXPECT_EQ(fill_in("blk.{i}.ffn_up.{e}.weight", 12, 7), "blk.12.ffn_up.7.weight");
  for (const char* wrong : {"blk.12.ffn_up.7.weights", "blk.012.ffn_up.7.weight", "blk..ffn_up.7.weight", "blk.-1.ffn_up.7.weight", "blk.1.ffn_up.7",
                            "blk.99999999999999999999.ffn_up.7.weight"})
    EXPECT_FALSE(match("blk.{i}.ffn_up.{e}.weight", wrong)) << wrong;
  expect_error(ErrorKind::unsupported, {"'gpt9'", "mixtral"}, [] { (void)gguf_family_of("gpt9"); });
}

// Our own tokenizer, as other programs see it: the same ids come out of the tokenizer.ggml form alone.
TEST(GgufTokenizer, TheGgmlFormGivesTheSameIds) {
  const std::string text = "the cat sat on the mat; the cat ate the rat. the mat is flat";
  const std::vector<std::string_view> texts(4, text);
  const auto tokenizer = train_bpe(texts, 280);
  const ordered_json json = tokenizer->to_json();
  GgufMetadata metadata;
  std::vector<std::string> notes;
  add_tokenizer(&json, {{"eos_token_id", 256}}, ordered_json::object(), metadata, notes);
  EXPECT_TRUE(notes.empty());
  EXPECT_EQ(*find(metadata, "tokenizer.ggml.model")->string(), "gpt2");
  EXPECT_EQ(tokenizer_of(metadata, "f")->dump(), json.dump());  // from tokenizer.huggingface.json
  std::erase_if(metadata, [](const auto& item) { return item.first == "tokenizer.huggingface.json"; });
  const auto again = parse_tokenizer(tokenizer_of(metadata, "f")->dump(), "f");
  for (const char* sample : {"the cat", "a flat rat's mat\n\n  x", "<|endoftext|>the"}) EXPECT_EQ(again->encode(sample), tokenizer->encode(sample)) << sample;
  EXPECT_EQ(tokenizer_config_of(metadata)["eos_token"], "<|endoftext|>");
}

// Bytes as they are: no merges, so that words may be split as other programs do.
TEST(GgufTokenizer, BytesHaveAGgmlFormToo) {
  const auto tokenizer = make_byte_tokenizer();
  const ordered_json json = tokenizer->to_json();
  GgufMetadata metadata;
  std::vector<std::string> notes;
  add_tokenizer(&json, {{"eos_token_id", 256}}, ordered_json::object(), metadata, notes);
  EXPECT_TRUE(notes.empty());
  std::erase_if(metadata, [](const auto& item) { return item.first == "tokenizer.huggingface.json"; });
  const auto again = parse_tokenizer(tokenizer_of(metadata, "f")->dump(), "f");
  for (const char* sample : {"the cat's  mat\n\n", "\xC3\xA9t\xC3\xA9 42", "<|endoftext|>the"}) EXPECT_EQ(again->encode(sample), tokenizer->encode(sample)) << sample;
}

// Byte-level tokenizers of published styles: what the names of tokenizer.ggml.pre say gives the recorded ids. Texts that spell an added
// token are left out: how it takes blanks around it is not in tokenizer.ggml.
TEST(GgufTokenizer, NamesOfSplittingsGiveTheRecordedIds) {
  for (const auto& [style, name] : {std::pair<std::string, std::string>{"gpt2", "gpt-2"}, {"llama3", "llama-bpe"}, {"qwen2", "qwen2"}, {"o200k", "gpt-4o"}, {"deepseek", "deepseek-v3"}}) {
    const std::string folder = SW_TEST_DATA "/tokenizers/" + style;
    const auto json = ordered_json::parse(read_text_file(folder + "/tokenizer.json"));
    GgufMetadata metadata;
    std::vector<std::string> notes;
    add_tokenizer(&json, {{"bos_token_id", 1}}, ordered_json::object(), metadata, notes);
    ASSERT_TRUE(notes.empty()) << style << notes[0];
    EXPECT_EQ(*find(metadata, "tokenizer.ggml.pre")->string(), name);
    std::erase_if(metadata, [](const auto& item) { return item.first == "tokenizer.huggingface.json"; });
    const auto again = parse_tokenizer(tokenizer_of(metadata, "f")->dump(), "f");
    size_t compared = 0;
    const auto golden = ordered_json::parse(read_text_file(folder + "/cases.json"));
    for (const auto& item : golden.at("cases")) {
      const auto text = item.at("text").get<std::string>();
      const auto spells = [&](const ordered_json& token) { return text.find(token.at("content").get<std::string>()) != std::string::npos; };
      const auto& added = json.at("added_tokens");
      if (std::any_of(added.begin(), added.end(), spells)) continue;
      EXPECT_EQ(again->encode(text), item.at("ids_no_template").get<std::vector<int32_t>>()) << style << ": " << text;
      ++compared;
    }
    EXPECT_GT(compared, 60U) << style;
  }
}

// Granite's words: digits one by one, then GPT-2's.
TEST(GgufTokenizer, DigitsInFrontHaveANameToo) {
  const GgufPreTokenizer& pre = *find_pre_tokenizer("refact");
  EXPECT_EQ(splitting_name(splitting_of(pre)), "refact");
  ordered_json json = ordered_json::parse(read_text_file(SW_TEST_DATA "/tokenizers/gpt2/tokenizer.json"));
  json["pre_tokenizer"] = splitting_of(pre);
  EXPECT_EQ(parse_tokenizer(json.dump(), "f")->encode("12 3").size(), 4U);  // "1", "2", " ", "3"
  for (const char* change : {"Whitespace", "Digits"}) {
    json["pre_tokenizer"]["pretokenizers"][0] = {{"type", change}, {"individual_digits", false}};
    EXPECT_EQ(splitting_name(json["pre_tokenizer"]), std::nullopt) << change;
  }
}

TEST(GgufTokenizer, TheTemplateSaysWhatStandsAroundAText) {
  const auto json = ordered_json::parse(read_text_file(SW_TEST_DATA "/tokenizers/llama3/tokenizer.json"));
  const auto bos = parse_tokenizer(json.dump(), "f")->encode("", /*add_template=*/true).at(0);
  const auto metadata_of = [&](const ordered_json& tokenizer) {
    GgufMetadata metadata;
    std::vector<std::string> notes;
    add_tokenizer(&tokenizer, {{"bos_token_id", bos}, {"eos_token_id", bos}}, ordered_json::object(), metadata, notes);
    return metadata;
  };
  EXPECT_EQ(to_json(*find(metadata_of(json), "tokenizer.ggml.add_bos_token")), true);
  EXPECT_EQ(to_json(*find(metadata_of(json), "tokenizer.ggml.add_eos_token")), false);
  ordered_json plain = json;
  plain["post_processor"] = nullptr;
  EXPECT_EQ(to_json(*find(metadata_of(plain), "tokenizer.ggml.add_bos_token")), false);
}

GgufValue floats(std::vector<double> values) {
  GgufValue::Array items;
  for (const double value : values) items.push_back(gguf_f32(value));
  return {GgufKind::array, std::move(items), GgufKind::f32};
}
GgufValue integers(std::vector<int32_t> values) {
  GgufValue::Array items;
  for (const int32_t value : values) items.push_back(gguf_i32(value));
  return {GgufKind::array, std::move(items), GgufKind::i32};
}

// Merges of a SentencePiece vocabulary: all pairs that make a token, best score first.
TEST(GgufTokenizer, SentencePieceScoresBecomeMerges) {
  const GgufMetadata metadata = {{"tokenizer.ggml.model", gguf_string("llama")},
                                 {"tokenizer.ggml.tokens", gguf_strings({"<unk>", "<s>", "<0x41>", "a", "b", "ab", "aba", "ba"})},
                                 {"tokenizer.ggml.scores", floats({0, 0, 0, -5, -6, -1, -3, -2})},
                                 {"tokenizer.ggml.token_type", integers({2, 3, 6, 1, 1, 1, 1, 1})},
                                 {"tokenizer.ggml.bos_token_id", gguf_u32(1)}};
  const ordered_json json = *tokenizer_of(metadata, "f");
  EXPECT_EQ(json["model"]["merges"].dump(), R"([["a","b"],["b","a"],["a","ba"],["ab","a"]])");
  EXPECT_EQ(json["model"]["byte_fallback"], true);
  EXPECT_EQ(json["model"]["unk_token"], "<unk>");
  EXPECT_EQ(json["post_processor"]["single"][0]["SpecialToken"]["id"], "<s>");
  EXPECT_EQ(json["added_tokens"].size(), 2U);
}

TEST(GgufTokenizer, WhatIsNotKnownIsRefused) {
  const auto refused = [](ErrorKind kind, std::initializer_list<std::string_view> words, const GgufMetadata& metadata) {
    expect_error(kind, words, [&] { (void)tokenizer_of(metadata, "f"); });
  };
  refused(ErrorKind::unsupported, {"'rwkv'"}, {{"tokenizer.ggml.model", gguf_string("rwkv")}});
  refused(ErrorKind::unsupported, {"'tekken'", "llama-bpe"}, {{"tokenizer.ggml.model", gguf_string("gpt2")}, {"tokenizer.ggml.pre", gguf_string("tekken")}});
  refused(ErrorKind::checkpoint, {"tokens"}, {{"tokenizer.ggml.model", gguf_string("llama")}});
  refused(ErrorKind::checkpoint, {"scores", "1 values"},
          {{"tokenizer.ggml.model", gguf_string("llama")}, {"tokenizer.ggml.tokens", gguf_strings({"a"})}, {"tokenizer.ggml.scores", floats({})}});
  // A list of strings that are no UTF-8, where numbers belong: the message still comes.
  refused(ErrorKind::checkpoint, {"token_type", "holds"},
          {{"tokenizer.ggml.model", gguf_string("llama")}, {"tokenizer.ggml.tokens", gguf_strings({"a"})}, {"tokenizer.ggml.token_type", gguf_strings({"\x80"})}});
  EXPECT_EQ(tokenizer_of({}, "f"), std::nullopt);
}

// A llama2.c file made here: 2 layers, width 4, 1 head; every value is its own place in the file.
TEST(Llama2c, IsReadAsALlamaFolder) {
  const TempDir dir;
  const int32_t sizes[7] = {4, 3, 2, 1, 1, 5, 6};
  const int64_t n = 5 * 4 + 2 * (4 + 4 * 16 + 4 + 3 * 12) + 4 + 6 * 4;
  std::vector<float> values(static_cast<size_t>(n));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  std::ofstream out(dir / "m.bin", std::ios::binary);
  out.write(reinterpret_cast<const char*>(sizes), sizeof sizes).write(reinterpret_cast<const char*>(values.data()), n * 4);
  out.close();
  ASSERT_TRUE(is_llama2c(dir / "m.bin"));
  const StoredModel model = open_stored_model(dir / "m.bin");
  EXPECT_EQ(*model.config.find("model_type")->string(), "llama");
  EXPECT_FALSE(model.tokenizer.has_value());
  const auto first = [&](const std::string& name) {
    std::vector<float> got(static_cast<size_t>(model.tensors->at(name).numel()));
    to_float32(model.tensors->at(name), got.data());
    return got;
  };
  EXPECT_EQ(first("model.layers.1.input_layernorm.weight")[0], 20 + 4);
  const auto q = first("model.layers.1.self_attn.q_proj.weight");  // rows 0 2 1 3 of the file
  const float start = 20 + 2 * 4 + 16;
  EXPECT_EQ((std::vector<float>{q[0], q[4], q[8], q[12]}), (std::vector<float>{start, start + 8, start + 4, start + 12}));
  EXPECT_EQ(first("model.norm.weight")[0], static_cast<float>(n - 24 - 4));
  EXPECT_EQ(model.tensors->at("model.layers.0.mlp.down_proj.weight").shape, (std::vector<int64_t>{4, 3}));
  std::filesystem::resize_file(dir / "m.bin", 28 + 4 * n - 4);
  EXPECT_FALSE(is_llama2c(dir / "m.bin"));
  expect_error(ErrorKind::checkpoint, {"m.bin"}, [&] { (void)open_llama2c(dir / "m.bin"); });
}

}  // namespace gguf_family
}  // namespace
}  // namespace switchyard::io
