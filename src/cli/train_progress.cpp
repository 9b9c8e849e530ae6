#include "cli/train_progress.h"

#include "cli/output.h"
#include "cli/terminal.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace switchyard::cli {
namespace {

constexpr size_t kTextColumns = 84;  // a long progress_text; windows that are wider have room for a bar
constexpr auto kRedrawEvery = std::chrono::milliseconds(100);

std::string bar(double share, size_t width) {
  const double filled = std::clamp(share, 0.0, 1.0) * static_cast<double>(width);
  std::string out;
  for (size_t i = 0; i < width; ++i) out += static_cast<double>(i) + 0.5 <= filled ? "█" : "░";
  return out;
}

// The first `columns` characters of a line in UTF-8.
std::string clipped(const std::string& text, size_t columns) {
  size_t seen = 0;
  for (size_t i = 0; i < text.size(); ++i)
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80 && seen++ == columns) return text.substr(0, i);
  return text;
}

// "2:10", "1:02:10"; "?" for a number that is not finite.
std::string clock_text(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  const auto whole = static_cast<long long>(seconds + 0.5);
  return whole < 3600 ? fmt::format("{}:{:02}", whole / 60, whole % 60) : fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

}  // namespace

std::string progress_text(const StepMetrics& m, double seconds_left) {
  const double rate = m.tokens_per_s;
  std::string text = fmt::format("{}/{}  loss {:.3f}  {} tokens/s", m.step, m.steps, m.loss,
                                 rate < 10000 ? fmt::format("{:.0f}", rate) : fmt::format("{:.1f}k", rate / 1000));
  if (m.step < m.steps) text += "  ETA " + clock_text(seconds_left);
  if (m.layers.empty()) return text;
  double ratio = 0, dropped = 0;
  int64_t counted = 0;
  for (const LayerMetrics& layer : m.layers) {
    dropped += layer.dropped / static_cast<double>(m.layers.size());
    if (!(layer.load_cv_floor > 0) || !std::isfinite(layer.load_cv)) continue;
    ratio += layer.load_cv / layer.load_cv_floor;
    ++counted;
  }
  if (counted > 0) text += fmt::format("  load {:.1f}x floor", ratio / static_cast<double>(counted));
  return text + fmt::format("  dropped {:.1f}%", 100 * dropped);
}

TrainProgress::TrainProgress(bool quiet, int64_t log_every)
    : quiet_(quiet), redraw_(!quiet && stderr_can_redraw()), colour_(stderr_has_colour()), log_every_(std::max<int64_t>(1, log_every)) {}

TrainProgress::~TrainProgress() { erase(); }

void TrainProgress::erase() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
  drawn_ = false;
}

void TrainProgress::line(const std::string& text) {
  if (quiet_) return;
  erase();
  write_note(text);
}

void TrainProgress::draw(double share, const std::string& text) {
  const auto now = Clock::now();
  if (!redraw_ || (drawn_ && share < 1 && now - last_draw_ < kRedrawEvery)) return;
  last_draw_ = now;
  const auto width = static_cast<size_t>(std::max(20, stderr_width() - 1));
  const size_t room = width > kTextColumns ? width - kTextColumns : 0;  // for "████░░░░  42% "
  std::string front;
  if (room >= 12) front = fmt::format("{}{}{} {:3.0f}% ", colour_ ? "\x1b[36m" : "", bar(share, std::min<size_t>(24, room - 6)), colour_ ? "\x1b[0m" : "", 100 * share);
  const std::string out = "\r" + front + clipped(text, width) + "\x1b[K";
  std::fputs(out.c_str(), stderr);
  std::fflush(stderr);
  drawn_ = true;
}

void TrainProgress::on_prepare(const std::string& what, int64_t done, int64_t total) {
  const std::string text = what == "tokenizer" ? "learning the vocabulary" : what == "tokens" ? "turning the text into tokens" : what;
  if (what != preparing_ && !redraw_) line(text);
  preparing_ = what;
  if (redraw_ && total > 0) draw(static_cast<double>(done) / static_cast<double>(total), text);
}

void TrainProgress::on_step(const StepMetrics& metrics) {
  const auto now = Clock::now();
  if (first_step_ == 0) {
    first_step_ = metrics.step;
    first_done_ = now;
  }
  // By the clock on the wall, so that evaluations and checkpoints count.
  const double steps_seen = static_cast<double>(metrics.step - first_step_);
  const double took = std::chrono::duration<double>(now - first_done_).count();
  const double left = steps_seen > 0 ? took / steps_seen * static_cast<double>(metrics.steps - metrics.step) : NAN;
  if (redraw_)
    draw(static_cast<double>(metrics.step) / static_cast<double>(std::max<int64_t>(1, metrics.steps)), progress_text(metrics, left));
  else if (metrics.step == 1 || metrics.step % log_every_ == 0 || metrics.step == metrics.steps)
    line("step " + progress_text(metrics, left));
}

void TrainProgress::on_eval(const EvalMetrics& metrics) {
  const EvalResult& e = metrics.result;
  line(fmt::format("step {}: validation loss {:.4f} ± {:.4f}, perplexity {:.2f}, {:.3f} bits per byte", metrics.step, e.loss, e.loss_se, e.perplexity,
                   e.bits_per_byte));
}

void TrainProgress::on_event(const EventMetrics& metrics) {
  if (metrics.what == "resume") line(fmt::format("step {}: going on from the last checkpoint", metrics.step));
}

}  // namespace switchyard::cli
