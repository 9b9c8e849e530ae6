// list, doctor, completion, params: what this build says about itself.
#include "run_program.h"

#include <nlohmann/json.hpp>
#include <sched.h>

#include <fstream>
#include <set>

namespace switchyard {
namespace {

using nlohmann::json;
using testing::Finished;
using testing::run_program;
using testing::TempDir;

bool lists(const json& parts, const std::string& name) {
  for (const auto& part : parts)
    if (part.at("name") == name) return true;
  return false;
}

TEST(List, NamesThePlugInsOfEveryKind) {
  const std::vector<std::pair<std::string, std::string>> expected = {{"gates", "top_k"},        {"gates", "softmax"},  {"experts", "swiglu"}, {"losses", "load_balance"},
                                                                     {"losses", "router_z"},    {"dispatchers", "local"}, {"verbs", "list"},     {"priorities", "arrival"}, {"joins", "cmr"},
                                                                     {"families", "mixtral"}, {"families", "llama"},    {"tokenizers", "bpe"}};
  for (const auto& [noun, name] : expected) {
    const Finished r = run_program("list " + noun + " --json");
    ASSERT_EQ(r.code, 0) << noun << r.err;
    const json parts = json::parse(r.out);
    EXPECT_TRUE(lists(parts, name)) << name << " in " << noun;
    for (const auto& part : parts) {
      EXPECT_TRUE(part.contains("kind") && part.contains("ref") && part.contains("summary") && part.contains("options"));
      for (const auto& option : part.at("options")) EXPECT_FALSE(option.at("help").get<std::string>().empty());
    }
    EXPECT_EQ(run_program("list " + noun).code, 0);
  }
}

// Systems come from systems.tsv, wherever the program is called from.
TEST(List, ReadsSystemsFromTheSharedFolder) {
  const TempDir dir;
  std::ofstream(dir / "systems.tsv") << "id\tname\tkind\tref\tfiles\trecipe\ttests\n"
                                     << "switch\tSwitch top-1\tgate\tarXiv:2101.03961\ta.cpp b.cpp\trecipes/gates/switch.toml\tA.* B.C\n";
  const Finished r = run_program("list --json", "cd / && SWITCHYARD_SHARE_DIR='" + dir.path().string() + "' %");
  ASSERT_EQ(r.code, 0) << r.err;
  const json rows = json::parse(r.out);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0], json({{"id", "switch"}, {"name", "Switch top-1"}, {"kind", "gate"}, {"ref", "arXiv:2101.03961"}, {"files", {"a.cpp", "b.cpp"}},
                           {"recipe", "recipes/gates/switch.toml"}, {"tests", {"A.*", "B.C"}}}));
}

TEST(List, RefusesADamagedTableWithItsLine) {
  const TempDir dir;
  std::ofstream(dir / "systems.tsv") << "id\tname\tkind\tref\tfiles\trecipe\ttests\nswitch\tSwitch\n";
  const Finished r = run_program("list", "SWITCHYARD_SHARE_DIR='" + dir.path().string() + "' %");
  EXPECT_EQ(r.code, 3);
  SW_EXPECT_HAS(r.err, "systems.tsv:2: 2 columns, expected 7");
}

TEST(Doctor, TellsWhatItFound) {
  const Finished r = run_program("doctor --json", "OMP_NUM_THREADS=1 %");
  ASSERT_EQ(r.code, 0);
  std::map<std::string, json> found;
  for (const auto& row : json::parse(r.out)) found[row.at("section").get<std::string>() + "/" + row.at("name").get<std::string>()] = row;
  EXPECT_EQ(found.at("cpu/scalar").at("value"), "yes");
  EXPECT_EQ(found.at("threads/in use").at("value"), "1");
  EXPECT_EQ(found.at("environment/SWITCHYARD_ISA").at("value"), "not set");
  EXPECT_TRUE(found.count("libraries/BLAS") && found.count("libraries/libtorch") && found.count("memory/available"));
  EXPECT_EQ(found.at("parts/MPI").at("health"), "absent");
}

