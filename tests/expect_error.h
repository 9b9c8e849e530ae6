// Expects that a statement throws Error of one kind whose message holds all of some words.
#pragma once

#include "switchyard/error.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <string_view>

namespace switchyard::testing {

template <class Action>
void expect_error(ErrorKind kind, std::initializer_list<std::string_view> words, Action&& action) {
  try {
    action();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(name_of(error.kind()), name_of(kind)) << error.what();
    for (const std::string_view word : words)
      EXPECT_NE(std::string_view(error.what()).find(word), std::string_view::npos)
          << "'" << word << "' is not in: " << error.what();
  }
}

}  // namespace switchyard::testing
