// What a person sees of a training: a line that is written over on a terminal, plain lines otherwise. On stderr.
#pragma once

#include "steps/metrics.h"

#include <chrono>
#include <string>

namespace switchyard::cli {

// "120/1000  loss 2.314  31.2k tokens/s  ETA 2:10  load 1.8x floor  dropped 0.0%": short enough for 80 columns. The load is
// the mean over the MoE layers of load CV over its multinomial floor (1 = as even as chance allows); dense models have
// neither load nor drops.
[[nodiscard]] std::string progress_text(const StepMetrics& metrics, double seconds_left);

class TrainProgress final : public TrainObserver {
 public:
  // Plain lines come every `log_every` steps.
  TrainProgress(bool quiet, int64_t log_every);
  ~TrainProgress() override;

  void on_prepare(const std::string& what, int64_t done, int64_t total) override;
  void on_step(const StepMetrics& metrics) override;
  void on_eval(const EvalMetrics& metrics) override;
  void on_event(const EventMetrics& metrics) override;

 private:
  using Clock = std::chrono::steady_clock;

  void draw(double share, const std::string& text);  // over the line before
  void line(const std::string& text);                // a line that stays
  void erase();

  bool quiet_, redraw_, colour_, drawn_ = false;
  int64_t log_every_;
  int64_t first_step_ = 0;  // the first one that was seen, which warms up; 0 = none yet
  Clock::time_point first_done_{};
  std::string preparing_;
  Clock::time_point last_draw_{};
};

}  // namespace switchyard::cli
