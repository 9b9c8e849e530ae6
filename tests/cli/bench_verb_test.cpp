// bench: its tables and its JSON.
#include "cli/run_program.h"

#include <nlohmann/json.hpp>

namespace switchyard::testing {
namespace {
namespace bench_verb {

using nlohmann::json;

TEST(BenchVerb, LayerPrintsAnArrayOfCases) {
  const auto run = run_program("bench layer --shape demo --dtype float32,int8 --tokens 1,4 --seconds 0 --json");
  ASSERT_EQ(run.code, 0) << run.err;
  const auto cases = json::parse(run.out);
  ASSERT_EQ(cases.size(), 4u);
  for (const auto& c : cases) {
    for (const char* key : {"us", "gflops", "gbps", "fraction_of_roof", "ratio_libtorch", "ratio_dense", "max_error"}) EXPECT_GT(c[key].get<double>(), 0) << key;
    EXPECT_EQ(c["shape"], "demo");
    EXPECT_EQ(c["direction"], "forward");
    EXPECT_TRUE(c["roof"] == "memory" || c["roof"] == "compute");
  }
  EXPECT_EQ(cases[3]["dtype"], "int8");
  EXPECT_EQ(cases[3]["tokens"], 4);
}

TEST(BenchVerb, LayerTrainsAndPrintsATable) {
  const auto run = run_program("bench layer --shape demo --dtype bfloat16 --tokens 8 --seconds 0 --direction both --routing zipf --no-libtorch");
  ASSERT_EQ(run.code, 0) << run.err;
  SW_EXPECT_HAS(run.out, "forward and backward");
  SW_EXPECT_HAS(run.out, "of roof");
}

TEST(BenchVerb, ModelMeasuresARecipe) {
  const auto run = run_program("bench model demo/moe --set model.num_layers=1 --prompt 8 --new-tokens 3 --turns 1 --weights int4 --json");
  ASSERT_EQ(run.code, 0) << run.err;
  const auto result = json::parse(run.out);
  EXPECT_LT(result["active_bytes"].get<double>(), result["weight_bytes"].get<double>());
  EXPECT_GT(result["decode_tokens_per_s"].get<double>(), 0);
  EXPECT_TRUE(result["ratio_libtorch"].is_null());
}

TEST(BenchVerb, WrongWordsAreUsageErrors) {
  EXPECT_EQ(run_program("bench layer --shape huge").code, 2);
  EXPECT_EQ(run_program("bench layer --shape demo --dtype int8 --direction both").code, 2);
  EXPECT_EQ(run_program("bench").code, 2);
}

TEST(WeightsOption, FormatsGenerateAndEvaluate) {
  const std::string model = SW_TEST_DATA "/golden/mixtral", options = " --ids 1,2,3 --ignore-eos --temperature 0 --max-tokens 6";
  const auto plain = run_program("generate " + model + options + " --weights plain");
  ASSERT_EQ(plain.code, 0) << plain.err;
  EXPECT_EQ(run_program("generate " + model + options).out, plain.out);
  EXPECT_EQ(run_program("generate " + model + options + " --weights int4").code, 0);
  const auto wrong = run_program("generate " + model + options + " --weights int5");
  EXPECT_EQ(wrong.code, 2);
  SW_EXPECT_HAS(wrong.err, "int4");
}

TEST(DeviceOption, ANameThatCannotBeIsRefused) {
  const std::string model = SW_TEST_DATA "/golden/mixtral", options = " --ids 1,2,3 --ignore-eos --max-tokens 2";
  EXPECT_EQ(run_program("generate " + model + options + " --device cpu").code, 0);
  const auto wrong = run_program("generate " + model + options + " --device gpu");
  EXPECT_EQ(wrong.code, 2);
  SW_EXPECT_HAS(wrong.err, "expected cpu, cuda or cuda:N");
  const auto far = run_program("train demo/moe --out " SW_BINARY_DIR "/never-there --device cuda:63");  // no machine has so many
  EXPECT_NE(far.code, 0);
  SW_EXPECT_HAS(far.err, "device = 'cuda:63'");
}

}  // namespace bench_verb
}  // namespace
}  // namespace switchyard::testing
