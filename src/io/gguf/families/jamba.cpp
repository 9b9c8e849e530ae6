// Jamba: layers with attention or a state space, with one network or experts: which is which is told by attention.head_count_kv,
// a number for each layer, and by the routers that are there. A is stored as -exp(A_log), so that it comes back within float32's
// precision, not bit by bit.
#include "io/gguf/families/common_rows.h"
#include "switchyard/error.h"

#include <algorithm>

namespace switchyard::io {
namespace {

using nlohmann::ordered_json;

NameRow maybe(std::string_view gguf, std::string_view hf, Arrange how = Arrange::plain) { return {gguf, hf, how, true}; }

const std::vector<NameRow>& jamba_layer() {
  static const std::vector<NameRow> rows = {
      {"blk.{i}.attn_norm.weight", "model.layers.{i}.input_layernorm.weight"},
      maybe("blk.{i}.attn_q.weight", "model.layers.{i}.self_attn.q_proj.weight"),
      maybe("blk.{i}.attn_k.weight", "model.layers.{i}.self_attn.k_proj.weight"),
      maybe("blk.{i}.attn_v.weight", "model.layers.{i}.self_attn.v_proj.weight"),
      maybe("blk.{i}.attn_output.weight", "model.layers.{i}.self_attn.o_proj.weight"),
      maybe("blk.{i}.ssm_in.weight", "model.layers.{i}.mamba.in_proj.weight"),
      maybe("blk.{i}.ssm_conv1d.weight", "model.layers.{i}.mamba.conv1d.weight", Arrange::squeezed),
      maybe("blk.{i}.ssm_conv1d.bias", "model.layers.{i}.mamba.conv1d.bias"),
      maybe("blk.{i}.ssm_x.weight", "model.layers.{i}.mamba.x_proj.weight"),
      maybe("blk.{i}.ssm_dt.weight", "model.layers.{i}.mamba.dt_proj.weight"),
      maybe("blk.{i}.ssm_dt.bias", "model.layers.{i}.mamba.dt_proj.bias"),
      maybe("blk.{i}.ssm_dt_norm.weight", "model.layers.{i}.mamba.dt_layernorm.weight"),
      maybe("blk.{i}.ssm_b_norm.weight", "model.layers.{i}.mamba.b_layernorm.weight"),
      maybe("blk.{i}.ssm_c_norm.weight", "model.layers.{i}.mamba.c_layernorm.weight"),
      maybe("blk.{i}.ssm_a", "model.layers.{i}.mamba.A_log", Arrange::negative_exp),
      maybe("blk.{i}.ssm_d", "model.layers.{i}.mamba.D"),
      maybe("blk.{i}.ssm_out.weight", "model.layers.{i}.mamba.out_proj.weight"),
      {"blk.{i}.ffn_norm.weight", "model.layers.{i}.pre_ff_layernorm.weight"},
      maybe("blk.{i}.ffn_gate.weight", "model.layers.{i}.feed_forward.gate_proj.weight"),
      maybe("blk.{i}.ffn_up.weight", "model.layers.{i}.feed_forward.up_proj.weight"),
      maybe("blk.{i}.ffn_down.weight", "model.layers.{i}.feed_forward.down_proj.weight"),
      maybe("blk.{i}.ffn_gate_inp.weight", "model.layers.{i}.feed_forward.router.weight"),
      maybe("blk.{i}.ffn_gate_exps.weight", "model.layers.{i}.feed_forward.experts.{e}.gate_proj.weight", Arrange::stack),
      maybe("blk.{i}.ffn_up_exps.weight", "model.layers.{i}.feed_forward.experts.{e}.up_proj.weight", Arrange::stack),
      maybe("blk.{i}.ffn_down_exps.weight", "model.layers.{i}.feed_forward.experts.{e}.down_proj.weight", Arrange::stack),
  };
  return rows;
}

void write_jamba(const ordered_json& config, KeyWriter& out) {
  const int64_t layers = needed(config, "num_hidden_layers"), d = needed(config, "hidden_size");
  const int64_t period = config.value("attn_layer_period", int64_t{8}), offset = config.value("attn_layer_offset", int64_t{4});
  if (period < 1) fail(ErrorKind::config, "config.json: attn_layer_period = {}, expected at least 1", period);
  std::vector<int64_t> kv_heads;
  for (int64_t i = 0; i < layers; ++i) kv_heads.push_back(i % period == offset ? needed(config, "num_key_value_heads") : 0);
  out.sizes("attention.head_count_kv", kv_heads);
  const auto rank = config.find("mamba_dt_rank");
  out.size("ssm.time_step_rank", rank != config.end() && rank->is_number_integer() ? rank->get<int64_t>() : (d + 15) / 16);
  out.size("ssm.inner_size", config.value("mamba_expand", int64_t{2}) * d);
  out.size("ssm.conv_kernel", config.value("mamba_d_conv", int64_t{4}));
  out.size("ssm.state_size", config.value("mamba_d_state", int64_t{16}));
}

// The period and offset that name exactly these layers; one layer alone has a period beyond the last.
void set_places(const KeyReader& file, std::string_view key, const std::string& hf, const std::vector<bool>& is_there,
                ordered_json& config) {
  const auto n = static_cast<int64_t>(is_there.size());
  int64_t first = 0, period = 1;
  while (first < n && !is_there[static_cast<size_t>(first)]) ++first;
  while (first + period < n && !is_there[static_cast<size_t>(first + period)]) ++period;
  if (first + period >= n) period = std::max(first + 1, n);
  for (int64_t i = 0; i < n; ++i)
    if (is_there[static_cast<size_t>(i)] != (i % period == first))
      file.refuse(key, fmt::format("places of {} at equal distances", hf));
  config[hf + "_offset"] = first;
  config[hf + "_period"] = period;
}

void read_jamba(const KeyReader& file, ordered_json& config) {
  const auto layers = static_cast<size_t>(file.size("block_count"));
  if (layers > 100000) file.refuse("block_count", "a plausible number of layers");
  std::vector<bool> attends, sparse;
  int64_t kv_heads = 0;
  for (const int64_t heads : file.sizes("attention.head_count_kv", layers)) {
    attends.push_back(heads > 0);
    sparse.push_back(file.tensors().has(fmt::format("blk.{}.ffn_gate_inp.weight", sparse.size())));
    if (heads > 0 && kv_heads > 0 && heads != kv_heads)
      file.refuse("attention.head_count_kv", "one number for all layers that attend");
    kv_heads = std::max(kv_heads, heads);
  }
  config["num_key_value_heads"] = std::max<int64_t>(kv_heads, 1);
  set_places(file, "attention.head_count_kv", "attn_layer", attends, config);
  set_places(file, "expert_count", "expert_layer", sparse, config);
  const int64_t d = std::max<int64_t>(file.size("embedding_length"), 1), inner = file.size("ssm.inner_size");
  if (inner % d != 0) file.refuse("ssm.inner_size", fmt::format("a multiple of embedding_length = {}", d));
  config["mamba_expand"] = inner / d;
  config["mamba_d_conv"] = file.size("ssm.conv_kernel");
  config["mamba_d_state"] = file.size("ssm.state_size");
  config["mamba_dt_rank"] = file.size("ssm.time_step_rank");
  const auto first = std::find(attends.begin(), attends.end(), false) - attends.begin();
  config["mamba_conv_bias"] = file.tensors().has(fmt::format("blk.{}.ssm_conv1d.bias", first));
}

}  // namespace

GgufFamily gguf_family_jamba() {
  auto names = decoder_rows(jamba_layer());
  for (NameRow& row : names)
    if (row.gguf == "output_norm.weight") row.hf = "model.final_layernorm.weight";
  return {.model_type = "jamba",
          .hf_class = "JambaForCausalLM",
          .architecture = "jamba",
          .names = names,
          .keys = {{"max_position_embeddings", "context_length"},
                   {"hidden_size", "embedding_length"},
                   {"num_hidden_layers", "block_count"},
                   {"num_attention_heads", "attention.head_count"},
                   {"rms_norm_eps", "attention.layer_norm_rms_epsilon", KeyType::number},
                   {"intermediate_size", "feed_forward_length"},
                   {"num_experts", "expert_count"},
                   {"num_experts_per_tok", "expert_used_count"}},
          .known = usual_extra_keys(),
          .more = {"attention.head_count_kv", "ssm.conv_kernel", "ssm.inner_size", "ssm.state_size", "ssm.time_step_rank"},
          .write_more = write_jamba,
          .read_more = read_jamba};
}

}  // namespace switchyard::io
