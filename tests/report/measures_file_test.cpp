#include "report/measures_file.h"

#include <gtest/gtest.h>

#include <cmath>

#include "switchyard/error.h"

namespace switchyard::report {
namespace {

MeasureTable some_table() {
  using F = Measure::Form;
  return {{{F::decimals, "loss", "loss", "How wrong.", 2, true}, {F::percent, "dropped", "dropped", "Who was left out.", 1, false}, {F::count, "parameters", "parameters", "Of all.", 3, false}},
          {{"worse", 2, {{2.0, 4.0}, {0, 0}, {1000, 1000}}}, {"better", 2, {{1.0, 1.5}, {NAN, NAN}, {2e6, 2e6}}}, {"failed", 0, {{}, {}, {}}}}};
}

std::string file_of(const MeasureTable& table) {
  const nlohmann::ordered_json json = {{"title", "A board"}, {"about", "What was done."}, {"measures", measures_json(table)}, {"recipes", to_json(table)}};
  return json.dump();
}

TEST(MeasuresFile, ReadsBackWhatWasWritten) {
  const MeasureTable table = some_table();
  const auto board = parse_board(file_of(table), "compare.json");
  EXPECT_EQ(board.title, "A board");
  EXPECT_EQ(board.about, "What was done.");
  ASSERT_EQ(board.table.rows.size(), 3u);
  for (size_t m = 0; m < 3; ++m) {
    EXPECT_EQ(board.table.measures[m].title, table.measures[m].title);
    for (size_t r = 0; r < 3; ++r)
      EXPECT_EQ(measure_text(board.table.measures[m], board.table.rows[r].values[m]), measure_text(table.measures[m], table.rows[r].values[m])) << r << " " << m;
  }
}

TEST(MeasuresFile, TheBestRowComesFirstAndColumnsOfZerosAreLeftOut) {
  const std::string text = measures_markdown(some_table());
  const size_t better = text.find("| 1 | better |"), worse = text.find("| 2 | worse | 3.00 ± 1.41 | 1000 |"), failed = text.find("| 3 | failed |");
  EXPECT_TRUE(better < worse && worse < failed && failed != std::string::npos) << text;
  EXPECT_EQ(text.find("dropped"), std::string::npos) << text;
}

TEST(MeasuresFile, MeasuresAreLeftOutByTheirKeys) {
  MeasureTable table = some_table();
  drop_measures(table, {"parameters", "loss"});
  ASSERT_EQ(table.measures.size(), 1u);
  EXPECT_EQ(table.measures[0].key, "dropped");
  for (const auto& row : table.rows) EXPECT_EQ(row.values.size(), 1u);
  EXPECT_THROW(drop_measures(table, {"loss"}), Error);
}

TEST(MeasuresFile, NamesWhatIsWrong) {
  const auto message = [](const std::string& text) -> std::string {
    try {
      (void)parse_board(text, "x.json");
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message("[]").find("x.json"), std::string::npos);
  EXPECT_NE(message("{}").find("no measures"), std::string::npos);
  EXPECT_NE(message(R"({"measures": [{"key": "a", "form": "round"}]})").find("form = 'round'"), std::string::npos);
}

}  // namespace
}  // namespace switchyard::report
