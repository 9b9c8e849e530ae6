#include "base/atomic_dir.h"

#include "base/files.h"
#include "expect_error.h"
#include "test_files.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <random>
#include <thread>

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::TempDir;

size_t count_entries(const fs::path& dir) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(dir), {}));
}

void write_version(const fs::path& dir, int64_t version) {
  write_file_atomic(dir / "first", std::to_string(version));
  fs::create_directories(dir / "sub");
  write_file_atomic(dir / "sub" / "second", std::string(static_cast<size_t>(version % 5) * 1000, 'x'));
  write_file_atomic(dir / "last", std::to_string(version));
}

// The version that `dir` holds; a test failure when it is not one whole version.
int64_t read_version(const fs::path& dir) {
  const int64_t version = std::stoll(read_text_file(dir / "first"));
  EXPECT_EQ(read_text_file(dir / "sub" / "second").size(), static_cast<size_t>(version % 5) * 1000);
  EXPECT_EQ(read_text_file(dir / "last"), std::to_string(version));
  return version;
}

TEST(AtomicDir, ReplacesTheWholeFolderAtCommit) {
  const TempDir temp;
  const fs::path target = temp / "deep/checkpoint";
  for (const DirSwap how : {DirSwap::exchange, DirSwap::two_renames}) {
    for (const int64_t version : {1, 2}) {
      AtomicDir dir(target);
      write_version(dir.path(), version);
      write_file_atomic(dir.path() / std::to_string(version), "");
      dir.commit(how);
      EXPECT_EQ(read_version(target), version);
    }
    EXPECT_FALSE(fs::exists(target / "1"));
    EXPECT_EQ(count_entries(temp / "deep"), 1U);
  }
}

TEST(AtomicDir, WithoutCommitChangesNothing) {
  const TempDir temp;
  {
    AtomicDir dir(temp / "a");
    write_version(dir.path(), 1);
    dir.commit();
  }
  {
    const AtomicDir dir(temp / "a/");
    write_version(dir.path(), 2);
  }
  EXPECT_EQ(read_version(temp / "a"), 1);
  EXPECT_EQ(count_entries(temp.path()), 1U);
}

TEST(AtomicDir, RefusesAFolderThatIsNotOurs) {
  const TempDir temp;
  fs::create_directories(temp / "home");
  AtomicDir(temp / "home", "config.json");  // empty: may be replaced
  write_file_atomic(temp / "home/thesis.txt", "years of work");
  expect_error(ErrorKind::usage, {"home", "config.json"}, [&] { AtomicDir(temp / "home", "config.json"); });
  expect_error(ErrorKind::usage, {"thesis.txt", "not a folder"}, [&] { AtomicDir(temp / "home/thesis.txt"); });
  write_file_atomic(temp / "home/config.json", "{}");
  AtomicDir(temp / "home", "config.json").commit();
  EXPECT_EQ(count_entries(temp / "home"), 0U);
}

TEST(AtomicDir, NamesAParentThatCannotBeMade) {
  const TempDir temp;
  write_file_atomic(temp / "file", "");
  expect_error(ErrorKind::io, {"file/x"}, [&] { AtomicDir(temp / "file/x/y"); });
}

TEST(RecoverDir, OfAWholeOrMissingFolderDoesNothing) {
  const TempDir temp;
  recover_dir(temp / "a");
  recover_dir(temp / "missing/a");
  EXPECT_EQ(count_entries(temp.path()), 0U);
}

// The moment between the two renames, made by hand; no process has the number 2^30.
TEST(RecoverDir, BringsTheOldVersionBackAndRemovesLeftovers) {
  const TempDir temp;
  fs::create_directories(temp / "a.old-1073741824");
  write_version(temp / "a.old-1073741824", 7);
  fs::create_directories(temp / "a.tmp-1073741824");
  write_version(temp / "a.tmp-1073741824", 8);
  fs::create_directories(temp / "a.tmp-1");             // of a living process
  fs::create_directories(temp / "a.tmp-not-a-number");  // not ours
  recover_dir(temp / "a");
  EXPECT_EQ(read_version(temp / "a"), 7);
  EXPECT_FALSE(fs::exists(temp / "a.old-1073741824"));
  EXPECT_FALSE(fs::exists(temp / "a.tmp-1073741824"));
  EXPECT_TRUE(fs::exists(temp / "a.tmp-1"));
  EXPECT_TRUE(fs::exists(temp / "a.tmp-not-a-number"));
}

// A writer is killed at random moments; afterwards the folder holds one complete version, at least as new as the last
// one whose commit had returned.
class KilledWriter : public ::testing::TestWithParam<DirSwap> {};

TEST_P(KilledWriter, LeavesACompleteVersion) {
  const TempDir temp;
  const fs::path target = temp / "checkpoint";
  {
    AtomicDir dir(target);
    write_version(dir.path(), 0);
    dir.commit(GetParam());
  }
  constexpr int kSeed = 20240607, kKills = 40;
  std::mt19937 random(kSeed);
  int64_t version = 0, seen_committed = 0;
  for (int kill_number = 0; kill_number < kKills; ++kill_number) {
    int pipe_ends[2];
    ASSERT_EQ(::pipe(pipe_ends), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (int64_t next = version + 1;; ++next) {
        AtomicDir dir(target);
        write_version(dir.path(), next);
        dir.commit(GetParam());
        if (::write(pipe_ends[1], &next, sizeof next) != sizeof next) ::_exit(1);
      }
    }
    ::close(pipe_ends[1]);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 30000));
    ::kill(child, SIGKILL);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    int64_t committed = version;
    while (::read(pipe_ends[0], &committed, sizeof committed) == sizeof committed) ++seen_committed;
    ::close(pipe_ends[0]);

    if (GetParam() == DirSwap::exchange) {
      EXPECT_GE(read_version(target), committed) << "before any repair";
    }
    recover_dir(target);
    version = read_version(target);
    EXPECT_GE(version, committed) << "seed " << kSeed << ", kill " << kill_number;
    EXPECT_LE(version, committed + 1);
    EXPECT_EQ(count_entries(temp.path()), 1U) << "leftovers";
  }
  EXPECT_GT(seen_committed, 0) << "the writer never got anywhere: the test shows nothing";
}

INSTANTIATE_TEST_SUITE_P(BothSwaps, KilledWriter, ::testing::Values(DirSwap::exchange, DirSwap::two_renames),
                         [](const auto& info) { return info.param == DirSwap::exchange ? "exchange" : "two_renames"; });

}  // namespace
}  // namespace switchyard
