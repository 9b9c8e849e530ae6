// Runs the built program as a child process.
#pragma once

#include "test_files.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace switchyard::testing {

struct Finished {
  int code = -1;  // of the exit; 128 + n when signal n ended it
  std::string out, err;
};

inline std::string content_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// `arguments` as a shell would read them; `around` may change folder, set variables or feed a pipe: "%" stands for the call.
inline Finished run_program(const std::string& arguments, const std::string& around = "%") {
  static const TempDir folder;
  const std::string program = std::string(SW_BINARY_DIR) + "/switchyard";
  const std::string out = (folder / "out").string(), err = (folder / "err").string();
  std::string command = around;
  command.replace(command.find('%'), 1, "'" + program + "' " + arguments);
  const int status = std::system(("{ " + command + " ; } > '" + out + "' 2> '" + err + "' < /dev/null").c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), content_of(out), content_of(err)};
}

// A corpus of two domains by folder, the same sentences of cats and of dogs.
inline void write_two_domains(const std::filesystem::path& corpus) {
  for (const char* domain : {"cats", "dogs"}) {
    std::filesystem::create_directories(corpus / domain);
    std::ofstream text(corpus / domain / "text.txt");
    for (int i = 0; i < 200; ++i) text << "the " << domain << " number " << i << " sat on the mat.\n";
  }
}

#define SW_EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << "no '" << (part) << "' in:\n" << (text)

}  // namespace switchyard::testing
