#include "steps/resume.h"

#include "base/config_tree.h"
#include "switchyard/error.h"

#include <algorithm>

namespace switchyard {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kFree[] = {"name",          "data.path",        "train.steps",           "train.log_every", "train.eval_every",
                                      "train.eval_tokens", "train.checkpoint_every", "train.threads", "sample"};

bool is_free(std::string_view key) { return std::find(std::begin(kFree), std::end(kFree), key) != std::end(kFree); }

void compare(const Json& saved, const Json& wanted, const std::string& path) {
  if (is_free(path) || saved == wanted) return;
  if (saved.is_object() && wanted.is_object()) {
    Json keys = saved;
    keys.update(wanted);
    for (const auto& item : keys.items())
      compare(saved.value(item.key(), Json()), wanted.value(item.key(), Json()), path.empty() ? item.key() : path + "." + item.key());
    return;
  }
  fail(ErrorKind::config, "the run was begun with {} = {}, the recipe says {}; resume with the old value or begin a new run", path, saved.dump(),
       wanted.dump());
}

}  // namespace

void check_resumable(const Recipe& saved, const Recipe& wanted) { compare(to_json(write_any(saved)), to_json(write_any(wanted)), ""); }

}  // namespace switchyard
