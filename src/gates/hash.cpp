// Hash layer: the expert of a token is read from a fixed table, weight 1, no parameters.
//   e = table[key]      key = the token's id, the id before it, a hash of both, its position, or the id after it (analysis only)
// Tables: balanced (needs counts; the best of the paper), dealt (a random order of the keys dealt in turn: balanced for keys that
// come equally often), random, fnv (a hash: no table, any key), file (clustered and dispersed ones: core/token_tables.h). They are buffers: saved with the model, drawn per layer. A file that is missing is
// allowed when vocab_size is given: the checkpoint must then hold the table.
//
// MultiHash (`tables` = M): the hidden layer of an expert is cut into M segments, segment m comes from expert table_m[key]. Segment m
// of expert e is the small expert e * M + m, of width d_expert = width / M, and num_experts counts the small ones. A token chooses M
// of them with weight 1; feed-forward experts sum over hidden units, so that the sum of segments is the concatenated layer.
// Source: Roller et al., arXiv:2106.04426 sections 3.1 to 3.3.
#include "core/token_tables.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <cmath>
#include <filesystem>

namespace switchyard {
namespace {

using token_tables::Table;

class Hash final : public Gate {
 public:
  struct Options {
    std::string table = "balanced", key = "token", file;
    int64_t vocab_size = 0, tables = 1;
    template <class V> void fields(V&& v) {
      v("table", table, "balanced, dealt, random, fnv or file");
      v("key", key, "what is looked up: token, previous, bigram, position or next (sees later tokens)");
      v("file", file, "balanced: a count per line, one line per key; file: an expert per line (one column per table)");
      v("vocab_size", vocab_size, "keys of the table; 0 = lines of the file");
      v("tables", tables, "MultiHash: tables, each for one segment of the experts' hidden layer; num_experts counts segments");
    }
  };

  Hash(const Options& o, const GateShape& s) : o_(o), layer_(s.layer), wide_(s.num_experts / std::max<int64_t>(1, o.tables)) {
    one_of("table", o.table, {"balanced", "dealt", "random", "fnv", "file"});
    one_of("key", o.key, {"token", "previous", "bigram", "position", "next"});
    if (o.tables < 1 || s.num_experts % o.tables != 0)
      fail(ErrorKind::config, "gate hash: tables = {} in layers.{}.ffn, expected a divisor of num_experts = {}", o.tables, s.layer, s.num_experts);
    if (o.key == "bigram" && o.table != "fnv") fail(ErrorKind::config, "gate hash: key = 'bigram' with table = '{}', expected table = 'fnv': there are too many pairs", o.table);
    if (o.table == "fnv") return;
    const auto tables = make_tables(RandomStream(s.seed).at("hash", static_cast<uint64_t>(s.layer)));
    std::vector<torch::Tensor> rows;
    for (const Table& table : tables) rows.push_back(torch::tensor(table, torch::kFloat32));
    table_ = register_buffer("table", at::stack(rows));  // [M, keys + 1]: the last is for "no such neighbour"
  }

  Routing route(const GateInput& in) override {
    const auto keys = keys_of(in);                                                    // [T] or [T] twice for a bigram
    std::vector<torch::Tensor> ids;
    for (int64_t m = 0; m < o_.tables; ++m) ids.push_back(expert_of(keys, m, in.valid) * o_.tables + m);
    const auto chosen = at::stack(ids, 1);                                            // [T, M]
    const auto dtype = in.hidden.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
    return {.choice = TokenChoice{chosen, torch::ones(chosen.sizes(), dtype)}};
  }

  double experts_per_token() const override { return static_cast<double>(o_.tables); }
  bool looks_ahead() const override { return o_.key == "next"; }

 private:
  static void one_of(const char* key, const std::string& value, std::initializer_list<const char*> names) {
    for (const char* name : names) if (value == name) return;
    fail(ErrorKind::config, "gate hash: {} = '{}', expected one of {}", key, value, fmt::join(names, ", "));
  }

  // M tables of `keys + 1` experts each.
  std::vector<Table> make_tables(const RandomStream& stream) const {
    std::vector<Table> out;
    const auto columns = read_file();
    const int64_t keys = columns.empty() ? o_.vocab_size : static_cast<int64_t>(columns[0].size());
    if (keys < 1) fail(ErrorKind::config, "gate hash: vocab_size = {} with table = '{}', expected the number of keys", o_.vocab_size, o_.table);
    if (o_.vocab_size > 0 && keys != o_.vocab_size) fail(ErrorKind::config, "gate hash: file = '{}' has {} lines, expected vocab_size = {}", o_.file, keys, o_.vocab_size);
    for (int64_t m = 0; m < o_.tables; ++m) {
      const auto draws = stream.at("table", static_cast<uint64_t>(m));
      if (o_.table == "random") out.push_back(token_tables::random_table(keys, wide_, draws));
      else if (o_.table == "dealt") out.push_back(token_tables::dealt_table(keys, wide_, draws));
      else if (columns.empty()) out.emplace_back(static_cast<size_t>(keys), -1);
      else if (o_.table == "balanced") out.push_back(token_tables::balanced_table(columns[0], wide_, m == 0 ? nullptr : &draws));
      else out.push_back(experts_in(columns[static_cast<size_t>(m)]));
      out.back().push_back(token_tables::fnv1a({~uint32_t{0}, static_cast<uint32_t>(m)}) % static_cast<uint32_t>(wide_));
    }
    return out;
  }

