// The way of a user: train, interrupt, resume, evaluate, ask, look, export; all through the program.
#include "run_program.h"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <fstream>

namespace switchyard {
namespace {

using nlohmann::json;
using testing::Finished;
using testing::run_program;
using testing::TempDir;

// Trains for a second or two.
void write_recipe(const std::filesystem::path& dir) {
  std::ofstream text(dir / "corpus.txt");
  for (int i = 0; i < 400; ++i) text << "the " << (i % 7 == 0 ? "dog" : "cat") << " number " << i << " sat on the mat.\n";
  std::ofstream(dir / "tiny.toml") << R"(name = "tiny"
[data]
path = "corpus.txt"
[tokenizer]
kind = "byte"
[model]
d_model = 32
num_layers = 2
num_heads = 2
d_ff = 32
max_positions = 64
[model.moe]
num_experts = 4
losses = [{ kind = "load_balance", weight = 0.01 }]
[train]
steps = 12
batch_size = 4
seq_len = 32
log_every = 4
eval_every = 6
checkpoint_every = 6
[sample]
prompt = "the "
tokens = 12
)";
}

class TrainVerb : public ::testing::Test {
 protected:
  void SetUp() override { write_recipe(dir_.path()); }
  [[nodiscard]] Finished call(const std::string& words, const std::string& around = "%") const {
    return run_program(words, "cd '" + dir_.path().string() + "' && export OMP_NUM_THREADS=1 && " + around);
  }
  TempDir dir_;
};

TEST_F(TrainVerb, TrainsAndSaysWhereThingsAre) {
  const Finished r = call("train tiny.toml --threads 1");
  ASSERT_EQ(r.code, 0) << r.err;
  SW_EXPECT_HAS(r.err, "step 12/12  loss ");
  SW_EXPECT_HAS(r.err, "x floor  dropped 0.0%");
  EXPECT_EQ(r.err.find('\r'), std::string::npos) << "plain lines when nobody watches";
  for (const char* file : {"checkpoints/best", "checkpoints/last", "metrics.jsonl", "sample.txt", "report.html"}) {
    SW_EXPECT_HAS(r.out, std::string("runs/tiny/") + file);
    EXPECT_TRUE(std::filesystem::exists(dir_ / "runs" / "tiny" / file)) << file;
  }
  EXPECT_EQ(testing::content_of(dir_ / "runs/tiny/sample.txt").substr(0, 4), "the ");
  EXPECT_EQ(call("train tiny.toml").code, 2) << "there is a run already";
}

// Alone a recipe adapts random weights, and the program says so.
TEST_F(TrainVerb, AdaptersGoIntoATrainedModel) {
  const std::string adapters = " --threads 1 --set 'model.mixtures=[{sites=[\"attn.q\"],num_experts=2}]' --set 'train.optimizer.train_only=[\"mixtures\"]'";
  ASSERT_EQ(call("train tiny.toml --out base --threads 1 --quiet").code, 0);
  const Finished adapted = call("train tiny.toml --init base --out adapted" + adapters), alone = call("train tiny.toml --out alone" + adapters);
  ASSERT_EQ(adapted.code, 0) << adapted.err;
  ASSERT_EQ(alone.code, 0) << alone.err;
  EXPECT_EQ(adapted.err.find("random initial weights"), std::string::npos);
  SW_EXPECT_HAS(alone.err, "random initial weights; --init MODEL-DIR");
  const Finished wrong = call("train tiny.toml --init base --out wrong" + adapters + " --set model.moe.num_shared_experts=1");
  EXPECT_EQ(wrong.code, 4) << wrong.err;
  SW_EXPECT_HAS(wrong.err, "shared_experts");
}

TEST_F(TrainVerb, ATrainedModelCanBeUsed) {
  ASSERT_EQ(call("train tiny.toml --out run --quiet").code, 0);
  const Finished text = call("generate run 'the cat' --max-tokens 8 --temperature 0 --ignore-eos");
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_FALSE(text.out.empty());
  const json ids = json::parse(call("generate run --ids 116,104 --ignore-eos --max-tokens 5 --json").out);
  EXPECT_EQ(ids.at("prompt_ids"), json({116, 104}));
  EXPECT_EQ(ids.at("ids").size(), 5u);
  const Finished eval = call("eval run --json");
  ASSERT_EQ(eval.code, 0) << eval.err;
  const json figures = json::parse(eval.out);
  EXPECT_NEAR(figures.at("perplexity").get<double>(), std::exp(figures.at("loss").get<double>()), 1e-9);
  EXPECT_EQ(figures.at("split"), "validation");
  EXPECT_EQ(call("inspect run --tensors").code, 0);
  EXPECT_EQ(call("report run --out page.html").code, 0);
  EXPECT_TRUE(std::filesystem::exists(dir_ / "page.html"));
  EXPECT_EQ(json::parse(call("params run/checkpoints/best --json").out).at("total"), json::parse(call("params tiny.toml --json").out).at("total"));
}

TEST_F(TrainVerb, InitGoesOnFromTheWeightsOfAnotherModel) {
  const auto first_loss = [&](const std::string& words) {
    const Finished r = call("train tiny.toml --set train.log_every=1 --set train.optimizer.lr=0.003 " + words);
    EXPECT_EQ(r.code, 0) << r.err;
    const auto at = r.err.find("step 1/");
    return std::stod(r.err.substr(r.err.find("loss ", at) + 5));
  };
  const double fresh = first_loss("--out a");
  EXPECT_LT(first_loss("--out b --init a"), fresh - 0.1);
}

bool has_terminals() {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal >= 0) ::close(terminal);
  return terminal >= 0;
}

