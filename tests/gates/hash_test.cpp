// The hash gate: tables against worked examples and counting, MultiHash against the layer it is cut from.
#include "base/files.h"
#include "core/token_tables.h"
#include "expect_error.h"
#include "support/gate_fixture.h"
#include "switchyard/moe.h"
#include "test_files.h"

#include <map>
#include <set>

namespace switchyard::hash_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::expect_error;
using testing::ids_of;
using testing::normal;
using token_tables::Table;

std::shared_ptr<Gate> hash(ConfigNode::Table options, int64_t num_experts, int64_t layer = 0, uint64_t seed = 1) {
  return gate_registry().make(BlockSpec("hash", ConfigNode(std::move(options))), GateShape{8, num_experts, layer, seed});
}

GateInput tokens(const torch::Tensor& ids) {
  GateInput in;
  in.hidden = torch::zeros({ids.size(0), 8});
  in.token_ids = ids;
  return in;
}

torch::Tensor experts(Gate& gate, const GateInput& in) { return std::get<TokenChoice>(gate.route(in).choice).expert_ids; }
torch::Tensor column(std::vector<int64_t> ids) { return torch::tensor(ids, torch::kInt64); }

std::vector<double> loads(const Table& table, const std::vector<double>& frequency, int64_t num_experts) {
  std::vector<double> out(static_cast<size_t>(num_experts), 0);
  for (size_t i = 0; i < table.size(); ++i) out.at(static_cast<size_t>(table[i])) += frequency[i];
  return out;
}

// Zipf with noise: what a vocabulary looks like.
std::vector<double> zipf(int64_t n, uint64_t seed) {
  std::vector<double> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(std::floor(1e5 / static_cast<double>(i + 1) * (1 + RandomStream(seed).uniform(static_cast<uint64_t>(i)))));
  return out;
}

TEST(HashTables, BalancedReproducesTheWorkedExample) {
  const std::vector<double> frequency = {50, 30, 20, 15, 15, 10, 5, 5};
  const auto table = token_tables::balanced_table(frequency, 3);
  EXPECT_EQ(table, (Table{0, 1, 2, 2, 1, 2, 1, 2}));
  EXPECT_EQ(loads(table, frequency, 3), (std::vector<double>{50, 50, 50}));
}

TEST(HashTables, BalancedLoadsDifferByAtMostTheLargestFrequencyAndItsDrawsDiffer) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto frequency = zipf(500, seed);
    std::set<Table> different;
    for (int64_t m = 0; m < 3; ++m) {
      const auto stream = RandomStream(seed).at("table", static_cast<uint64_t>(m));
      const auto table = token_tables::balanced_table(frequency, 7, m == 0 ? nullptr : &stream);
      const auto load = loads(table, frequency, 7);
      EXPECT_LE(*std::max_element(load.begin(), load.end()),
                *std::min_element(load.begin(), load.end()) + *std::max_element(frequency.begin(), frequency.end())) << seed << " " << m;
      different.insert(table);
    }
    EXPECT_EQ(different.size(), 3u);
  }
}

TEST(HashTables, FnvReproducesThePublishedHashes) {
  EXPECT_EQ(token_tables::fnv1a({0x64636261u}), 0xCE3479BDu);  // "abcd", by a second implementation
  const auto ids = column({0, 1, 2, 3, 50256});
  auto gate = hash({{"table", "fnv"}}, 4);
  EXPECT_TRUE(torch::equal(experts(*gate, tokens(ids)), ids_of({{1}, {0}, {3}, {2}, {1}})));
  const auto pairs = token_tables::fnv1a({ids, ids.flip(0)});
  for (int64_t i = 0; i < 5; ++i)
    EXPECT_EQ(pairs[i].item<int64_t>(), token_tables::fnv1a({static_cast<uint32_t>(ids[i].item<int64_t>()), static_cast<uint32_t>(ids[4 - i].item<int64_t>())}));
}

TEST(HashTables, ARandomTableIsUniformAndOthersPerLayerAndSeed) {
  const auto ids = torch::arange(4000, torch::kInt64);
  const auto of = [&](int64_t layer, uint64_t seed) { return experts(*hash({{"table", "random"}, {"vocab_size", 4000}}, 8, layer, seed), tokens(ids)).view({-1}); };
  const auto counts = at::bincount(of(0, 1), {}, 8).to(torch::kFloat64);
  EXPECT_LT(((counts - 500).square() / 500).sum().item<double>(), 24.3);  // chi-squared, 7 degrees of freedom: 1 in 1000
  EXPECT_TRUE(torch::equal(of(0, 1), of(0, 1)));
  EXPECT_FALSE(torch::equal(of(0, 1), of(1, 1)));
  EXPECT_FALSE(torch::equal(of(0, 1), of(0, 2)));
  const auto dealt = torch::tensor(token_tables::dealt_table(1003, 8, RandomStream(3)), torch::kInt64);
  EXPECT_EQ((at::bincount(dealt, {}, 8).max() - at::bincount(dealt, {}, 8).min()).item<int64_t>(), 1);
}