  // Nothing when the table needs no file, or when the file is not there and the checkpoint will fill the table.
  [[nodiscard]] std::vector<std::vector<double>> read_file() const {
    if (o_.table == "random" || o_.table == "dealt") return {};
    if (o_.file.empty()) fail(ErrorKind::config, "gate hash: table = '{}' needs file = a text file with one number per key and line", o_.table);
    if (o_.vocab_size > 0 && !std::filesystem::exists(o_.file)) return {};
    return token_tables::read_columns(o_.file, o_.table == "file" ? o_.tables : 1);
  }

  [[nodiscard]] Table experts_in(const std::vector<double>& column) const {
    Table table;
    for (size_t i = 0; i < column.size(); ++i) {
      const double e = column[i];
      if (!(e >= 0 && e < static_cast<double>(wide_)) || e != std::floor(e))
        fail(ErrorKind::config, "{}:{}: expert {}, expected 0 to {}", o_.file, i + 1, e, wide_ - 1);
      table.push_back(static_cast<int64_t>(e));
    }
    return table;
  }

  [[nodiscard]] std::vector<torch::Tensor> keys_of(const GateInput& in) const {
    const auto need = [&](const torch::Tensor& given, const char* name) {
      if (!given.defined()) fail(ErrorKind::usage, "gate 'hash' in layers.{}.ffn needs {}, and the call has none: pass GateInput::{}", layer_, name, name);
      return given;
    };
    if (o_.key == "position") return {need(in.positions, "positions")};
    const auto ids = need(in.token_ids, "token_ids");
    if (o_.key == "token") return {ids};
    if (o_.key == "next") return {token_tables::neighbour_ids(ids, in.sequence_ids, -1)};
    const auto previous = in.previous_ids.defined() ? in.previous_ids : token_tables::neighbour_ids(ids, in.sequence_ids);
    return o_.key == "previous" ? std::vector{previous} : std::vector{previous, ids};
  }

  // [T] in 0 .. E/M - 1.
  [[nodiscard]] torch::Tensor expert_of(const std::vector<torch::Tensor>& keys, int64_t m, const torch::Tensor& valid) const {
    if (!table_.defined()) {
      const auto hashes = token_tables::fnv1a(keys);
      return m == 0 ? hashes.remainder(wide_) : mixed(hashes, m);
    }
    const auto row = table_[m];
    const auto& key = keys[0];
    const int64_t last = row.size(0) - 1;
    auto wrong = (key < -1) | (key >= last);
    auto ids = row.index_select(0, at::where(wrong | (key < 0), torch::full({}, last, torch::kInt64), key)).to(torch::kInt64);
    wrong = wrong | (ids < 0);
    if (valid.defined()) wrong = wrong & valid;
    if (wrong.any().item<bool>()) {
      const auto first = key.index({wrong})[0].item<int64_t>();
      fail(first < last ? ErrorKind::checkpoint : ErrorKind::config, "gate 'hash' in layers.{}.ffn: the table of {} keys has no expert for key {}{}",
           layer_, last, first,
           first < last ? " (the file '" + o_.file + "' is not there, and no checkpoint filled the table)" : "");
    }
    return ids.clamp_min(0);
  }

  // Hashes of further tables. FNV with another word in it would not do: the low bits of its hashes follow those of the words, so
  // that ids which share an expert of 2^n in one table would share one in all.
  [[nodiscard]] torch::Tensor mixed(const torch::Tensor& hashes, int64_t m) const {
    const auto stream = RandomStream(static_cast<uint64_t>(m), "hash");
    auto out = torch::empty_like(hashes);
    for (int64_t i = 0; i < out.numel(); ++i)
      out.data_ptr<int64_t>()[i] = static_cast<int64_t>(stream.below(static_cast<uint64_t>(hashes.data_ptr<int64_t>()[i]), static_cast<uint64_t>(wide_)));
    return out;
  }

  Options o_;
  int64_t layer_, wide_;  // wide: experts before they are cut into segments
  torch::Tensor table_;
};

}  // namespace

GateEntry gate_hash() { return plug_in<Hash, GateEntry>("hash", "arXiv:2106.04426", "a fixed map from token ids to experts, without parameters"); }

}  // namespace switchyard
