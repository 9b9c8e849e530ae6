#include "cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace switchyard::cli {

bool stdin_is_terminal() { return ::isatty(STDIN_FILENO) == 1; }

bool stdout_is_terminal() { return ::isatty(STDOUT_FILENO) == 1; }

bool stderr_is_terminal() { return ::isatty(STDERR_FILENO) == 1; }

bool stderr_can_redraw() {
  const char* term = std::getenv("TERM");
  return stderr_is_terminal() && term != nullptr && std::string_view(term) != "dumb";
}

bool stderr_has_colour() {
  const char* no_color = std::getenv("NO_COLOR");
  return stderr_can_redraw() && (no_color == nullptr || *no_color == '\0');
}

int stderr_width() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace switchyard::cli
