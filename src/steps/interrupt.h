// SIGINT and SIGTERM as a request to stop: the first one is remembered, the second one ends the process at once with exit
// code 130. For programs; the library asks a callback.
#pragma once

namespace switchyard {

// Handles both signals while it lives; the handlers that were there before come back afterwards.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;
};

// Whether a signal has come since the scope began.
[[nodiscard]] bool interrupt_requested() noexcept;

}  // namespace switchyard