// Five groups of points far from each other.
torch::Tensor grouped_embedding() {
  const auto group = torch::arange(60, torch::kInt64).remainder(5);
  return 10 * normal({5, 6}, 5).index_select(0, group) + 0.1 * normal({60, 6}, 6);
}

TEST(HashTables, ClusteredKeepsSimilarIdsTogetherAndDispersedPartsThem) {
  const auto embedding = grouped_embedding();
  const auto together = token_tables::clustered_table(embedding, 5, RandomStream(1)), apart = token_tables::dispersed_table(embedding, 5, RandomStream(1));
  for (size_t i = 0; i < 60; ++i)
    for (size_t j = 0; j < i; ++j) EXPECT_EQ(together[i] == together[j], i % 5 == j % 5) << i << " " << j;
  for (size_t g = 0; g < 5; ++g) {
    std::map<int64_t, int64_t> count;
    for (size_t i = g; i < 60; i += 5) ++count[apart[i]];
    for (int64_t e = 0; e < 5; ++e) EXPECT_NEAR(static_cast<double>(count[e]), 12.0 / 5, 1) << "group " << g;
  }
  EXPECT_EQ(loads(apart, std::vector<double>(60, 1), 5), std::vector<double>(5, 12));
}

TEST(HashGate, ADealtTableGivesEveryExpertEquallyManyKeysInARandomOrder) {
  const auto row = [](int64_t layer) {
    return gate_registry().make(BlockSpec("hash", {{"table", "dealt"}, {"vocab_size", 64}}), GateShape{4, 8, layer, 1})->named_buffers()["table"][0].slice(0, 0, 64);
  };
  EXPECT_TRUE(torch::equal(at::bincount(row(0).to(torch::kInt64), {}, 8), torch::full({8}, 8, torch::kInt64)));
  EXPECT_FALSE(torch::equal(row(0), row(1)));
}

TEST(HashGate, ReadsATableThatWasMadeOfAnEmbedding) {
  const testing::TempDir dir;
  const auto table = token_tables::dispersed_table(grouped_embedding(), 5, RandomStream(1));
  token_tables::write_table(dir / "table.txt", table);
  auto gate = hash({{"table", "file"}, {"file", (dir / "table.txt").string()}}, 5);
  const auto chosen = experts(*gate, tokens(torch::arange(60, torch::kInt64)));
  for (int64_t i = 0; i < 60; ++i) EXPECT_EQ(chosen[i][0].item<int64_t>(), table[static_cast<size_t>(i)]);
  EXPECT_EQ(gate->num_parameters(), 0);
  // The file is gone: the buffer, as a checkpoint fills it, is enough.
  auto later = hash({{"table", "file"}, {"file", "/no/such/file"}, {"vocab_size", 60}}, 5);
  expect_error(ErrorKind::checkpoint, {"key 3", "/no/such/file", "checkpoint"}, [&] { (void)experts(*later, tokens(column({3}))); });
  later->named_buffers()["table"].copy_(gate->named_buffers()["table"]);
  EXPECT_TRUE(torch::equal(experts(*later, tokens(torch::arange(60, torch::kInt64))), chosen));
}

TEST(HashGate, TheRouteIsAFunctionOfTheIdWithWeightOne) {
  auto gate = hash({{"table", "random"}, {"vocab_size", 19}}, 4);
  auto in = tokens(column({3, 7, 3, 18, 3}));
  const auto first = std::get<TokenChoice>(gate->route(in).choice);
  in.hidden = normal({5, 8}, 1);
  in.training = true;
  in.random = RandomStream(99);
  const auto second = std::get<TokenChoice>(gate->route(in).choice);
  EXPECT_TRUE(torch::equal(first.expert_ids, second.expert_ids));
  EXPECT_TRUE(torch::equal(first.weights, torch::ones({5, 1})));
  EXPECT_EQ(first.expert_ids[0].item<int64_t>(), first.expert_ids[4].item<int64_t>());
  EXPECT_EQ(experts(*gate, tokens(torch::zeros({0}, torch::kInt64))).numel(), 0);
}

