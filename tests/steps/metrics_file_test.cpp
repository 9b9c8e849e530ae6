#include "steps/metrics_file.h"

#include "test_files.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

TEST(MetricsFile, GoingOnDropsLaterStepsAndAnUnfinishedLine) {
  const testing::TempDir dir;
  const auto path = dir / "metrics.jsonl";
  {
    MetricsFile file(path, 0);
    for (int step = 1; step <= 5; ++step) file.write({{"kind", "train"}, {"step", step}});
  }
  OutputFile(path, OutputFile::Mode::append).write(std::string_view("{\"kind\":\"train\",\"st"));
  {
    MetricsFile file(path, 3);
    file.write({{"kind", "event"}, {"step", 3}});
  }
  EXPECT_EQ(read_text_file(path),
            "{\"kind\":\"train\",\"step\":1}\n{\"kind\":\"train\",\"step\":2}\n{\"kind\":\"train\",\"step\":3}\n{\"kind\":\"event\",\"step\":3}\n");
}

TEST(MetricsFile, ANewRunBeginsEmptyAndLinesArriveAtOnce) {
  const testing::TempDir dir;
  const auto path = dir / "metrics.jsonl";
  write_file_atomic(path, "{\"step\":1}\n");
  MetricsFile file(path, 0);
  EXPECT_EQ(read_text_file(path), "");
  file.write({{"step", 1}, {"loss", std::nan("")}});
  EXPECT_EQ(read_text_file(path), "{\"step\":1,\"loss\":null}\n");
}

}  // namespace
}  // namespace switchyard
