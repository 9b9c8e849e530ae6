#include "io/tokenizer/tokenizer.h"

#include "base/files.h"
#include "io/strict_json.h"
#include "io/tokenizer/byte_vocabulary.h"
#include "io/tokenizer/pipeline_tokenizer.h"
#include "io/tokenizer/sentencepiece_tokenizer.h"
#include "io/tokenizer/tiktoken.h"
#include "io/tokenizer/tokenizer_json.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

// Files of a folder that hold a tokenizer, the first that is there counts. "spiece.model" is T5's.
constexpr const char* kFileNames[] = {"tokenizer.json", "tokenizer.model", "spiece.model"};

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::unique_ptr<Tokenizer> open_tiktoken(const fs::path& path, const std::string& text, const std::string& encoding) {
  const std::string wanted = encoding.empty() ? path.stem().string() : encoding;
  const auto* known = io::find_tiktoken_encoding(wanted);
  if (known == nullptr)
    fail(encoding.empty() ? ErrorKind::unsupported : ErrorKind::usage, "{}: the encoding '{}' is not known; name one of {}", path.string(), wanted,
         io::tiktoken_encoding_names());
  return std::make_unique<io::PipelineTokenizer>(io::read_tiktoken(text, *known, path.string()), path.string());
}

// Whether a sentencepiece model begins and ends texts stands in tokenizer_config.json; where it does not, the class has a
// habit.
io::SentencePieceEnds ends_beside(const fs::path& model) {
  const fs::path path = model.parent_path() / "tokenizer_config.json";
  if (!is_there(path)) return {};
  const nlohmann::json config = io::parse_strict_json(read_text_file(path), path.string());
  const io::JsonAt at(config, path.string());
  const std::string type = at.get_string("tokenizer_class", "");
  return {.add_bos = at.get_bool("add_bos_token", type.starts_with("Llama") || type.starts_with("Gemma")),
          .add_eos = at.get_bool("add_eos_token", type.starts_with("T5"))};
}

}  // namespace

std::unique_ptr<Tokenizer> make_byte_tokenizer() {
  return std::make_unique<io::PipelineTokenizer>(io::byte_vocabulary(/*splits_words=*/false), "byte tokenizer");
}

std::unique_ptr<Tokenizer> parse_tokenizer(std::string_view json, const std::string& name_for_errors) {
  io::TokenizerSpec spec = io::read_tokenizer_json(json, name_for_errors);
  if (spec.sentencepiece_model.empty()) return std::make_unique<io::PipelineTokenizer>(std::move(spec), name_for_errors);
  io::SentencePieceEnds ends;
  if (!spec.post_processor.is_null()) {
    const auto around = io::make_token_template({spec.post_processor, name_for_errors + ": post_processor"});
    ends = {.add_bos = !around.prefix.empty(), .add_eos = !around.suffix.empty()};
  }
  return std::make_unique<io::SentencePieceTokenizer>(std::move(spec.sentencepiece_model), ends, name_for_errors);
}

std::optional<fs::path> find_tokenizer_file(const fs::path& folder) {
  for (const char* name : kFileNames)
    if (is_there(folder / name)) return folder / name;
  std::optional<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() != ".tiktoken") continue;
    if (found) return std::nullopt;  // which of them is meant?
    found = entry.path();
  }
  return found;
}

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& path, const std::string& encoding) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    const auto file = find_tokenizer_file(path);
    if (!file) fail(ErrorKind::io, "{}: no tokenizer in the folder: no tokenizer.json, tokenizer.model or spiece.model, and not one .tiktoken file", path.string());
    return load_tokenizer(*file, encoding);
  }
  std::string text = read_text_file(path);
  const auto extension = path.extension();
  if (extension == ".tiktoken" || (extension == ".model" && io::looks_like_tiktoken(text))) return open_tiktoken(path, text, encoding);
  if (!encoding.empty()) fail(ErrorKind::usage, "{}: the encoding '{}' is for .tiktoken files", path.string(), encoding);
  if (extension == ".model") return std::make_unique<io::SentencePieceTokenizer>(std::move(text), ends_beside(path), path.string());
  return parse_tokenizer(text, path.string());
}

}  // namespace switchyard
