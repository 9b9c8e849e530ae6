// switchyard tokenize: text to token ids and back
#include "base/files.h"
#include "cli/output.h"
#include "cli/tokenize_lines.h"
#include "cli/verb.h"
#include "switchyard/error.h"

#include <CLI/CLI.hpp>

#include <cstring>
#include <fstream>
#include <iostream>

namespace switchyard::cli {
namespace {

struct TokenizeOptions {
  std::string tokenizer, encoding, input = "-", output = "-";
  bool decode = false, no_special = false, keep_special = false;
};

void convert(std::istream& in, const TokenizeOptions& opt, const LineSink& out) {
  const auto tokenizer = load_tokenizer(opt.tokenizer, opt.encoding);
  const std::string name = opt.input == "-" ? "standard input" : opt.input;
  opt.decode ? decode_lines(in, name, *tokenizer, opt.keep_special, out) : encode_lines(in, name, *tokenizer, !opt.no_special, out);
}

void tokenize(const TokenizeOptions& opt) {
  std::ifstream file;
  if (opt.input != "-") {
    file.open(opt.input, std::ios::binary);
    if (!file) fail(ErrorKind::io, "{}: {}", opt.input, std::strerror(errno));
  }
  std::istream& in = opt.input == "-" ? std::cin : file;
  if (opt.output == "-") return convert(in, opt, write_result);
  AtomicFile out(opt.output);
  convert(in, opt, [&](std::string_view line) { out.write(line); });
  out.commit();
}

}  // namespace

VerbEntry verb_tokenize() {
  return {"tokenize", 100, "Turn text into token ids, or back, one JSON object per line", [](CLI::App& verb) {
            auto opt = std::make_shared<TokenizeOptions>();
            verb.add_option("--tokenizer", opt->tokenizer, "tokenizer.json, sentencepiece .model, .tiktoken, or a folder with one of them")
                ->required()
                ->type_name("PATH");
            verb.add_option("--encoding", opt->encoding, "split rule and special tokens of a .tiktoken file; default: as its name says")
                ->type_name("NAME");
            verb.add_option("--input", opt->input, "lines {\"text\": ...}, or {\"ids\": [...]} with --decode; - is standard input")
                ->type_name("FILE");
            verb.add_option("--output", opt->output, "lines {\"ids\": [...]}, or {\"text\": ...} with --decode; - is standard output")
                ->type_name("FILE");
            verb.add_flag("--decode", opt->decode, "from ids to text");
            verb.add_flag("--no-template,--no-special", opt->no_special, "without the beginning and end tokens that the tokenizer's template adds");
            verb.add_flag("--keep-special", opt->keep_special, "with --decode: spell special tokens out");
            verb.footer("Examples:\n  switchyard tokenize --tokenizer runs/demo/best --input texts.jsonl --output ids.jsonl\n"
                        "  switchyard tokenize --tokenizer o200k_base.tiktoken --input texts.jsonl --no-template\n"
                        "  echo '{\"ids\": [72, 105]}' | switchyard tokenize --tokenizer tokenizer.json --decode");
            verb.callback([opt] { tokenize(*opt); });
          }};
}

}  // namespace switchyard::cli
