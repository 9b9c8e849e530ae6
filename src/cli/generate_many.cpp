#include "cli/generate_many.h"

#include "base/files.h"
#include "cli/exit_code.h"
#include "cli/output.h"
#include "cli/terminal.h"
#include "io/tokenizer/tokenizer.h"
#include "steps/interrupt.h"
#include "switchyard/error.h"

#include <map>
#include <sstream>

namespace switchyard::cli {
namespace {

std::vector<std::string> read_prompts(const std::string& file) {
  std::vector<std::string> prompts;
  std::istringstream lines(read_text_file(file));
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) prompts.push_back(line);
  }
  if (prompts.empty()) fail(ErrorKind::usage, "{}: no prompts; expected one per line", file);
  return prompts;
}

}  // namespace

void generate_many(const Checkpoint& checkpoint, const std::string& prompts_file, const GenerateOptions& options, EngineOptions engine_options) {
  if (!checkpoint.tokenizer) fail(ErrorKind::checkpoint, "no tokenizer.json, so the prompts of {} mean nothing", prompts_file);
  if (options.contrast.beta != 0) fail(ErrorKind::unsupported, "self-contrast works with one text at a time");
  const auto prompts = read_prompts(prompts_file);
  engine_options.kv_cache = options.kv_cache;
  engine_options.compute = options.compute;
  Engine engine(*checkpoint.model, checkpoint.tokenizer.get(), engine_options);
  for (const std::string& prompt : prompts) (void)engine.submit({prompt_ids(*checkpoint.tokenizer, prompt), options});

  const InterruptScope interrupts;
  std::map<int64_t, Generated> ready;  // that wait for those before them
  int64_t next = 0, new_tokens = 0;
  const auto done = [&](int64_t request, const Generated& result) {
    ready.emplace(request, result);
    for (; ready.count(next); ready.erase(next++)) {
      const Generated& r = ready.at(next);
      new_tokens += static_cast<int64_t>(r.ids.size());
      write_result(nlohmann::ordered_json{{"prompt", prompts[static_cast<size_t>(next)]}, {"text", r.text}, {"ids", r.ids}, {"finish_reason", r.finish_reason}}.dump(
                       -1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
      flush_result();
    }
    if (stderr_is_terminal()) note("{} of {} texts", next, prompts.size());
  };
  while (!interrupt_requested() && engine.step(done)) {
  }
  const EngineCounts& c = engine.counts();
  note("{} texts, {} new tokens in {}: {:.1f} tokens/s, at most {} texts in a call", next, new_tokens, format_seconds(c.seconds),
       c.seconds > 0 ? static_cast<double>(new_tokens) / c.seconds : 0.0, c.most_at_once);
  if (interrupt_requested()) throw Exit{kInterrupted};
}

}  // namespace switchyard::cli
