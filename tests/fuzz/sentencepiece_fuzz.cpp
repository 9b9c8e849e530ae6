// The input is a sentencepiece .model file.
#include "fuzz.h"
#include "io/tokenizer/sentencepiece_tokenizer.h"

using namespace switchyard;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  std::unique_ptr<Tokenizer> tokenizer;
  const auto open = [&] { tokenizer = std::make_unique<io::SentencePieceTokenizer>(input, io::SentencePieceEnds{}, "fuzz.model"); };
  if (!fuzz::accepts({ErrorKind::checkpoint, ErrorKind::unsupported}, open)) return 0;
  const auto again = parse_tokenizer(tokenizer->to_json().dump(), "written.json");
  for (const std::string_view text : {std::string_view("  Hello,  w\xC3\xB6rld's 42\xFF <s>\xE2\x96\x81 \n "), std::string_view(input)}) {
    const auto ids = tokenizer->encode(text, true);
    fuzz::promise(again->encode(text, true) == ids, "the written file means the same");
    fuzz::promise(again->decode(ids) == tokenizer->decode(ids), "and decodes alike");
    for (const int32_t id : ids) fuzz::promise(id >= 0 && id < tokenizer->vocab_size(), "ids are below vocab_size");
  }
  return 0;
}
