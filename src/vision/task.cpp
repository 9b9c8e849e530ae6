#include "vision/task.h"

#include "switchyard/error.h"

namespace switchyard {

std::vector<TaskEntry> builtin_task_entries();  // generated from src/vision/tasks

Registry<TaskEntry>& task_registry() {
  static Registry<TaskEntry> registry("task", builtin_task_entries());
  return registry;
}

double value_of(const std::vector<Measure>& measures, const std::string& name) {
  for (const Measure& m : measures)
    if (m.name == name) return m.value;
  fail(ErrorKind::internal, "no measure '{}'", name);
}

}  // namespace switchyard
