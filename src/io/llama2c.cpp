#include "io/llama2c.h"

#include "base/config_tree.h"
#include "base/files.h"
#include "io/gguf/gguf_tokenizer.h"
#include "io/gguf/rope_rows.h"
#include "switchyard/error.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>

namespace switchyard::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

// In the order of the file. A negative vocab_size means that the head is a matrix of its own.
struct Sizes {
  int64_t dim, hidden, layers, heads, kv_heads, vocab, positions;
  bool tied;

  [[nodiscard]] int64_t head_dim() const { return dim / heads; }
  [[nodiscard]] int64_t kv_dim() const { return head_dim() * kv_heads; }
};

constexpr size_t kHeaderBytes = 28;

std::optional<Sizes> read_sizes(std::span<const std::byte> file) {
  std::array<int32_t, 7> n{};
  if (file.size() < kHeaderBytes) return std::nullopt;
  std::memcpy(n.data(), file.data(), kHeaderBytes);
  Sizes s{n[0], n[1], n[2], n[3], n[4], std::abs(static_cast<int64_t>(n[5])), n[6], n[5] > 0};
  const bool sane = s.dim > 0 && s.hidden > 0 && s.layers > 0 && s.layers < 10000 && s.heads > 0 && s.kv_heads > 0 && s.vocab > 0 && s.positions > 0;
  if (!sane || s.dim % s.heads != 0 || s.heads % s.kv_heads != 0 || s.head_dim() % 2 != 0) return std::nullopt;
  return s;
}

struct Block {
  const char* name;  // {} = layer
  int64_t rows, columns;
  int64_t rotary_heads;  // 0: rows as they are
};

std::vector<Block> layer_blocks(const Sizes& s) {
  return {{"model.layers.{}.input_layernorm.weight", 1, s.dim, 0},
          {"model.layers.{}.self_attn.q_proj.weight", s.dim, s.dim, s.heads},
          {"model.layers.{}.self_attn.k_proj.weight", s.kv_dim(), s.dim, s.kv_heads},
          {"model.layers.{}.self_attn.v_proj.weight", s.kv_dim(), s.dim, 0},
          {"model.layers.{}.self_attn.o_proj.weight", s.dim, s.dim, 0},
          {"model.layers.{}.post_attention_layernorm.weight", 1, s.dim, 0},
          {"model.layers.{}.mlp.gate_proj.weight", s.hidden, s.dim, 0},
          {"model.layers.{}.mlp.down_proj.weight", s.dim, s.hidden, 0},
          {"model.layers.{}.mlp.up_proj.weight", s.hidden, s.dim, 0}};
}

// Sizes are below 2^31, so that products of two fit; the sum is compared with the size of the file before any use.
__int128 total_floats(const Sizes& s) {
  __int128 n = static_cast<__int128>(s.vocab) * s.dim * (s.tied ? 1 : 2) + s.dim + static_cast<__int128>(s.positions) * s.head_dim();
  for (const Block& block : layer_blocks(s)) n += static_cast<__int128>(block.rows) * block.columns * s.layers;
  return n;
}

bool fits(const Sizes& s, uint64_t file_bytes) { return total_floats(s) * 4 + static_cast<__int128>(kHeaderBytes) == static_cast<__int128>(file_bytes); }

TensorEntry entry_of(const Block& block, std::span<const std::byte> bytes, std::string name) {
  TensorEntry entry{std::move(name), DType::f32, {block.rows, block.columns}, bytes};
  if (block.rows == 1) entry.shape = {block.columns};
  if (block.rotary_heads == 0) return entry;
  entry.stored_as = "F32";
  entry.decode = [block, bytes](float* out) {  // rotary positions turn neighbours, as in GGUF
    const int64_t c = block.rows / block.rotary_heads;
    const auto row_bytes = static_cast<size_t>(block.columns) * 4;
    for (int64_t row = 0; row < block.rows; ++row)
      std::memcpy(out + hf_row_of(row, c) * block.columns, bytes.data() + static_cast<size_t>(row) * row_bytes, row_bytes);
  };
  return entry;
}

std::unique_ptr<TensorStore> tensors_of(std::shared_ptr<const MappedFile> file, const Sizes& s) {
  auto out = std::make_unique<TensorView>(file->path(), file);
  size_t at = kHeaderBytes;
  const auto take = [&](const Block& block, std::string name) {
    const auto size = static_cast<size_t>(block.rows * block.columns) * 4;
    out->add(entry_of(block, file->bytes().subspan(at, size), std::move(name)), file->path());
    at += size;
  };
  take({"", s.vocab, s.dim, 0}, "model.embed_tokens.weight");
  for (const Block& block : layer_blocks(s))
    for (int64_t layer = 0; layer < s.layers; ++layer) take(block, fmt::format(fmt::runtime(block.name), layer));
  take({"", 1, s.dim, 0}, "model.norm.weight");
  at += static_cast<size_t>(s.positions * s.head_dim()) * 4;  // cosines and sines, which follow from the sizes
  if (!s.tied) take({"", s.vocab, s.dim, 0}, "lm_head.weight");
  return out;
}

