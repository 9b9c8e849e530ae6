#include "steps/interrupt.h"

#include <signal.h>
#include <unistd.h>

namespace switchyard {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM};
constexpr int kExitInterrupted = 130;  // 128 + SIGINT, as shells say it

volatile sig_atomic_t requested = 0;
struct sigaction before[2];

void on_signal(int) {
  if (requested) ::_exit(kExitInterrupted);
  requested = 1;
}

}  // namespace

InterruptScope::InterruptScope() {
  requested = 0;
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;  // reads and writes go on: the request is looked at between steps
  for (int i = 0; i < 2; ++i) ::sigaction(kSignals[i], &action, &before[i]);
}

InterruptScope::~InterruptScope() {
  for (int i = 0; i < 2; ++i) ::sigaction(kSignals[i], &before[i], nullptr);
}

bool interrupt_requested() noexcept { return requested != 0; }

}  // namespace switchyard
