// The command line as a user meets it: help, exit codes, messages.
#include "run_program.h"

#include <nlohmann/json.hpp>

#include <fstream>

namespace switchyard {
namespace {

using testing::Finished;
using testing::run_program;
using testing::TempDir;

std::vector<std::string> verb_names() {
  std::vector<std::string> names;
  for (const auto& verb : nlohmann::json::parse(run_program("list verbs --json").out)) names.push_back(verb.at("name"));
  return names;
}

TEST(Program, EveryVerbHasHelpWithTwoExamples) {
  const auto names = verb_names();
  EXPECT_GE(names.size(), 14u);
  for (const auto& name : names) {
    const Finished r = run_program(name + " --help");
    EXPECT_EQ(r.code, 0) << name;
    SW_EXPECT_HAS(r.out, "Examples:\n  ");
    EXPECT_EQ(r.err, "") << name;
    const auto examples = r.out.substr(r.out.find("Examples:"));
    size_t count = 0;
    for (size_t at = examples.find("switchyard "); at != std::string::npos; at = examples.find("switchyard ", at + 1)) ++count;
    EXPECT_GE(count, 2u) << name;
  }
}

TEST(Program, HelpOfTheProgramListsEveryVerbAndTheExitCodes) {
  const Finished r = run_program("--help");
  EXPECT_EQ(r.code, 0);
  for (const auto& name : verb_names()) SW_EXPECT_HAS(r.out, "\n  " + name);
  SW_EXPECT_HAS(r.out, "130 interrupted");
}

TEST(Program, HelpShowsDefaults) {
  const Finished r = run_program("generate --help");
  SW_EXPECT_HAS(r.out, "--temperature X=0.8");
  SW_EXPECT_HAS(r.out, "--dtype float32|bfloat16=float32");
}

TEST(Program, PrintsItsVersion) {
  const Finished r = run_program("--version");
  EXPECT_EQ(r.code, 0);
  EXPECT_EQ(r.out.substr(0, 11), "switchyard ");
}

TEST(Program, NoVerbIsWrongUsage) {
  const Finished r = run_program("");
  EXPECT_EQ(r.code, 2);
  EXPECT_EQ(r.out, "");
  SW_EXPECT_HAS(r.err, "train");
}

TEST(Program, AnUnknownVerbSuggestsTheNearest) {
  const Finished r = run_program("trian recipe.toml");
  EXPECT_EQ(r.code, 2);
  SW_EXPECT_HAS(r.err, "unknown verb 'trian'; did you mean 'train'?");
}

TEST(Program, AnUnknownOptionSuggestsTheNearest) {
  const Finished r = run_program("generate model --temprature 1");
  EXPECT_EQ(r.code, 2);
  EXPECT_EQ(r.out, "");
  SW_EXPECT_HAS(r.err, "'--temprature'; did you mean '--temperature'?");
}

TEST(Program, WrongValuesAreWrongUsage) {
  EXPECT_EQ(run_program("generate model --max-tokens many").code, 2);
  EXPECT_EQ(run_program("train --threads 0.5 x.toml").code, 2);
  EXPECT_EQ(run_program("inspect").code, 2) << "the checkpoint is missing";
  EXPECT_EQ(run_program("recipe").code, 2) << "check or show is missing";
  EXPECT_EQ(run_program("list doors").code, 2);
}

TEST(Program, ABadRecipeNamesFileLineAndNearestKey) {
  const TempDir dir;
  std::ofstream(dir / "bad.toml") << "name = \"x\"\n[train]\nstepz = 3\n";
  const Finished r = run_program("recipe check " + (dir / "bad.toml").string());
  EXPECT_EQ(r.code, 3);
  EXPECT_EQ(r.out, "");
  SW_EXPECT_HAS(r.err, "bad.toml:3:");
  SW_EXPECT_HAS(r.err, "'stepz'");
  SW_EXPECT_HAS(r.err, "did you mean 'steps'?");
}

TEST(Program, TrainRefusesABadRecipeBeforeItWritesAnything) {
  const TempDir dir;
  std::ofstream(dir / "bad.toml") << "[model]\nnum_layers = -2\n";
  const Finished r = run_program("train " + (dir / "bad.toml").string() + " --out " + (dir / "run").string());
  EXPECT_EQ(r.code, 3);
  SW_EXPECT_HAS(r.err, "num_layers");
  EXPECT_FALSE(std::filesystem::exists(dir / "run"));
}

TEST(Program, AnUnknownRecipeNameIsABadConfig) {
  const Finished r = run_program("params no-such-recipe");
  EXPECT_EQ(r.code, 3);
  SW_EXPECT_HAS(r.err, "'no-such-recipe' is neither a file nor the name of a recipe");
}

TEST(Program, ABadCheckpointIsToldApart) {
  const TempDir dir;
  std::filesystem::create_directories(dir / "model");
  std::ofstream(dir / "model/config.json") << "{\"model_type\": \"llama\"}";
  std::ofstream(dir / "model/model.safetensors") << "not tensors";
  EXPECT_EQ(run_program("inspect " + (dir / "model").string()).code, 4);
  EXPECT_EQ(run_program("generate " + (dir / "nowhere").string() + " x").code, 4);
  EXPECT_EQ(run_program("eval " + (dir / "model/config.json").string()).code, 4);
}

TEST(Program, AForcedInstructionSetThatIsNotThereIsReported) {
  const Finished r = run_program("doctor", "SWITCHYARD_ISA=mmx %");
  EXPECT_EQ(r.code, 0) << "the doctor explains instead of failing";
  SW_EXPECT_HAS(r.out, "SWITCHYARD_ISA=mmx: unknown");
}

// A reader that goes away must not end the program with a signal.
TEST(Program, SurvivesABrokenPipe) {
  const Finished r = run_program("list recipes --json", "{ % ; echo $? >&2 ; } | true");
  EXPECT_EQ(r.err, "0\n");
}

TEST(Program, SaysWhenTheDiskIsFull) {
  const Finished r = run_program("list verbs", "% > /dev/full");
  EXPECT_EQ(r.code, 1);
  SW_EXPECT_HAS(r.err, "standard output");
}

TEST(Program, WritesNoColourWithoutATerminal) {
  for (const char* call : {"--help", "doctor", "list gates", "trian"}) {
    const Finished r = run_program(call);
    EXPECT_EQ((r.out + r.err).find('\x1b'), std::string::npos) << call;
  }
}

}  // namespace
}  // namespace switchyard