TEST(HashGate, PreviousBigramAndNextStopAtTheBordersOfSequences) {
  auto in = tokens(column({5, 6, 7, 5, 6, 9}));
  in.sequence_ids = column({0, 0, 0, 1, 1, 1});
  EXPECT_TRUE(torch::equal(token_tables::neighbour_ids(in.token_ids, in.sequence_ids), column({-1, 5, 6, -1, 5, 6})));
  EXPECT_TRUE(torch::equal(token_tables::neighbour_ids(in.token_ids, in.sequence_ids, -1), column({6, 7, -1, 6, 9, -1})));
  EXPECT_TRUE(torch::equal(token_tables::neighbour_ids(in.token_ids, {}), column({-1, 5, 6, 7, 5, 6})));
  const int64_t num_experts = 1 << 20;  // collisions would hide a difference
  const auto of = [&](const char* key) { return experts(*hash({{"table", "fnv"}, {"key", key}}, num_experts), in).view({-1}); };
  const auto want = [&](std::vector<std::vector<uint32_t>> words) {
    std::vector<int64_t> out;
    for (const auto& w : words) out.push_back((w.size() == 1 ? token_tables::fnv1a({w[0]}) : token_tables::fnv1a({w[0], w[1]})) % num_experts);
    return column(out);
  };
  constexpr uint32_t none = 0xFFFFFFFF;
  EXPECT_TRUE(torch::equal(of("previous"), want({{none}, {5}, {6}, {none}, {5}, {6}})));
  EXPECT_TRUE(torch::equal(of("bigram"), want({{none, 5}, {5, 6}, {6, 7}, {none, 5}, {5, 6}, {6, 9}})));
  EXPECT_TRUE(torch::equal(of("next"), want({{6}, {7}, {none}, {6}, {9}, {none}})));
  EXPECT_TRUE(hash({{"table", "fnv"}, {"key", "next"}}, 4)->looks_ahead());
  EXPECT_FALSE(hash({{"table", "fnv"}, {"key", "bigram"}}, 4)->looks_ahead());
  // The model knows what a cache holds.
  in.previous_ids = column({8, 5, 6, -1, 5, 6});
  EXPECT_TRUE(torch::equal(of("previous"), want({{8}, {5}, {6}, {none}, {5}, {6}})));
}

TEST(HashGate, APositionTableReadsPositions) {
  auto gate = hash({{"table", "random"}, {"key", "position"}, {"vocab_size", 16}}, 4);
  auto in = tokens(column({5, 5, 5}));
  expect_error(ErrorKind::usage, {"hash", "positions"}, [&] { (void)gate->route(in); });
  in.positions = column({0, 1, 15});
  const auto table = gate->named_buffers()["table"][0];
  for (int64_t t = 0; t < 3; ++t) EXPECT_EQ(experts(*gate, in)[t][0].item<int64_t>(), table[in.positions[t].item<int64_t>()].item<int64_t>());
}

TEST(HashGate, NamesWhatIsMissingOrWrong) {
  GateInput bare;
  bare.hidden = torch::zeros({3, 8});
  expect_error(ErrorKind::usage, {"hash", "layers.2", "token_ids"}, [&] { (void)hash({{"table", "fnv"}}, 4, 2)->route(bare); });
  expect_error(ErrorKind::config, {"table = 'magic'", "balanced"}, [] { (void)hash({{"table", "magic"}}, 4); });
  expect_error(ErrorKind::config, {"bigram", "fnv"}, [] { (void)hash({{"table", "random"}, {"key", "bigram"}, {"vocab_size", 9}}, 4); });
  expect_error(ErrorKind::config, {"vocab_size = 0"}, [] { (void)hash({{"table", "random"}}, 4); });
  expect_error(ErrorKind::config, {"needs file"}, [] { (void)hash({}, 4); });
  expect_error(ErrorKind::config, {"tables = 3", "num_experts = 4"}, [] { (void)hash({{"table", "fnv"}, {"tables", 3}}, 4); });
  expect_error(ErrorKind::config, {"key 19", "19 keys"}, [] { (void)hash({{"table", "random"}, {"vocab_size", 19}}, 4)->route(tokens(column({3, 19}))); });
  const testing::TempDir dir;
  write_file_atomic(dir / "bad.txt", "0\n1\n4\n");
  expect_error(ErrorKind::config, {"bad.txt:3", "expert 4"}, [&] { (void)hash({{"table", "file"}, {"file", (dir / "bad.txt").string()}}, 4); });
  write_file_atomic(dir / "text.txt", "0\nmany\n");
  expect_error(ErrorKind::config, {"text.txt:2", "many"}, [&] { (void)hash({{"table", "file"}, {"file", (dir / "text.txt").string()}}, 4); });
}

