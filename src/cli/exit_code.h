// How the program ends (docs/cli.md).
#pragma once

#include "switchyard/error.h"

namespace switchyard::cli {

enum ExitCode : int {
  kDone = 0,
  kFailed = 1,       // while running: the system refused, a value was not finite, ranks disagreed, a broken promise of ours
  kUsage = 2,        // wrong flags or arguments
  kConfig = 3,       // a recipe or specification says something wrong
  kCheckpoint = 4,   // a checkpoint, tokenizer or data file is damaged or does not fit
  kUnsupported = 5,  // well formed, but not here
  kInterrupted = 130,
};

[[nodiscard]] ExitCode exit_code(ErrorKind kind) noexcept;

// Thrown by a verb that has printed its result and ends with a code other than 0 (interrupted after saving).
struct Exit {
  ExitCode code;
};

}  // namespace switchyard::cli
