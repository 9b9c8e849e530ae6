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

TEST(Proc, MemoryOfAControlGroupIsItsLimitLessItsUse) {
  const testing::TempDir dir;
  const auto write = [&](const char* file, const char* text) { write_file_atomic(dir / file, text); };
  EXPECT_FALSE(group_memory(dir.path()));
  write("memory.max", "max\n");
  write("memory.current", "700\n");
  write("memory.stat", "anon 500\ninactive_file_of_others 7\ninactive_file 150\n");
  EXPECT_FALSE(group_memory(dir.path())) << "no limit";
  write("memory.max", "1000\n");
  EXPECT_EQ(group_memory(dir.path())->limit, 1000);
  EXPECT_EQ(group_memory(dir.path())->available, 450);
  write("memory.current", "1200\n");
  EXPECT_EQ(group_memory(dir.path())->available, 0) << "over its limit";
}

TEST(Proc, ControlGroupsOfVersionOneHaveOtherNames) {
  const testing::TempDir dir;
  const auto write = [&](const char* file, const char* text) { write_file_atomic(dir / file, text); };
  write("memory.limit_in_bytes", "9223372036854771712\n");
  write("memory.usage_in_bytes", "700\n");
  EXPECT_FALSE(group_memory(dir.path())) << "no limit";
  write("memory.limit_in_bytes", "1000\n");
  EXPECT_EQ(group_memory(dir.path())->available, 300) << "without memory.stat";
  write("memory.stat", "inactive_file 1\ntotal_inactive_file 20\n");
  EXPECT_EQ(group_memory(dir.path())->available, 320);
}

TEST(Proc, MemoryThatIsThereIsTold) {
  if (proc_value("/proc/meminfo", "MemTotal").empty()) GTEST_SKIP() << "no /proc here";
  EXPECT_GT(available_memory(), 0);
  EXPECT_LE(available_memory(), proc_bytes("/proc/meminfo", "MemTotal"));
}

}  // namespace
}  // namespace switchyard
