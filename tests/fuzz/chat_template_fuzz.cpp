// The input is a chat template; it runs on a conversation with tools.
#include "fuzz.h"
#include "io/chat/template.h"

using namespace switchyard;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto variables = nlohmann::ordered_json::parse(
      R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "häß"}, {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"a": [1, 2.5]}}}]}],
          "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"b": {}, "a": {}}}}}], "add_generation_prompt": true, "bos_token": "<s>"})");
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  io::RenderOptions options;
  options.max_steps = 20000;
  options.max_text_bytes = 1'000'000;
  options.now = 0;
  fuzz::accepts({ErrorKind::checkpoint, ErrorKind::unsupported, ErrorKind::usage}, [&] {
    const auto parsed = io::ChatTemplate::parse(text, "fuzz");
    const std::string once = parsed.render(variables, options);
    fuzz::promise(once.size() <= 1'000'000, "texts stay within their limit");
    fuzz::promise(once == parsed.render(variables, options), "a template gives the same text twice");
  });
  return 0;
}
