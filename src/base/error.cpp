#include "switchyard/error.h"

namespace switchyard {

std::string_view name_of(ErrorKind kind) noexcept {
  switch (kind) {
    case ErrorKind::usage: return "usage";
    case ErrorKind::config: return "config";
    case ErrorKind::checkpoint: return "checkpoint";
    case ErrorKind::unsupported: return "unsupported";
    case ErrorKind::communication: return "communication";
    case ErrorKind::numeric: return "numeric";
    case ErrorKind::io: return "io";
    case ErrorKind::internal: return "internal";
  }
  return "internal";
}

}  // namespace switchyard
