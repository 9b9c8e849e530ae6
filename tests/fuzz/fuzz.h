// What the fuzz targets share. A finding is a crash, a sanitizer report, an exception that is not ours, or a broken
// promise.
#pragma once

#include "switchyard/error.h"

#include <cstdio>
#include <cstdlib>
#include <initializer_list>

namespace switchyard::fuzz {

inline void promise(bool kept, const char* what) {
  if (kept) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

// Runs `action`; bad input may end in an Error of one of these kinds and in nothing else. False: it did.
template <class Action>
bool accepts(std::initializer_list<ErrorKind> kinds, Action&& action) {
  try {
    action();
    return true;
  } catch (const Error& error) {
    for (const ErrorKind kind : kinds)
      if (error.kind() == kind) return false;
    std::fprintf(stderr, "error of the wrong kind: %s\n", error.what());
    std::abort();
  }
}

}  // namespace switchyard::fuzz
