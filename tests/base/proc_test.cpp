#include "base/proc.h"

#include "base/files.h"
#include "test_files.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

TEST(Proc, ValuesAreFoundByTheirKeys) {
  const testing::TempDir dir;
  const std::string file = (dir / "status").string();
  write_file_atomic(file, "Name:\ttwo words\nVmHWM:\t   123 kB\nno colon\nEmpty:\nVmHWMore: 9 kB\n");
  EXPECT_EQ(proc_value(file.c_str(), "Name"), "two words");
  EXPECT_EQ(proc_bytes(file.c_str(), "VmHWM"), 123 * 1024);
  EXPECT_EQ(proc_bytes(file.c_str(), "Name"), 0);
  for (const char* key : {"Empty", "no colon", "Absent"}) EXPECT_EQ(proc_value(file.c_str(), key), "") << key;
  EXPECT_EQ(proc_value((dir / "absent").c_str(), "Name"), "");
}

TEST(Proc, MemoryThatIsThereIsTold) {
  if (proc_value("/proc/meminfo", "MemTotal").empty()) GTEST_SKIP() << "no /proc here";
  EXPECT_GT(available_memory(), 0);
  EXPECT_LE(available_memory(), proc_bytes("/proc/meminfo", "MemTotal"));
}

}  // namespace
}  // namespace switchyard
