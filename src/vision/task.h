// A task on made-up data: trains a published model and measures what its paper promises. `switchyard task RECIPE` runs one.
#pragma once

#include "switchyard/plug_in.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace switchyard {

struct Measure {
  std::string name;
  double value = 0;
};

struct TaskRun {
  uint64_t seed = 1;
  int64_t steps = 0;  // of training; 0 = as the options say
  std::function<void(const std::string&)> note = {};  // progress, one line at a time

  void say(const std::string& line) const {
    if (note) note(line);
  }
};

class Task {
 public:
  virtual ~Task() = default;
  // Deterministic given the run. Throws Error{numeric} when training leaves the numbers.
  [[nodiscard]] virtual std::vector<Measure> run(const TaskRun& run) = 0;
};

using TaskEntry = PlugIn<Task>;
Registry<TaskEntry>& task_registry();

// The value of one measure. Throws Error{internal} when there is none of that name.
[[nodiscard]] double value_of(const std::vector<Measure>& measures, const std::string& name);

}  // namespace switchyard
