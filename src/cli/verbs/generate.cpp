// switchyard generate: text from a model
#include "base/files.h"
#include "cli/device_option.h"
#include "cli/exit_code.h"
#include "cli/find_model.h"
#include "cli/generate_many.h"
#include "cli/output.h"
#include "cli/sampling_options.h"
#include "cli/terminal.h"
#include "cli/threads.h"
#include "cli/verb.h"
#include "cli/weights_option.h"
#include "infer/generate.h"
#include "io/tokenizer/tokenizer.h"
#include "steps/interrupt.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

#include <CLI/CLI.hpp>
#include <fmt/ranges.h>

#include <optional>

namespace switchyard::cli {
namespace {

struct GenerateArguments {
  std::string model, prompt, prompt_file, source, dtype = "float32", weights = "auto", device = "cpu";
  std::string prompts_file;
  std::vector<int32_t> ids, source_ids;
  EngineOptions engine;
  GenerateOptions options;
  bool json = false;
};

const Tokenizer& need_tokenizer(const GenerateArguments& args, const Tokenizer* tokenizer, const char* what, const char* option) {
  if (!tokenizer) fail(ErrorKind::checkpoint, "{}: no tokenizer.json, so a text {} means nothing; give token ids with {}", args.model, what, option);
  return *tokenizer;
}

std::vector<int32_t> read_prompt(const GenerateArguments& args, const Tokenizer* tokenizer) {
  if (!args.ids.empty()) return args.ids;
  return prompt_ids(need_tokenizer(args, tokenizer, "prompt", "--ids"), args.prompt_file.empty() ? args.prompt : read_text_file(args.prompt_file));
}

std::optional<int32_t> token_of(const Checkpoint& checkpoint, const char* key) {
  const auto& config = checkpoint.config;
  if (!config.is_object() || !config.contains(key) || !config[key].is_number_integer()) return std::nullopt;
  return config[key].get<int32_t>();
}

// A decoder begins with a token of its own; the text of the prompt, if there is one, goes behind it.
std::vector<int32_t> read_decoder_prompt(const GenerateArguments& args, const Checkpoint& checkpoint) {
  if (!args.ids.empty()) return args.ids;
  const auto start = token_of(checkpoint, "decoder_start_token_id");
  if (!start) fail(ErrorKind::checkpoint, "{}: config.json has no decoder_start_token_id; give the first tokens of the decoder with --ids", args.model);
  std::vector<int32_t> out{*start};
  const std::string text = args.prompt_file.empty() ? args.prompt : read_text_file(args.prompt_file);
  if (text.empty()) return out;
  const auto more = need_tokenizer(args, checkpoint.tokenizer.get(), "prompt", "--ids").encode(text, /*add_template=*/false);
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

// What the encoder reads, and the token that ends its answer.
void read_source(GenerateArguments& args, const Checkpoint& checkpoint) {
  args.options.source = args.source_ids;
  if (!args.source.empty()) args.options.source = need_tokenizer(args, checkpoint.tokenizer.get(), "source", "--source-ids").encode(args.source, /*add_template=*/true);
  if (args.options.source.empty()) fail(ErrorKind::usage, "{} has an encoder, which reads a source; give it with --source or --source-ids", args.model);
  args.options.end_id = token_of(checkpoint, "eos_token_id");
}

void print_generated(const GenerateArguments& args, const std::vector<int32_t>& prompt, const Generated& result, size_t streamed, bool has_text) {
  const double rate = result.decode_seconds > 0 ? static_cast<double>(result.ids.size()) / result.decode_seconds : 0;
  if (args.json) {
    nlohmann::ordered_json out = {{"prompt_ids", prompt}, {"ids", result.ids}};
    if (has_text) out["text"] = result.text;
    out.update({{"finish_reason", result.finish_reason}, {"prefill_seconds", result.prefill_seconds}, {"decode_seconds", result.decode_seconds}, {"tokens_per_s", rate}});
    print_json(out);
  } else {
    write_result(has_text ? result.text.substr(streamed) : fmt::format("{}", fmt::join(result.ids, ",")));
    write_result("\n");
  }
  flush_result();
  if (stderr_is_terminal()) note("{} tokens, {:.1f} tokens/s, ended by {}", result.ids.size(), rate, result.finish_reason);
}

void run_generate(GenerateArguments args) {
  check_sampling(args.options.sampling);
  args.options.compute = parse_compute_type(args.dtype);
  const Checkpoint checkpoint = load_on_device(find_model(args.model), args.weights, args.device);
  if (!args.prompts_file.empty()) return generate_many(checkpoint, args.prompts_file, args.options, args.engine);
  const Tokenizer* tokenizer = checkpoint.tokenizer.get();
  const bool reads = checkpoint.model->encoder() != nullptr;
  if (!reads && (!args.source.empty() || !args.source_ids.empty())) fail(ErrorKind::usage, "{} has no encoder that could read a source", args.model);
  if (reads) read_source(args, checkpoint);
  const auto prompt = reads ? read_decoder_prompt(args, checkpoint) : read_prompt(args, tokenizer);
  const InterruptScope interrupts;
  size_t streamed = 0;
  const auto stream = [&](int32_t, std::string_view text) {
    if (!args.json && !text.empty()) {
      write_result(text);
      flush_result();
      streamed += text.size();
    }
    return !interrupt_requested();
  };
  const Generated result = generate(*checkpoint.model, tokenizer, prompt, args.options, stream);
  print_generated(args, prompt, result, streamed, tokenizer != nullptr);
  if (result.finish_reason == "cancelled") throw Exit{kInterrupted};
}

}  // namespace

VerbEntry verb_generate() {
  return {"generate", 20, "Continue a text with a trained model", [](CLI::App& verb) {
            auto args = std::make_shared<GenerateArguments>();
            verb.add_option("model", args->model, "model folder, or a run (its best checkpoint)")->required()->type_name("MODEL-DIR");
            auto* prompt = verb.add_option("prompt", args->prompt, "text to continue; empty = at the start of a document")->type_name("TEXT");
            auto* file = verb.add_option("--prompt-file", args->prompt_file, "read the prompt from a file")->type_name("FILE")->excludes(prompt);
            verb.add_option("--ids", args->ids, "the prompt as token ids: 1,2,3")->delimiter(',')->type_name("IDS")->excludes(prompt)->excludes(file);
            verb.add_option("--prompts-file", args->prompts_file, "many texts at once: one prompt per line, one JSON object per line comes out")->type_name("FILE")->excludes(prompt)->excludes(file);
            verb.add_option("--batch", args->engine.max_sequences, "with --prompts-file: texts that run at once")->type_name("N")->capture_default_str();
            verb.add_option("--kv-cache", args->options.kv_cache, "how keys and values are kept")->check(CLI::IsMember({"float32", "bfloat16", "int8"}).description(""))
                ->type_name("float32|bfloat16|int8")->capture_default_str();
            verb.add_option("--prefill-chunk", args->options.prefill_chunk, "tokens of a prompt that go through the model at once")->type_name("N")->capture_default_str();
            auto* source = verb.add_option("--source", args->source, "text that a model with an encoder reads: the question, or what is to be translated")->type_name("TEXT");
            verb.add_option("--source-ids", args->source_ids, "the source as token ids")->delimiter(',')->type_name("IDS")->excludes(source);
            add_sampling_options(verb, args->options);
            verb.add_option("--dtype", args->dtype, "arithmetic of matrix products")->type_name("float32|bfloat16");
            add_weights_option(verb, args->weights);
            add_device_option(verb, args->device);
            add_threads_option(verb);
            verb.add_flag("--json", args->json, "ids, text and timing as JSON, when all is done");
            verb.footer("Examples:\n  switchyard generate runs/demo \"It was a dark\" --temperature 0.8 --top-p 0.95\n"
                        "  switchyard generate runs/demo --prompts-file prompts.txt --batch 32 --weights int8 --kv-cache bfloat16\n"
                        "  switchyard generate model/ --ids 1,2,3 --ignore-eos --temperature 0 --max-tokens 16 --json\n"
                        "  switchyard generate switch-base-8/ --source \"A <extra_id_0> walks into a bar.\" --temperature 0");
            verb.callback([args] { run_generate(*args); });
          }};
}

}  // namespace switchyard::cli
