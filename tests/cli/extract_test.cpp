// switchyard extract: from a trained model by tags to the model of one tag.
#include "run_program.h"

#include <nlohmann/json.hpp>

#include <fstream>

namespace switchyard {
namespace {

using nlohmann::json;
using testing::Finished;
using testing::run_program;
using testing::TempDir;

// Two domains, by folder; one model by tags with a capacity that evaluation does without, one with a token gate.
class ExtractVerb : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::write_two_domains(dir_ / "corpus");
    std::ofstream(dir_ / "tagged.toml") << R"([data]
path = "corpus"
[tokenizer]
kind = "byte"
[model]
d_model = 16
num_layers = 2
num_heads = 2
d_ff = 16
max_positions = 32
[model.moe]
num_experts = 4
[model.moe.gate]
kind = "chain"
pool = { kind = "tag", tags = 2 }
[train]
steps = 4
batch_size = 4
seq_len = 32
eval_every = 0
checkpoint_every = 0
eval_tokens = 512
[sample]
tokens = 4
tag = 1
)";
  }
  [[nodiscard]] Finished call(const std::string& words) const {
    return run_program(words, "cd '" + dir_.path().string() + "' && export OMP_NUM_THREADS=1 && %");
  }
  TempDir dir_;
};

TEST_F(ExtractVerb, WritesAModelThatContinuesATextOfItsTagAlikeWithoutTags) {
  const Finished trained = call("train tagged.toml --out run --quiet");
  ASSERT_EQ(trained.code, 0) << trained.err;
  const Finished text = call("extract run dogs --tag 1");
  ASSERT_EQ(text.code, 0) << text.err;
  SW_EXPECT_HAS(text.out, "dogs: tag 1, 2 of 4 experts in each of 2 layers");
  const json facts = json::parse(call("extract run dogs2 --tag 1 --json").out);
  EXPECT_EQ(facts["experts"], 2);
  EXPECT_EQ(facts["of_experts"], 4);
  EXPECT_EQ(facts["original_drops"], false);
  EXPECT_LT(facts["parameters"], facts["of_parameters"]);
  EXPECT_EQ(json::parse(call("params dogs --json").out)["total"], facts["parameters"]);

  const std::string rest = " 'the ' --max-tokens 12 --temperature 1 --seed 3 --ignore-eos --json";
  const json whole = json::parse(call("generate run" + rest + " --tag 1").out), part = json::parse(call("generate dogs" + rest).out);
  EXPECT_EQ(part["ids"], whole["ids"]);
}

TEST_F(ExtractVerb, RefusesInWords) {
  ASSERT_EQ(call("train tagged.toml --out run --quiet").code, 0);
  const Finished unknown = call("extract run out --tag 7");
  EXPECT_EQ(unknown.code, 2);
  SW_EXPECT_HAS(unknown.err, "--tag 7: pool tag: tag 7 is outside 0 .. 1");
  EXPECT_FALSE(std::filesystem::exists(dir_ / "out"));
  EXPECT_EQ(call("extract run out").code, 2) << "no tag";
  EXPECT_EQ(call("extract run corpus --tag 1").code, 2) << "a folder with something in it";

  ASSERT_EQ(call("train tagged.toml --out tokens --quiet --set model.moe.gate=top_k").code, 0);
  const Finished refused = call("extract tokens out --tag 1");
  EXPECT_EQ(refused.code, 5);
  SW_EXPECT_HAS(refused.err, "gate 'top_k' in layers.0.ffn: tag 1 has no experts of its own");
}

TEST_F(ExtractVerb, SaysThatTheWholeModelDrops) {
  ASSERT_EQ(call("train tagged.toml --out run --quiet --set model.moe.capacity.eval_factor=2.0").code, 0);
  const Finished noted = call("extract run out --tag 0 --json");
  EXPECT_EQ(noted.code, 0) << noted.err;
  SW_EXPECT_HAS(noted.err, "capacity.eval_factor = 2");
  EXPECT_EQ(json::parse(noted.out)["original_drops"], true);
}

}  // namespace
}  // namespace switchyard
