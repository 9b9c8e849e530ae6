// Runs in a process of their own that are killed or interrupted. The child is this program again, asked for one hidden test
// (a process with threads must not fork and go on).
#include "steps/interrupt.h"
#include "tiny_run.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

namespace switchyard {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFolder = "SWITCHYARD_TEST_RUN";
constexpr const char* kSlow = "SWITCHYARD_TEST_SLOW";  // set: a step that never ends after the third

Recipe endless_recipe(const fs::path& dir) {
  Recipe recipe = testing::tiny_recipe(dir / "text.txt");
  recipe.train.steps = 1000000;
  recipe.train.checkpoint_every = 1;
  recipe.train.eval_every = 0;
  recipe.train.threads = 1;  // two that wait for each other crawl beside other tests
  return recipe;
}

// The child: trains until a signal says stop. Exit code 0 = saved and returned.
TEST(KilledRunChild, DISABLED_Trains) {
  const fs::path dir = std::getenv(kFolder);
  struct : TrainObserver {
    void on_step(const StepMetrics& m) override {
      if (std::getenv(kSlow) && m.step >= 3) ::pause(), ::pause();
    }
  } observer;
  const InterruptScope scope;
  const TrainResult result = train(endless_recipe(dir), {.folder = dir / "run", .resume = true, .stop = interrupt_requested}, observer);
  std::_Exit(result.status == TrainStatus::interrupted ? 0 : 1);
}

pid_t start_child(const fs::path& dir, bool slow = false) {
  const std::string program = fs::read_symlink("/proc/self/exe");
  const std::string folder = std::string(kFolder) + "=" + dir.string(), home = "PATH=/usr/bin:/bin", slow_text = std::string(kSlow) + "=1";
  const char* arguments[] = {program.c_str(), "--gtest_filter=KilledRunChild.DISABLED_Trains", "--gtest_also_run_disabled_tests",
                             "--gtest_brief=1", nullptr};
  const char* environment[] = {folder.c_str(), home.c_str(), slow ? slow_text.c_str() : nullptr, nullptr};
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::execve(program.c_str(), const_cast<char**>(arguments), const_cast<char**>(environment));
    ::_exit(127);
  }
  return pid;
}

int64_t lines_in(const fs::path& file) {
  if (!fs::exists(file)) return 0;
  const std::string text = read_text_file(file);
  return std::count(text.begin(), text.end(), '\n');
}

// Waits until the child has logged `lines`; false when it does not within two minutes.
bool wait_for_lines(const fs::path& file, int64_t lines) {
  for (int i = 0; i < 12000; ++i) {
    if (lines_in(file) >= lines) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

int wait_for_exit(pid_t pid) {
  int status = 0;
  ::waitpid(pid, &status, 0);
  return status;
}

class KilledRun : public ::testing::Test {
 protected:
  void SetUp() override { testing::write_text(dir_ / "text.txt", testing::tiny_text(200)); }
  testing::TempDir dir_;
};

TEST_F(KilledRun, AKillAtAnyMomentLeavesACheckpointThatGoesOn) {
  const fs::path metrics = dir_ / "run/metrics.jsonl";
  int64_t step_before = 0;
  for (int round = 0; round < 4; ++round) {
    const pid_t pid = start_child(dir_.path());
    ASSERT_TRUE(wait_for_lines(metrics, step_before + 3 + round));
    std::this_thread::sleep_for(std::chrono::milliseconds(7 * round));  // another moment of the step each time
    ::kill(pid, SIGKILL);
    EXPECT_TRUE(WIFSIGNALED(wait_for_exit(pid)));
    const Recipe kept = recipe_of_run(dir_ / "run");
    const Checkpoint last = load_checkpoint(dir_ / "run/checkpoints/last", true);
    const auto step = last.training_state.at("step").get<int64_t>();
    EXPECT_GE(step, step_before);
    step_before = lines_in(metrics);
  }
  Recipe recipe = endless_recipe(dir_.path());
  recipe.train.steps = load_checkpoint(dir_ / "run/checkpoints/last", true).training_state.at("step").get<int64_t>() + 1;
  testing::Recorder recorder;
  EXPECT_EQ(train(recipe, {.folder = dir_ / "run", .resume = true}, recorder).status, TrainStatus::finished);
  EXPECT_EQ(recorder.steps.size(), 1u);
}

TEST_F(KilledRun, TheFirstSignalSavesAndReturns) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const pid_t pid = start_child(dir_.path());
    ASSERT_TRUE(wait_for_lines(dir_ / "run/metrics.jsonl", 3));
    ::kill(pid, signal);
    const int status = wait_for_exit(pid);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
    const auto events = testing::timeless_lines(dir_ / "run/metrics.jsonl", "event");
    ASSERT_FALSE(events.empty());
    EXPECT_EQ(events.back().at("what"), "interrupted");
    const auto trained = testing::timeless_lines(dir_ / "run/metrics.jsonl", "train");
    EXPECT_EQ(load_checkpoint(dir_ / "run/checkpoints/last", true).training_state.at("step"), trained.back().at("step"));
    fs::remove_all(dir_ / "run");
  }
}

TEST_F(KilledRun, TheSecondSignalExitsAtOnce) {
  const pid_t pid = start_child(dir_.path(), /*slow=*/true);
  ASSERT_TRUE(wait_for_lines(dir_ / "run/metrics.jsonl", 3));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));  // the child pauses in its third step
  ::kill(pid, SIGINT);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  ::kill(pid, SIGINT);
  const int status = wait_for_exit(pid);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 130);
}

}  // namespace
}  // namespace switchyard
