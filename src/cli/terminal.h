// Is a person watching, and how wide is the window.
#pragma once

namespace switchyard::cli {

[[nodiscard]] bool stdin_is_terminal();
[[nodiscard]] bool stdout_is_terminal();
[[nodiscard]] bool stderr_is_terminal();

// Colour on stderr: only on a terminal, not with NO_COLOR set to a non-empty value (https://no-color.org) nor with TERM=dumb.
[[nodiscard]] bool stderr_has_colour();

// A line on stderr can be written over: a terminal that is not TERM=dumb.
[[nodiscard]] bool stderr_can_redraw();

[[nodiscard]] int stderr_width();  // columns; 80 when unknown

}  // namespace switchyard::cli
