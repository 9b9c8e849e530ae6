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
#include <stdexcept>
#include <thread>

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using testing::count_entries;
using testing::expect_error;
using testing::TempDir;

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

// A process that commits one version after another until it is killed, and reports each.
class Writer {
 public:
  Writer(const fs::path& target, int64_t first, DirSwap how) {
    int ends[2];
    if (::pipe(ends) != 0) throw std::runtime_error("pipe");
    pid_ = ::fork();
    if (pid_ == 0) {
      for (int64_t version = first;; ++version) {
        AtomicDir dir(target);
        write_version(dir.path(), version);
        dir.commit(how);
        if (::write(ends[1], &version, sizeof version) != sizeof version) ::_exit(1);
      }
    }
    ::close(ends[1]);
    reports_ = ends[0];
  }
  ~Writer() {
    kill();
    ::close(reports_);
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  // The next version that was committed, when one comes (or came before the kill); -1 otherwise.
  int64_t next_report() {
    int64_t version = -1;
    return ::read(reports_, &version, sizeof version) == sizeof version ? version : -1;
  }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  pid_t pid_ = -1;
  int reports_ = -1;
};

// A writer is killed at random moments of a commit; afterwards the folder holds one complete version, at least as new as
// the last one whose commit had returned.
class KilledWriter : public ::testing::TestWithParam<DirSwap> {};

TEST_P(KilledWriter, LeavesACompleteVersion) {
  using Clock = std::chrono::steady_clock;
  const TempDir temp;
  const fs::path target = temp / "checkpoint";
  constexpr uint32_t kSeed = 20240607;
  std::mt19937 random(kSeed);
  int64_t version = -1;
  auto duration_of_commit = Clock::duration::zero();
  for (int kill_number = 0; kill_number < 25; ++kill_number) {
    Writer writer(target, version + 1, GetParam());
    int64_t committed = version;
    // The first round measures; the others are killed in a commit that is under way, whatever the speed of the machine.
    for (uint32_t reports = kill_number == 0 ? 2 : random() % 3; reports > 0; --reports) {
      const auto start = Clock::now();
      committed = writer.next_report();
      duration_of_commit = Clock::now() - start;
      ASSERT_GE(committed, 0) << "the writer failed";
    }
    std::this_thread::sleep_for(duration_of_commit * (random() % 1200) / 1000);
    writer.kill();
    for (int64_t report = writer.next_report(); report >= 0; report = writer.next_report()) committed = report;

    if (GetParam() == DirSwap::exchange) {
      EXPECT_GE(read_version(target), committed) << "before any repair";
    }
    recover_dir(target);
    version = read_version(target);
    EXPECT_GE(version, committed) << "seed " << kSeed << ", kill " << kill_number;
    EXPECT_LE(version, committed + 1);
    EXPECT_EQ(count_entries(temp.path()), 1U) << "leftovers";
  }
}

INSTANTIATE_TEST_SUITE_P(BothSwaps, KilledWriter, ::testing::Values(DirSwap::exchange, DirSwap::two_renames),
                         [](const auto& info) { return info.param == DirSwap::exchange ? "exchange" : "two_renames"; });

}  // namespace
}  // namespace switchyard
