// Errors that the library throws. It throws and stays silent; the command-line program alone prints, and turns kinds
// into exit codes (docs/cli.md).
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace switchyard {

enum class ErrorKind {
  usage,          // the caller asked for something that has no meaning: a bad flag or argument
  config,         // a recipe, model specification or config.json says something wrong or unknown
  checkpoint,     // a checkpoint, tokenizer or data file is damaged, incomplete or does not fit
  unsupported,    // well formed, but not available in this build or on this machine
  communication,  // ranks disagree, or one of them has failed
  numeric,        // a value that must be finite is not
  io,             // the operating system refused: no such file, no space, no permission
  internal,       // a broken promise of our own code; never the user's mistake
};

[[nodiscard]] std::string_view name_of(ErrorKind kind) noexcept;

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  [[nodiscard]] ErrorKind kind() const noexcept { return kind_; }

 private:
  ErrorKind kind_;
};

// Throws Error{kind} with a formatted message: where it is, what was found, what was expected, what to do.
template <class... Args>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Args...> text, Args&&... args) {
  throw Error(kind, fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace switchyard