// `script` (package bsdutils, essential on Debian) gives the program a terminal.
TEST_F(TrainVerb, WritesOverItsLineOnATerminal) {
  if (!has_terminals()) GTEST_SKIP() << "no pseudo-terminals here: /dev/ptmx cannot be opened";
  const std::string train = " train tiny.toml --set train.eval_every=0 --out ";
  const std::string inside = "script -qec \"stty cols 120; TERM=xterm %" + train;
  const Finished colour = call("", "unset NO_COLOR; " + inside + "a\" /dev/null");
  SW_EXPECT_HAS(colour.out, "\r\x1b[36m");
  SW_EXPECT_HAS(colour.out, "100% 12/12  loss ");
  const Finished plain = call("", "export NO_COLOR=1; " + inside + "b\" /dev/null");
  SW_EXPECT_HAS(plain.out, "100% 12/12  loss ");
  EXPECT_EQ(plain.out.find("\x1b[36m"), std::string::npos);
}

TEST_F(TrainVerb, DryRunWritesNothing) {
  const Finished r = call("train tiny.toml --dry-run --json");
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_TRUE(json::parse(r.out).is_object());
  EXPECT_FALSE(std::filesystem::exists(dir_ / "runs"));
}

// SIGINT saves and ends with 130; --resume goes on to the end.
TEST_F(TrainVerb, AnInterruptedRunGoesOn) {
  const Finished stopped = call("train tiny.toml --out run --set train.steps=100000 --set train.eval_every=0",
                                "{ % & pid=$!; while kill -0 $pid && ! grep -q '\"step\":4' run/metrics.jsonl 2> /dev/null; do sleep 0.1; done; kill -INT $pid; wait $pid; }");
  EXPECT_EQ(stopped.code, 130) << stopped.err;
  SW_EXPECT_HAS(stopped.err, "saved in run/checkpoints/last; go on with: switchyard train --resume --out run");
  const auto at = stopped.err.find("interrupted at step ");
  const int64_t step = std::stoll(stopped.err.substr(at + 20));
  const Finished resumed = call("train --resume --out run --set train.eval_every=0 --set train.steps=" + std::to_string(step + 5));
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  SW_EXPECT_HAS(resumed.out, "finished     step " + std::to_string(step + 5));
}

TEST_F(TrainVerb, ExportRefusesWhatAFamilyCannotSay) {
  ASSERT_EQ(call("train tiny.toml --out run --quiet").code, 0);
  const Finished refused = call("export run out --family llama");
  EXPECT_EQ(refused.code, 5) << refused.err;
  SW_EXPECT_HAS(refused.err, "moe");
  EXPECT_FALSE(std::filesystem::exists(dir_ / "out"));
  EXPECT_EQ(call("export run out --family switchyard --dtype bfloat16 --max-shard-size 20KB").code, 0);
  EXPECT_TRUE(std::filesystem::exists(dir_ / "out/model.safetensors.index.json"));
  EXPECT_EQ(call("generate out x --max-tokens 2 --ignore-eos").code, 0);
  EXPECT_EQ(call("export run other --max-shard-size huge").code, 2);
}

TEST(GenerateVerb, ContinuesIds) {
  const auto folder = std::string(SW_TEST_DATA) + "/golden/mixtral";
  const Finished r = run_program("generate " + folder + " --ids 1,2,3 --ignore-eos --temperature 0 --max-tokens 4 --json");
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(json::parse(r.out).at("ids").size(), 4u);
  const Finished text = run_program("generate " + folder + " hello");
  EXPECT_EQ(text.code, 4);
  SW_EXPECT_HAS(text.err, "no tokenizer.json");
}

TEST(ForwardVerb, WritesTheTensorsOfTheGoldenModel) {
  const TempDir dir;
  const auto golden = std::string(SW_TEST_DATA) + "/golden/mixtral";
  const std::string out = (dir / "out.safetensors").string();
  const Finished r = run_program("forward --model " + golden + " --input " + golden + "/reference.safetensors --output " + out);
  ASSERT_EQ(r.code, 0) << r.err;
  const Finished listed = run_program("inspect " + out + " --tensors --json");
  ASSERT_EQ(listed.code, 0) << listed.err;
  for (const char* name : {"\"logits\"", "\"hidden_states.0\"", "\"moe.0.router_logits\"", "\"moe.0.topk_index\""}) SW_EXPECT_HAS(listed.out, name);
}

}  // namespace
}  // namespace switchyard
