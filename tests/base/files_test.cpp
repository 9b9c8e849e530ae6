#include "base/files.h"

#include "expect_error.h"
#include "test_files.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <fstream>

namespace switchyard {
namespace {

using testing::count_entries;
using testing::expect_error;
using testing::TempDir;

std::string as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(MappedFile, ShowsTheBytesAndSurvivesAMove) {
  const TempDir dir;
  write_file_atomic(dir / "a", std::string_view("a\0b", 3));
  MappedFile first = MappedFile::open(dir / "a");
  const MappedFile second = std::move(first);
  EXPECT_EQ(as_text(second.bytes()), std::string("a\0b", 3));
  EXPECT_TRUE(first.bytes().empty());  // NOLINT: moved from on purpose
}

TEST(MappedFile, OfAnEmptyFileIsEmpty) {
  const TempDir dir;
  write_file_atomic(dir / "a", "");
  EXPECT_TRUE(MappedFile::open(dir / "a").bytes().empty());
}

TEST(MappedFile, NamesWhatCannotBeOpened) {
  const TempDir dir;
  expect_error(ErrorKind::io, {"missing.bin", "No such file"}, [&] { (void)MappedFile::open(dir / "missing.bin"); });
  expect_error(ErrorKind::io, {dir.path().string(), "directory"}, [&] { (void)MappedFile::open(dir.path()); });
  expect_error(ErrorKind::io, {"/dev/null", "not a regular file"}, [&] { (void)MappedFile::open("/dev/null"); });
}

TEST(ReadTextFile, ReadsFilesAndPseudoFiles) {
  const TempDir dir;
  write_file_atomic(dir / "a", std::string(200000, 'x'));
  EXPECT_EQ(read_text_file(dir / "a"), std::string(200000, 'x'));
  EXPECT_FALSE(read_text_file("/proc/self/status").empty());
  expect_error(ErrorKind::io, {"missing", "No such file"}, [&] { (void)read_text_file(dir / "missing"); });
  expect_error(ErrorKind::io, {dir.path().string(), "directory"}, [&] { (void)read_text_file(dir.path()); });
}

TEST(OutputFile, AFullDiskIsSeenByEveryWayOut) {
  using Mode = OutputFile::Mode;
  const std::string large(3 << 20, 'x');
  expect_error(ErrorKind::io, {"/dev/full", "No space left"}, [&] { OutputFile("/dev/full", Mode::append).write(large); });
  for (void (OutputFile::*out)() : {&OutputFile::flush, &OutputFile::sync, &OutputFile::close}) {
    OutputFile file("/dev/full", Mode::append);
    file.write("x");
    expect_error(ErrorKind::io, {"/dev/full", "No space left"}, [&] { (file.*out)(); });
  }
}

TEST(OutputFile, BuffersInOrderAndAppends) {
  const TempDir dir;
  std::string want;
  {
    OutputFile file(dir / "a", OutputFile::Mode::create);
    for (const size_t size : {1, 1000000, 100000, 3, 1 << 20, 2000000, 0, 7}) {
      const std::string part(size, static_cast<char>('a' + want.size() % 26));
      file.write(part);
      want += part;
    }
    file.close();
    file.close();
  }
  EXPECT_EQ(read_text_file(dir / "a"), want);
  OutputFile(dir / "a", OutputFile::Mode::append).write("end");
  EXPECT_EQ(read_text_file(dir / "a"), want + "end");
  expect_error(ErrorKind::io, {"File exists"}, [&] { OutputFile(dir / "a", OutputFile::Mode::fresh); });
}

TEST(AtomicFile, KeepsTheOldContentUntilCommit) {
  const TempDir dir;
  write_file_atomic(dir / "a", "old");
  {
    AtomicFile file(dir / "a");
    file.write("lost");
  }
  EXPECT_EQ(read_text_file(dir / "a"), "old");
  AtomicFile file(dir / "a");
  file.write("new");
  EXPECT_EQ(read_text_file(dir / "a"), "old");
  file.commit();
  EXPECT_EQ(read_text_file(dir / "a"), "new");
  EXPECT_EQ(count_entries(dir.path()), 1U);
}

TEST(AtomicFile, WritesThroughALink) {
  const TempDir dir;
  write_file_atomic(dir / "a", "old");
  std::filesystem::create_symlink(dir / "a", dir / "link");
  write_file_atomic(dir / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(dir / "link"));
  EXPECT_EQ(read_text_file(dir / "a"), "new");
}

TEST(AtomicFile, NamesAFolderThatIsMissingOrInTheWay) {
  const TempDir dir;
  expect_error(ErrorKind::io, {"missing/a", "No such file"}, [&] { AtomicFile(dir / "missing/a"); });
  expect_error(ErrorKind::io, {dir.path().string(), "directory"}, [&] { AtomicFile(dir.path()); });
  expect_error(ErrorKind::io, {"empty path"}, [&] { AtomicFile(""); });
}

// The system refuses to let the file grow, as it does on a full disk: the old file stays and nothing else is left.
TEST(AtomicFile, AFailedWriteKeepsTheOldFile) {
  const TempDir dir;
  write_file_atomic(dir / "a", "old");
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100000, 100000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_file_atomic(dir / "a", std::string(200000, 'x'));
    } catch (const Error& error) {
      const bool good = error.kind() == ErrorKind::io && std::string(error.what()).find("too large") != std::string::npos;
      ::_exit(good ? 0 : 1);
    }
    ::_exit(2);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(read_text_file(dir / "a"), "old");
  EXPECT_EQ(count_entries(dir.path()), 1U);
}

TEST(Files, PermissionIsNamed) {
  const TempDir dir;
  write_file_atomic(dir / "a", "x");
  std::filesystem::permissions(dir / "a", std::filesystem::perms::none);
  using std::filesystem::perms;
  std::filesystem::permissions(dir.path(), perms::owner_read | perms::owner_exec | perms::others_read | perms::others_exec);
  const uid_t user = ::geteuid();
  constexpr uid_t kNobody = 65534;
  if (user == 0) {
    ASSERT_EQ(::seteuid(kNobody), 0);  // root may do everything
  }
  expect_error(ErrorKind::io, {"Permission denied"}, [&] { (void)MappedFile::open(dir / "a"); });
  expect_error(ErrorKind::io, {"Permission denied"}, [&] { write_file_atomic(dir / "b", "x"); });
  if (user == 0) {
    ASSERT_EQ(::seteuid(user), 0);
  }
  std::filesystem::permissions(dir.path(), perms::owner_all);
}

}  // namespace
}  // namespace switchyard
