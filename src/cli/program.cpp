#include "cli/program.h"

#include "base/nearest_name.h"
#include "cli/exit_code.h"
#include "cli/output.h"
#include "cli/share_dir.h"
#include "cli/threads.h"
#include "cli/verb.h"

#include <CLI/CLI.hpp>
#include <c10/util/Exception.h>

#include <algorithm>
#include <csignal>

namespace switchyard::cli {

std::vector<VerbEntry> builtin_verb_entries();  // generated from src/cli/verbs

const std::vector<VerbEntry>& verbs() {
  static const std::vector<VerbEntry> sorted = [] {
    auto entries = builtin_verb_entries();
    std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.order < b.order; });
    return entries;
  }();
  return sorted;
}

void declare_verbs(CLI::App& program) {
  program.option_defaults()->always_capture_default();
  program.set_version_flag("--version", "switchyard " + version(), "print the version and exit");
  program.set_help_flag("-h,--help", "print this help and exit");
  const auto formatter = program.get_formatter();
  formatter->column_width(34);
  formatter->label("SUBCOMMAND", "VERB");
  formatter->label("SUBCOMMANDS", "VERB");
  formatter->label("Subcommands", "Verbs");
  formatter->label("REQUIRED", "(required)");
  formatter->label("Excludes", "not with");
  for (const VerbEntry& entry : verbs()) {
    CLI::App* verb = program.add_subcommand(entry.name, entry.summary);
    entry.add(*verb);
  }
  program.footer(
      "Exit codes: 0 done, 1 failed while running, 2 wrong usage, 3 bad config, 4 bad checkpoint or data,\n"
      "5 not supported here, 130 interrupted (after saving).\n\n"
      "Examples:\n  switchyard train recipes/demo/moe.toml --out runs/demo\n  switchyard VERB --help");
}

namespace {

void report(const CLI::App& program, std::string_view message) {
  const auto parsed = program.get_subcommands();
  note("switchyard{}{}: {}", parsed.empty() ? "" : " ", parsed.empty() ? "" : parsed.front()->get_name(), message);
}

// Names of a verb's options as they are typed.
std::vector<std::string> option_names(const CLI::App& verb) {
  std::vector<std::string> names;
  for (const CLI::Option* option : verb.get_options())
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

// The verb that the words reach: `recipe check` for {"recipe", "check", ...}.
const CLI::App& deepest(const CLI::App& app) {
  const auto parsed = app.get_subcommands();
  return parsed.empty() ? app : deepest(*parsed.front());
}

std::vector<std::string> subcommand_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) names.push_back(sub->get_name());
  return names;
}

// CLI11's sentence, or a better one for words that nobody expected.
std::string usage_message(const CLI::App& program, const CLI::ParseError& error) {
  const auto extra = program.remaining(true);
  if (dynamic_cast<const CLI::ExtrasError*>(&error) == nullptr || extra.empty()) return error.what();
  const CLI::App& verb = deepest(program);
  const std::string word = extra.front().substr(0, extra.front().find('='));
  const bool is_option = word.size() > 1 && word.front() == '-';
  const auto known = is_option ? option_names(verb) : subcommand_names(verb);
  const std::string near = nearest_name(word, known);
  return fmt::format("unexpected {} '{}'{}", is_option ? "option" : known.empty() ? "argument" : "word", word,
                     near.empty() ? "" : "; did you mean '" + near + "'?");
}

int run_verb(CLI::App& program, int argc, char** argv) {
  try {
    if (argc < 2) {
      write_note(program.help());
      return kUsage;
    }
    const auto known = subcommand_names(program);
    if (argv[1][0] != '-' && std::find(known.begin(), known.end(), argv[1]) == known.end()) {
      note("switchyard: unknown verb '{}'{}", argv[1], suggestion(argv[1], known));
      return kUsage;
    }
    program.parse(argc, argv);
    flush_result();
    return kDone;
  } catch (const CLI::CallForHelp&) {
    write_result(program.help());  // of the verb that was named
  } catch (const CLI::CallForVersion& e) {
    print_result("{}\n", e.what());
  } catch (const CLI::ParseError& e) {
    report(program, usage_message(program, e) + " (--help lists what there is)");
    return kUsage;
  }
  flush_result();
  return kDone;
}

}  // namespace

int run_program(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a training must not die because somebody closed the pipe that its lines go to
  use_all_cores();
  CLI::App program("Mixture-of-Experts models: train them, look into them, use them.", "switchyard");
  declare_verbs(program);
  try {
    return run_verb(program, argc, argv);
  } catch (const Exit& e) {
    return e.code;
  } catch (const BrokenPipe&) {
    return kDone;
  } catch (const Error& e) {
    report(program, e.what());
    return exit_code(e.kind());
  } catch (const c10::Error& e) {
    report(program, e.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    report(program, "not enough memory");
  } catch (const std::exception& e) {
    report(program, e.what());
  }
  return kFailed;
}

}  // namespace switchyard::cli
