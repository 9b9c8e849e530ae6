// The input is a .tiktoken file, and also base64.
#include "fuzz.h"
#include "io/tokenizer/base64.h"
#include "io/tokenizer/pipeline_tokenizer.h"
#include "io/tokenizer/tiktoken.h"

using namespace switchyard;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  fuzz::promise(io::from_base64(io::to_base64(input)) == input, "base64 comes back");
  if (const auto bytes = io::from_base64(input)) fuzz::promise(io::to_base64(*bytes) == input, "base64 has one spelling");
  (void)io::looks_like_tiktoken(input);
  for (const char* name : {"cl100k_base", "llama3"}) {
    std::unique_ptr<Tokenizer> tokenizer;
    const auto open = [&] {
      tokenizer = std::make_unique<io::PipelineTokenizer>(io::read_tiktoken(input, *io::find_tiktoken_encoding(name), "fuzz.tiktoken"), "fuzz.tiktoken");
    };
    if (!fuzz::accepts({ErrorKind::checkpoint}, open)) continue;
    const auto again = parse_tokenizer(tokenizer->to_json().dump(), "written.json");
    for (const std::string_view text : {std::string_view("Hello, w\xC3\xB6rld's 42\xFF  <|endoftext|> \n"), input}) {
      fuzz::accepts({ErrorKind::unsupported}, [&] {  // a byte may have no token
        const auto ids = tokenizer->encode(text);
        fuzz::promise(again->encode(text) == ids, "the written file means the same");
        fuzz::promise(tokenizer->decode(ids, false) == text, "decode(encode(text)) is the text");
      });
    }
  }
  return 0;
}