// One token of tokenizer.bin as SentencePiece spells it.
std::string spelled(std::string text, int64_t id) {
  if (id >= 3 && id < 259) return fmt::format("<0x{:02X}>", id - 3);
  if (id < 3) return std::array<const char*, 3>{"<unk>", "<s>", "</s>"}[static_cast<size_t>(id)];
  std::string out;
  for (const char c : text) out += c == ' ' ? std::string("\xE2\x96\x81") : std::string(1, c);
  return out;
}

// As the metadata that GGUF would have of it: one reader builds the tokenizer.json of both.
std::optional<ordered_json> read_tokenizer(const fs::path& path, int64_t vocab) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return std::nullopt;
  const std::string file = read_text_file(path);
  size_t at = 4;
  std::vector<std::string> tokens;
  GgufValue::Array scores, types;
  for (int64_t id = 0; id < vocab; ++id) {
    float score = 0;
    int32_t length = 0;
    if (file.size() < at + 8) fail(ErrorKind::checkpoint, "{}: ends at token {} of {}", path.string(), id, vocab);
    std::memcpy(&score, file.data() + at, 4);
    std::memcpy(&length, file.data() + at + 4, 4);
    at += 8;
    if (length < 0 || static_cast<size_t>(length) > file.size() - at) fail(ErrorKind::checkpoint, "{}: token {} has {} bytes", path.string(), id, length);
    tokens.push_back(spelled(file.substr(at, static_cast<size_t>(length)), id));
    scores.push_back(gguf_f32(score));
    types.push_back(gguf_i32(id == 0 ? 2 : id < 3 ? 3 : id < 259 ? 6 : 1));
    at += static_cast<size_t>(length);
  }
  if (at != file.size()) fail(ErrorKind::checkpoint, "{}: {} bytes behind the last of {} tokens", path.string(), file.size() - at, vocab);
  const GgufMetadata metadata = {{"tokenizer.ggml.model", gguf_string("llama")},
                                 {"tokenizer.ggml.tokens", gguf_strings(std::move(tokens))},
                                 {"tokenizer.ggml.scores", {GgufKind::array, std::move(scores), GgufKind::f32}},
                                 {"tokenizer.ggml.token_type", {GgufKind::array, std::move(types), GgufKind::i32}},
                                 {"tokenizer.ggml.bos_token_id", gguf_u32(1)},
                                 {"tokenizer.ggml.eos_token_id", gguf_u32(2)}};
  return tokenizer_of(metadata, path.string());
}

}  // namespace

bool is_llama2c(const fs::path& path) {
  std::error_code ignored;
  if (path.extension() != ".bin" || !fs::is_regular_file(path, ignored)) return false;
  std::array<std::byte, kHeaderBytes> start{};
  std::ifstream in(path, std::ios::binary);
  if (!in.read(reinterpret_cast<char*>(start.data()), kHeaderBytes)) return false;
  const auto sizes = read_sizes(start);
  return sizes && fits(*sizes, fs::file_size(path, ignored));
}

StoredModel open_llama2c(const fs::path& path) {
  const auto file = std::make_shared<MappedFile>(MappedFile::open(path));
  const auto sizes = read_sizes(file->bytes());
  if (!sizes || !fits(*sizes, file->bytes().size()))
    fail(ErrorKind::checkpoint, "{}: no llama2.c checkpoint: its size is not what its header says", path.string());
  const Sizes& s = *sizes;
  const ordered_json config = {{"architectures", {"LlamaForCausalLM"}},
                               {"model_type", "llama"},
                               {"hidden_size", s.dim},
                               {"intermediate_size", s.hidden},
                               {"num_hidden_layers", s.layers},
                               {"num_attention_heads", s.heads},
                               {"num_key_value_heads", s.kv_heads},
                               {"head_dim", s.head_dim()},
                               {"vocab_size", s.vocab},
                               {"max_position_embeddings", s.positions},
                               {"rms_norm_eps", 1e-5},
                               {"rope_theta", 10000.0},
                               {"hidden_act", "silu"},
                               {"tie_word_embeddings", s.tied},
                               {"bos_token_id", 1},
                               {"eos_token_id", 2}};
  StoredModel out;
  out.path = path;
  out.config_name = path.string();
  out.config = config_from_json(config, path.string());
  out.tensors = tensors_of(file, s);
  const fs::path tokenizer = path.parent_path() / "tokenizer.bin";
  if (const auto json = read_tokenizer(tokenizer, s.vocab)) out.tokenizer = json->dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  out.tokenizer_name = tokenizer.string();
  out.single_file = true;
  return out;
}

}  // namespace switchyard::io