// Debian's libtorch alone would take half of the cores.
TEST(Doctor, TheProgramUsesEveryCoreOfItsAffinityMask) {
  cpu_set_t mask;
  ASSERT_EQ(::sched_getaffinity(0, sizeof mask, &mask), 0);
  // libgomp binds a thread that it is told to bind before main begins.
  for (const std::string around : {"unset OMP_NUM_THREADS; %", "unset OMP_NUM_THREADS; OMP_PROC_BIND=true OMP_PLACES=cores %"}) {
    const Finished r = run_program("doctor --json", around);
    std::string may, used;
    for (const auto& row : json::parse(r.out)) {
      if (row.at("name") == "this process may use") may = row.at("value");
      if (row.at("name") == "in use") used = row.at("value");
    }
    EXPECT_EQ(may, std::to_string(CPU_COUNT(&mask))) << around;
    EXPECT_EQ(used, may) << around;
  }
}

TEST(Doctor, WarnsOfAVariableThatDoesNotExist) {
  SW_EXPECT_HAS(run_program("doctor", "SWITCHYARD_ISSA=avx2 %").out, "no such variable");
}

TEST(Completion, ScriptsAreValidAndKnowVerbsAndOptions) {
  const TempDir dir;
  for (const std::string shell : {"bash", "zsh", "fish"}) {
    const Finished r = run_program("completion " + shell);
    ASSERT_EQ(r.code, 0);
    for (const char* word : {"generate", "repetition-penalty", "dispatchers", "bfloat16"}) SW_EXPECT_HAS(r.out, word);
    std::ofstream(dir / shell) << r.out;
    const std::string check = "if command -v " + shell + " > /dev/null; then " + shell + " -n '" + (dir / shell).string() + "'; fi";
    EXPECT_EQ(std::system(check.c_str()), 0) << shell;
  }
}

// What bash would offer behind the given words.
std::string offered(const std::string& words, int index) {
  const TempDir dir;
  const Finished script = run_program("completion bash");
  std::ofstream(dir / "script") << script.out << "COMP_WORDS=(" << words << ")\nCOMP_CWORD=" << index << "\ncompopt() { :; }\n_switchyard\necho \"${COMPREPLY[*]}\"\n";
  const std::string out = (dir / "out").string();
  EXPECT_EQ(std::system(("bash '" + (dir / "script").string() + "' > '" + out + "'").c_str()), 0);
  return testing::content_of(out);
}

TEST(Completion, BashOffersVerbsOptionsAndNames) {
  EXPECT_EQ(offered("switchyard gen", 1), "generate\n");
  EXPECT_EQ(offered("switchyard generate --temp", 2), "--temperature\n");
  EXPECT_EQ(offered("switchyard generate m --dtype b", 4), "bfloat16\n");
  EXPECT_EQ(offered("switchyard list disp", 2), "dispatchers\n");
  EXPECT_EQ(offered("switchyard recipe sh", 2), "show\n");
  EXPECT_EQ(offered("switchyard recipe show --f", 3), "--full\n");
  EXPECT_EQ(offered("switchyard report /usr/inclu", 2), "/usr/include\n") << "folders of runs";
}

TEST(Params, CountsByPart) {
  const TempDir dir;
  std::ofstream(dir / "r.toml") << "[tokenizer]\nkind = \"byte\"\n[model]\nd_model = 64\nnum_layers = 2\nnum_heads = 4\nd_ff = 128\n[model.moe]\nnum_experts = 4\n";
  const Finished r = run_program("params " + (dir / "r.toml").string() + " --json");
  ASSERT_EQ(r.code, 0) << r.err;
  const json count = json::parse(r.out);
  int64_t total = 0, active = 0;
  for (const auto& part : count.at("parts")) {
    total += part.at("total").get<int64_t>();
    active += part.at("active").get<int64_t>();
  }
  EXPECT_EQ(count.at("total"), total);
  EXPECT_EQ(count.at("active"), active);
  EXPECT_GT(total, active) << "two of four experts work";
  const json wider = json::parse(run_program("params " + (dir / "r.toml").string() + " --json --set model.moe.num_experts=8").out);
  // Four more experts of three 64 x 128 matrices and four more router rows, in two layers.
  EXPECT_EQ(wider.at("total").get<int64_t>() - total, 2 * 4 * (3 * 64 * 128 + 64));
}

}  // namespace
}  // namespace switchyard
