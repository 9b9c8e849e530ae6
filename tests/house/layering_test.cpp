#include "house/layering.h"

#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <regex>

namespace switchyard::house {
namespace {

std::string lines_of(const Violations& violations) { return fmt::format("{}\n", fmt::join(violations, "\n")); }

const SourceTree& repository() {
  static const SourceTree tree = read_tree(SW_SOURCE_DIR, {"src", "include", "tests", "bench", "recipes", "data", "docs", "tools"});
  return tree;
}

TEST(House, IncludesPointOneWay) {
  const auto wrong = wrong_includes(repository());
  EXPECT_TRUE(wrong.empty()) << lines_of(wrong);
}

TEST(House, TorchStaysWhereItBelongs) {
  const auto wrong = wrong_torch(repository());
  EXPECT_TRUE(wrong.empty()) << lines_of(wrong);
}

TEST(House, LongFilesSayWhy) {
  const auto wrong = long_files(repository());
  EXPECT_TRUE(wrong.empty()) << lines_of(wrong);
}

TEST(House, FoldersHaveReadmes) {
  const auto wrong = wrong_readmes(repository());
  EXPECT_TRUE(wrong.empty()) << lines_of(wrong);
}

TEST(House, EveryPackageHasItsReason) {
  const std::string& page = repository().at("docs/dependencies.md");
  std::istringstream packages(repository().at("tools/packages.txt"));
  for (std::string name; std::getline(packages, name);) EXPECT_NE(page.find("`" + name + "`"), std::string::npos) << name << " is not in docs/dependencies.md";
}

// A comment that sends the reader to a page sends them somewhere.
TEST(House, PagesThatSourcesNameExist) {
  const std::regex page(R"(docs/[A-Za-z0-9_-]+\.md)");
  for (const auto& [path, text] : repository()) {
    if (!is_source(path) || !(starts_with(path, kSource) || starts_with(path, kPublic))) continue;
    for (std::sregex_iterator i(text.begin(), text.end(), page), end; i != end; ++i)
      EXPECT_TRUE(repository().count(i->str())) << path << " names " << i->str();
  }
}

TEST(House, TheTreeIsReallyRead) {
  const auto& tree = repository();
  ASSERT_TRUE(tree.count("src/layer/moe_layer.cpp"));
  const auto includes = includes_of(tree, "src/layer/moe_layer.cpp");
  const auto has = [&](const char* target) {
    return std::any_of(includes.begin(), includes.end(), [&](const Include& i) { return i.target == target; });
  };
  EXPECT_TRUE(has("src/core/ops.h"));
  EXPECT_TRUE(has("include/switchyard/moe.h"));
}

// The checker itself, on trees with one fault each.
TEST(Layering, RefusesSidewaysAndUpwardIncludesByBothNames) {
  const SourceTree tree = {
      {"src/gates/hash.cpp", "#include \"dispatch/local.h\"\n#include \"core/ops.h\"\n#include \"gates/tools.h\"\n"},
      {"src/gates/tools.h", "#include <vector>\n"},
      {"src/dispatch/local.h", ""},
      {"src/core/ops.h", "  #  include \"layer/wiring.h\"\n"},
      {"src/layer/wiring.h", ""},
      {"src/base/low.h", "#include \"io/json.h\""},
      {"src/io/json.h", ""},
  };
  const Violations want = {
      "src/base/low.h includes \"src/io/json.h\": base may use no other folder",
      "src/core/ops.h includes \"src/layer/wiring.h\": core may use base, kernels, io",
      "src/gates/hash.cpp includes \"src/dispatch/local.h\": gates may use base, kernels, io, core",
  };
  EXPECT_EQ(wrong_includes(tree), want);
}

TEST(Layering, FindsFilesBesideTheIncludingOneAndBelowSubFolders) {
  const SourceTree tree = {{"src/kernels/a.cpp", "#include \"a.inl\"\n"}, {"src/kernels/a.inl", "#include \"../io/json.h\"\n"},
                           {"src/gates/select/x.cpp", "#include \"losses/y.h\"\n"}, {"src/losses/y.h", ""}};
  EXPECT_EQ(wrong_includes(tree), (Violations{"src/gates/select/x.cpp includes \"src/losses/y.h\": gates may use base, kernels, io, core"}));
}

TEST(Layering, PublicHeadersHaveTheLayerOfWhatTheyDescribe) {
  const SourceTree tree = {
      {"include/switchyard/moe.h", "#include \"switchyard/gate.h\"\n#include \"core/ops.h\"\n"},
      {"include/switchyard/gate.h", "#include <switchyard/moe.h>\n"},
      {"src/core/ops.h", "#include \"switchyard/gate.h\"\n#include \"switchyard/moe.h\"\n"},
      {"src/models/model.cpp", "#include \"switchyard/moe.h\"\n"},
  };
  const Violations want = {
      "include/switchyard/gate.h includes \"include/switchyard/moe.h\": include/switchyard/gate.h is of layer 2, and public headers use public headers only",
      "include/switchyard/moe.h includes \"src/core/ops.h\": include/switchyard/moe.h is of layer 4, and public headers use public headers only",
      "src/core/ops.h includes \"include/switchyard/moe.h\": core may use base, kernels, io",
  };
  EXPECT_EQ(wrong_includes(tree), want);
}

TEST(Layering, EveryFolderAndPublicHeaderNeedsALayer) {
  const SourceTree tree = {{"src/magic/wand.cpp", ""}, {"include/switchyard/wand.h", ""}, {"src/magic/README.md", "#include \"x\"\n"}};
  const Violations want = {"include/switchyard/wand.h has no layer: name wand.h in tests/house/layering.h",
                           "src/magic/wand.cpp has no layer: name magic in tests/house/layering.h"};
  EXPECT_EQ(wrong_includes(tree), want);
}

TEST(TorchFree, SeesThroughOtherHeadersAndEndsInCycles) {
  const SourceTree tree = {
      {"src/io/a.cpp", "#include \"io/a.h\"\n"},
      {"src/io/a.h", "#include \"io/b.h\"\n"},
      {"src/io/b.h", "#include \"io/a.h\"\n#include \"switchyard/routing.h\"\n"},
      {"include/switchyard/routing.h", "#include <torch/types.h>\n"},
      {"src/core/c.cpp", "#include <ATen/ATen.h>\n"},
      {"src/core/d.cpp", "#include <torch/torch.h>\n"},
      {"src/report/e.cpp", "#include <vector>\n// #include <torch/types.h>\n"},
  };
  const auto wrong = wrong_torch(tree);
  ASSERT_EQ(wrong.size(), 4u) << lines_of(wrong);
  EXPECT_EQ(wrong[0], "src/core/d.cpp includes torch/torch.h, which costs every file 15 s: include the header that is used (torch/types.h)");
  EXPECT_EQ(wrong[1], "src/io/a.cpp includes src/io/a.h includes src/io/b.h includes include/switchyard/routing.h includes torch/types.h: io is free of libtorch");
}

TEST(LongFiles, NeedAReasonInTheHeadComment) {
  const std::string body(501, '\n');
  const SourceTree tree = {{"src/a/plain.cpp", "// One.\n" + std::string("int x;\n") + body + "// long because\n"},
                           {"src/a/told.cpp", "// Tables; long because a table is.\n" + body},
                           {"src/a/short.cpp", body.substr(1)},
                           {"data/text.txt", body}};
  const auto wrong = long_files(tree);
  ASSERT_EQ(wrong.size(), 1u);
  EXPECT_EQ(wrong[0], "src/a/plain.cpp has 504 lines; above 500 the head comment says why ('long because ...'), or the file is divided");
}

TEST(Readmes, AreThereAndShort) {
  const SourceTree tree = {{"src/a/x.cpp", ""}, {"src/b/sub/y.cpp", ""}, {"src/b/README.md", std::string(31, '\n')},
                           {"docs/z.md", ""}, {"docs/README.md", "\n"}, {"src/CMakeLists.txt", ""}};
  const auto wrong = wrong_readmes(tree);
  ASSERT_EQ(wrong.size(), 2u) << lines_of(wrong);
  EXPECT_EQ(wrong[0].substr(0, 25), "src/a has no README.md: w");
  EXPECT_EQ(wrong[1], "src/b/README.md has 31 lines, expected at most 30");
}

}  // namespace
}  // namespace switchyard::house
