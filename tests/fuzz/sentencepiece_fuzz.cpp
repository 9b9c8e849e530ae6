// The input is a sentencepiece .model file.
#include "fuzz.h"
#include "io/tokenizer/sentencepiece_tokenizer.h"

using namespace switchyard;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  std::unique_ptr<Tokenizer> tokenizer;
  const auto open = [&] { tokenizer = std::make_unique<io::SentencePieceTokenizer>(input, io::SentencePieceEnds{}, "fuzz.model"); };
  if (!fuzz::accepts({ErrorKind::checkpoint, ErrorKind::unsupported}, open)) return 0;
  // A conversion may contradict itself where the model does not: two pieces may be told apart by their kind only.
  std::unique_ptr<Tokenizer> again;
  nlohmann::ordered_json file = tokenizer->to_json();
  if (!fuzz::accepts({ErrorKind::checkpoint}, [&] { again = parse_tokenizer(file.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace), "written.json"); }))
    return 0;
  for (const std::string_view text : {std::string_view("  Hello,  w\xC3\xB6rld's 42\xFF <s>\xE2\x96\x81 \n "), std::string_view(input)}) {
    const auto ids = tokenizer->encode(text, true);
    fuzz::promise(again->encode(text, true) == ids, "the written file means the same");
    fuzz::promise(again->decode(ids) == tokenizer->decode(ids), "and decodes alike");
    for (const int32_t id : ids) fuzz::promise(id >= 0 && id < tokenizer->vocab_size(), "ids are below vocab_size");
  }
  return 0;
}
