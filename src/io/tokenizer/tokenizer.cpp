#include "io/tokenizer/tokenizer.h"

#include "base/files.h"
#include "io/tokenizer/byte_vocabulary.h"
#include "io/tokenizer/pipeline_tokenizer.h"
#include "io/tokenizer/tokenizer_json.h"

namespace switchyard {

std::unique_ptr<Tokenizer> make_byte_tokenizer() {
  return std::make_unique<io::PipelineTokenizer>(io::byte_vocabulary(/*splits_words=*/false), "byte tokenizer");
}

std::unique_ptr<Tokenizer> parse_tokenizer(std::string_view json, const std::string& name_for_errors) {
  return std::make_unique<io::PipelineTokenizer>(io::read_tokenizer_json(json, name_for_errors), name_for_errors);
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path) {
  std::error_code ignored;
  const std::filesystem::path file = std::filesystem::is_directory(path, ignored) ? path / "tokenizer.json" : path;
  return parse_tokenizer(read_text_file(file), file.string());
}

}  // namespace switchyard