TEST(HashGate, PaddingMayHaveAnyId) {
  auto gate = hash({{"table", "random"}, {"vocab_size", 4}}, 2);
  auto in = tokens(column({3, 77}));
  in.valid = torch::tensor({true, false});
  EXPECT_EQ(experts(*gate, in).size(0), 2);
}

// MultiHash --------------------------------------------------------------------------------------------------------------

MoE layer(const BlockSpec& gate, int64_t num_experts, int64_t d_expert, const char* experts = "relu") {
  return MoE({.d_model = 8, .d_expert = d_expert, .num_experts = num_experts, .gate = gate, .experts = experts, .init_std = 0.5, .init_out_std = 0.5});
}

BlockSpec random_tables(int64_t tables) { return {"hash", {{"table", "random"}, {"vocab_size", 30}, {"tables", tables}}}; }

torch::Tensor run(MoE& moe, const torch::Tensor& x, const torch::Tensor& ids) {
  auto in = tokens(ids);
  return moe->forward(x, in);
}

torch::Tensor table_of(MoE& moe) { return moe->named_buffers()["gate.table"]; }

// Oracle: the paper's layer, token by token. The hidden units of segment m come from expert table_m[id].
TEST(MultiHash, IsTheFeedForwardWhoseSegmentsComeFromTheTables) {
  const int64_t wide = 5, segments = 3, width = 4;
  auto moe = layer(random_tables(segments), wide * segments, width);
  const auto x = normal({20, 8}, 3);
  const auto ids = torch::arange(20, torch::kInt64);
  const auto parameters = moe->experts().named_parameters();
  torch::Tensor w_in, w_out;
  for (const auto& p : parameters) (p.value().size(1) == width ? w_in : w_out) = p.value().detach();
  const auto y = run(moe, x, ids);
  for (int64_t t = 0; t < 20; ++t) {
    std::vector<torch::Tensor> hidden, out;
    for (int64_t m = 0; m < segments; ++m) {
      const int64_t e = table_of(moe)[m][t].item<int64_t>() * segments + m;
      hidden.push_back(at::relu(at::mv(w_in[e], x[t])));
      out.push_back(w_out[e]);
    }
    EXPECT_TRUE(testing::all_close(y[t], at::mv(at::cat(out, 1), at::cat(hidden)), 1e-5)) << t;  // one matrix of concatenated segments
  }
}

TEST(MultiHash, EqualTablesEqualASingleHash) {
  const int64_t wide = 5, segments = 3, width = 4;
  for (const char* kind : {"relu", "swiglu"}) {
    auto many = layer(random_tables(segments), wide * segments, width, kind), one = layer(random_tables(1), wide, segments * width, kind);
    const torch::NoGradGuard no_grad;
    table_of(many).copy_(table_of(one).expand_as(table_of(many)));
    // Segment m of expert e: its hidden rows of w_in (each half of a gated one) and hidden columns of w_out.
    auto from = one->experts().named_parameters();
    for (auto& p : many->experts().named_parameters()) {
      const auto source = from[p.key()];
      for (int64_t e = 0; e < wide; ++e)
        for (int64_t m = 0; m < segments; ++m) {
          auto target = p.value()[e * segments + m];
          if (target.size(1) == width) {
            target.copy_(source[e].slice(1, m * width, (m + 1) * width));
            continue;
          }
          const int64_t halves = target.size(0) / width;
          for (int64_t h = 0; h < halves; ++h)
            target.slice(0, h * width, (h + 1) * width).copy_(source[e].slice(0, (h * segments + m) * width, (h * segments + m + 1) * width));
        }
    }
    const auto x = normal({20, 8}, 3);
    const auto ids = torch::arange(20, torch::kInt64);
    EXPECT_TRUE(testing::all_close(run(many, x, ids), run(one, x, ids), 1e-5)) << kind;
  }
}

TEST(MultiHash, TablesDiffer) {
  for (const char* table : {"fnv", "random"}) {
    auto gate = hash({{"table", table}, {"tables", 2}, {"vocab_size", 200}}, 16);
    const auto chosen = experts(*gate, tokens(torch::arange(200, torch::kInt64)));
    EXPECT_TRUE(chosen.remainder(2).eq(column({0, 1})).all().item<bool>()) << "segment m is every second small expert";
    const double same = at::floor_divide(chosen.select(1, 0), 2).eq(at::floor_divide(chosen.select(1, 1), 2)).to(torch::kFloat64).mean().item<double>();
    EXPECT_NEAR(same, 1.0 / 8, 0.08) << table;
    EXPECT_EQ(gate->experts_per_token(), 2);
  }
}

}  // namespace
}  // namespace switchyard::hash_test
