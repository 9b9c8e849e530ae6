#include "cli/exit_code.h"

namespace switchyard::cli {

ExitCode exit_code(ErrorKind kind) noexcept {
  switch (kind) {
    case ErrorKind::usage: return kUsage;
    case ErrorKind::config: return kConfig;
    case ErrorKind::checkpoint: return kCheckpoint;
    case ErrorKind::unsupported: return kUnsupported;
    case ErrorKind::communication:
    case ErrorKind::numeric:
    case ErrorKind::io:
    case ErrorKind::internal: return kFailed;
  }
  return kFailed;
}

}  // namespace switchyard::cli
