// explain: says what is written at the heads of recipes and sources, and what the recipe's model gives.
#include "run_program.h"

#include <nlohmann/json.hpp>

#include <fstream>

namespace switchyard::explain_test {
namespace {

using nlohmann::json;
using testing::content_of;
using testing::Finished;
using testing::run_program;
using testing::TempDir;

const std::string kRoot = SW_SOURCE_DIR;

json explained(const std::string& id, const std::string& around = "%") {
  const Finished r = run_program("explain " + id + " --json", around);
  EXPECT_EQ(r.code, 0) << r.err;
  return json::parse(r.out);
}

// The first line of a file without its comment mark.
std::string first_line(const std::string& path) {
  const std::string text = content_of(kRoot + "/" + path);
  return text.substr(text.find(' ') + 1, text.find('\n') - text.find(' '));
}

TEST(Explain, ASystemIsItsRecipeItsFilesAndItsCost) {
  const json e = explained("dense-gate").at(0);
  EXPECT_EQ(e.at("about").get<std::string>().rfind(first_line("recipes/gates/dense-gate.toml"), 0), 0u) << e.at("about");
  ASSERT_FALSE(e.at("files").empty());
  for (const auto& file : e.at("files")) {
    const std::string path = file.at("path") == "src/core/chain_gate.cpp" ? "src/core/chain_gate.h" : file.at("path");  // a .cpp without a head
    EXPECT_EQ(file.at("about").get<std::string>().rfind(first_line(path), 0), 0u) << file;
  }
  const json count = json::parse(run_program("params dense-gate --json").out);
  EXPECT_EQ(e.at("cost").at("parameters"), count.at("total"));
  EXPECT_EQ(e.at("cost").at("active"), count.at("active"));
  EXPECT_GT(e.at("cost").at("router").get<int64_t>(), 0);
  EXPECT_EQ(e.at("causality"), "strict");
  const Finished text = run_program("explain dense-gate");
  for (const char* part : {"source     ", "recipe     recipes/gates/dense-gate.toml", "for decoders too", "src/gates/dense.cpp", "tests      "}) SW_EXPECT_HAS(text.out, part);
}

TEST(Explain, CausalityIsThatOfTheLayer) {
  const TempDir dir;
  std::ofstream(dir / "systems.tsv") << "id\tname\tkind\tref\tfiles\trecipe\ttests\n"
                                     << "late\tLooks ahead\tgate\tarXiv:1\ta.cpp\tlate.toml\tA.*\n"
                                     << "drops\tDrops\tgate\tarXiv:1\ta.cpp\tdrops.toml\tA.*\n";
  const std::string model = "[tokenizer]\nkind = \"byte\"\n[model]\nd_model = 32\nnum_layers = 1\nnum_heads = 2\nd_ff = 32\n";
  std::ofstream(dir / "late.toml") << model << "[model.moe]\nallow_lookahead = true\ngate = { kind = \"chain\", select = { kind = \"expert_choice\" }, weigh = \"raw\" }\n";
  std::ofstream(dir / "drops.toml") << model << "[model.moe]\ncapacity = { factor = 1.0 }\n";
  const std::string here = "SWITCHYARD_SHARE_DIR='" + dir.path().string() + "' %";
  EXPECT_EQ(explained("late", here).at(0).at("causality"), "non-causal");
  EXPECT_EQ(explained("drops", here).at(0).at("causality"), "batch-dependent");
  SW_EXPECT_HAS(run_program("explain late", here).out, "no comment at its head");
}

TEST(Explain, MixturesAtSitesHaveRoutersAndACausality) {
  for (const auto& [id, causality] : {std::pair{"mov-gate", "strict"}, {"mole-gate", "non-causal"}}) {
    const json e = explained(id).at(0);
    EXPECT_GT(e.at("cost").at("router").get<int64_t>(), 0) << id;
    EXPECT_EQ(e.at("causality"), causality) << id;
  }
}

TEST(Explain, PartsOfOneNameComeTogether) {
  const json parts = explained("top_k");
  std::map<std::string, json> by_kind;
  for (const auto& part : parts) by_kind[part.at("kind").get<std::string>()] = part;
  ASSERT_TRUE(by_kind.count("gate") && by_kind.count("select block")) << parts;
  EXPECT_EQ(by_kind.at("select block").at("file"), "src/gates/select/top_k.cpp");
  EXPECT_FALSE(by_kind.at("select block").at("about").get<std::string>().empty());
  EXPECT_EQ(by_kind.at("gate").at("options")[0].at("key"), "k");
  SW_EXPECT_HAS(run_program("explain load_balance").out, "(loss): ");
}

TEST(Explain, AnUnknownNameSuggestsTheNearest) {
  const Finished r = run_program("explain dense-gat");
  EXPECT_EQ(r.code, 2);
  SW_EXPECT_HAS(r.err, "did you mean 'dense-gate'?");
  EXPECT_EQ(run_program("explain").code, 2);
  EXPECT_EQ(run_program("explain --markdown doors").code, 2);
}

TEST(Explain, ThePageHasEverySystemOfItsKind) {
  const Finished page = run_program("explain --markdown gates");
  ASSERT_EQ(page.code, 0) << page.err;
  for (const auto& row : json::parse(run_program("list systems --json").out)) {
    const bool is_gate = row.at("kind") == "gate";
    EXPECT_EQ(page.out.find("`" + row.at("id").get<std::string>() + "`, ") != std::string::npos, is_gate) << row.at("id");
  }
}

// What the page says is what recipes, sources and the measured boards say today: `make docs` writes it.
TEST(Explain, ThePageOfGatesIsUpToDate) {
  const Finished page = run_program("explain --markdown gates --boards '" + kRoot + "/docs/boards'");
  ASSERT_EQ(page.code, 0) << page.err;
  EXPECT_TRUE(page.out == content_of(kRoot + "/docs/gates.md")) << "docs/gates.md is older than what it is made of; run make docs";
}

// An installed program has no sources, but what they say of themselves.
TEST(Explain, AnInstalledProgramSaysTheSame) {
  const TempDir dir;
  const std::string share = dir.path().string();
  std::filesystem::copy(kRoot + "/systems.tsv", dir / "systems.tsv");
  std::filesystem::copy(kRoot + "/recipes", dir / "recipes", std::filesystem::copy_options::recursive);
  ASSERT_EQ(std::system(("cmake -DSOURCE='" + kRoot + "' -DOUT='" + share + "/heads.txt' -P '" + kRoot + "/cmake/SourceHeads.cmake'").c_str()), 0);
  for (const char* id : {"dense-gate", "expert-parallelism", "top_k", "swiglu"})
    EXPECT_EQ(explained(id, "SWITCHYARD_SHARE_DIR='" + share + "' %"), explained(id)) << id;
}

}  // namespace
}  // namespace switchyard::explain_test
