#include "report/metrics_file.h"

#include <fmt/format.h>

#include <cmath>

#include "report/json_fields.h"
#include "switchyard/error.h"

namespace switchyard::report {
namespace {

int64_t required_step(const JsonAt& line) {
  const int64_t step = count_field(line, "step");
  if (step < 0) fail(ErrorKind::checkpoint, "{}: no \"step\" in this record, expected a whole number", line.where);
  return step;
}

std::vector<AuxLoss> aux_losses(const JsonAt& at) {
  expect_object(at);
  std::vector<AuxLoss> out;
  for (const auto& item : at.value.items()) {
    const JsonAt loss = child(at, item.key().c_str());
    out.push_back({item.key(), number_field(loss, "raw"), number_field(loss, "weighted")});
  }
  return out;
}

TrainRecord train_record(const JsonAt& at) {
  TrainRecord r;
  r.step = required_step(at);
  r.loss = number_field(at, "loss");
  r.lr = number_field(at, "lr");
  r.grad_norm = number_field(at, "grad_norm");
  r.tokens = number_field(at, "tokens");
  r.tokens_per_s = number_field(at, "tokens_per_s");
  r.seconds = number_field(at, "seconds");
  r.load_cv = numbers_field(at, "load_cv");
  r.load_cv_floor = numbers_field(at, "load_cv_floor");
  r.dropped = numbers_field(at, "dropped");
  r.entropy = numbers_field(at, "entropy");
  r.load = number_rows(child(at, "load"));
  r.aux = aux_losses(child(at, "aux"));
  return r;
}

EvalRecord eval_record(const JsonAt& at) {
  EvalRecord r;
  r.step = required_step(at);
  r.loss = number_field(at, "loss");
  r.loss_se = number_field(at, "loss_se");
  r.perplexity = number_field(at, "perplexity");
  r.bits_per_byte = number_field(at, "bits_per_byte");
  r.seconds = number_field(at, "seconds");
  return r;
}

template <class Record>
int64_t drop_after(std::vector<Record>& records, int64_t step) {
  int64_t dropped = 0;
  for (; !records.empty() && records.back().step > step; ++dropped) records.pop_back();
  return dropped;
}

// Reads line after line and keeps the clock of the run. Seconds count from the start of the run; a process that resumes
// may count from zero again, which shows in its first train record.
class Reader {
 public:
  explicit Reader(RunFiles& run) : run_(run) {}

  void read(const JsonAt& at) {
    const std::string kind = text_field(at, "kind");
    if (kind == "train") {
      TrainRecord record = train_record(at);
      go_back_to(record.step - 1);
      set_clock(record.seconds);
      run_.train.push_back(std::move(record));
    } else if (kind == "eval") {
      EvalRecord record = eval_record(at);
      drop_after(run_.evals, record.step - 1);
      record.seconds += offset_;
      run_.evals.push_back(record);
    } else if (kind == "event") {
      EventRecord event{required_step(at), text_field(at, "what"), number_field(at, "seconds")};
      event.seconds += offset_;
      if (event.what == "resume") {
        go_back_to(event.step);
        resumed_ = true;
      }
      run_.events.push_back(std::move(event));
    } else if (kind.empty()) {
      fail(ErrorKind::checkpoint, "{}: no \"kind\" in this record, expected train, eval or event", at.where);
    }
  }

  void finish() {
    if (repeated_ > 0)
      run_.notes.push_back(fmt::format("{} train record{} replaced by steps that were run again after a resume.", repeated_,
                                       repeated_ == 1 ? " was" : "s were"));
  }

 private:
  // What was run beyond the checkpoint at `step` is run again.
  void go_back_to(int64_t step) {
    const int64_t dropped = drop_after(run_.train, step);
    if (dropped == 0) return;
    drop_after(run_.evals, step);
    repeated_ += dropped;
    resumed_ = true;
  }

  void set_clock(double& seconds) {
    if (resumed_ && std::isfinite(seconds)) {
      const double last = last_seconds();
      if (seconds < last) offset_ = last;
      resumed_ = false;
    }
    seconds += offset_;
  }

  [[nodiscard]] double last_seconds() const {
    for (auto r = run_.train.rbegin(); r != run_.train.rend(); ++r)
      if (std::isfinite(r->seconds)) return r->seconds;
    return 0;
  }

  RunFiles& run_;
  double offset_ = 0;
  bool resumed_ = false;
  int64_t repeated_ = 0;
};

bool blank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

}  // namespace

void parse_metrics(const std::string& text, const std::string& file, RunFiles& run) {
  Reader reader(run);
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    ++number;
    const size_t newline = text.find('\n', begin);
    const bool finished = newline != std::string::npos;
    const std::string_view line = std::string_view(text).substr(begin, finished ? newline - begin : std::string::npos);
    begin = finished ? newline + 1 : text.size();
    if (blank(line)) continue;
    if (!finished && !Json::accept(line)) {
      run.notes.push_back(fmt::format("Line {} of metrics.jsonl is unfinished and was left out.", number));
      break;
    }
    const Json value = parse_json(line, file, number);
    const JsonAt at{value, fmt::format("{}:{}", file, number)};
    if (!value.is_object()) fail(ErrorKind::checkpoint, "{}: found {}, expected an object", at.where, value.type_name());
    reader.read(at);
  }
  reader.finish();
}

}  // namespace switchyard::report
