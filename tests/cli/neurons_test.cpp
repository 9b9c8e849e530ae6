// switchyard neurons: ratios and functions of a small trained model.
#include "run_program.h"

#include <nlohmann/json.hpp>

#include <fstream>

namespace switchyard {
namespace {

using nlohmann::json;
using testing::Finished;
using testing::run_program;
using testing::TempDir;

TEST(NeuronsVerb, PrintsRatiosAndFunctions) {
  const TempDir dir;
  testing::write_two_domains(dir / "corpus");
  std::ofstream(dir / "relu.toml") << R"([data]
path = "corpus"
[tokenizer]
kind = "byte"
[model]
d_model = 16
num_layers = 2
num_heads = 2
d_ff = 16
ffn = "relu"
max_positions = 32
[model.moe]
num_experts = 4
experts = "relu"
where = { kind = "list", layers = [1] }
[train]
steps = 4
batch_size = 4
seq_len = 32
eval_every = 0
checkpoint_every = 0
eval_tokens = 512
)";
  const auto call = [&](const std::string& words) { return run_program(words, "cd '" + dir.path().string() + "' && export OMP_NUM_THREADS=1 && %"); };
  ASSERT_EQ(call("train relu.toml --out run --quiet").code, 0);
  const Finished table = call("neurons run");
  ASSERT_EQ(table.code, 0) << table.err;
  SW_EXPECT_HAS(table.out, "layers.1.ffn.experts");
  const Finished facts = call("neurons run --functions --max-tokens 600 --json");
  ASSERT_EQ(facts.code, 0) << facts.err;
  const json out = json::parse(facts.out);
  ASSERT_EQ(out["networks"].size(), 2u);
  const json &dense = out["networks"][0], &experts = out["networks"][1];
  EXPECT_EQ(dense["network"], "layers.0.ffn");
  EXPECT_EQ(dense["neurons"], 16);
  EXPECT_EQ(experts["active_by_expert"].size(), 4u);
  EXPECT_EQ(experts["rows"].get<int64_t>(), 2 * dense["rows"].get<int64_t>());
  EXPECT_GT(dense["active"].get<double>(), 0.1);
  EXPECT_LT(dense["active"].get<double>(), 0.9);
  EXPECT_EQ(experts["functions"].size(), 4u);
  const Finished negative = call("neurons run --epsilon -1");
  EXPECT_EQ(negative.code, 2);
  SW_EXPECT_HAS(negative.err, "--epsilon -1");
  const Finished one = call("neurons run --functions --data corpus/cats");
  EXPECT_EQ(one.code, 2);
  SW_EXPECT_HAS(one.err, "only one");
}

}  // namespace
}  // namespace switchyard
