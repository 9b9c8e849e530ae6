// switchyard chat: talk with a model
#include "cli/device_option.h"
#include "cli/exit_code.h"
#include "cli/find_model.h"
#include "cli/output.h"
#include "cli/sampling_options.h"
#include "cli/terminal.h"
#include "cli/threads.h"
#include "cli/verb.h"
#include "cli/weights_option.h"
#include "infer/conversation.h"
#include "io/stored_model.h"
#include "steps/interrupt.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

#include <CLI/CLI.hpp>

#include <iostream>

namespace switchyard::cli {
namespace {

struct ChatArguments {
  std::string model, message, system, dtype = "float32", weights = "auto", device = "cpu";
  GenerateOptions options;
  bool json = false, show_prompt = false;
};

Conversation start_conversation(const ChatArguments& args, const std::filesystem::path& model) {
  Conversation talk(io::read_tokenizer_config(io::open_stored_config(model)), model.string());
  if (!talk.has_own_template()) note("note: the model has no chat_template; a plain one is used (role: content, line by line)");
  if (!args.system.empty()) talk.add("system", args.system);
  return talk;
}

void print_answer(const ChatArguments& args, const Generated& answer, size_t streamed, const Conversation& talk) {
  if (args.json) {
    write_result(nlohmann::ordered_json{{"answer", talk.messages().back()["content"]}, {"ids", answer.ids}, {"finish_reason", answer.finish_reason}}.dump(
                     -1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  } else {
    write_result(answer.text.substr(streamed));
    write_result("\n");
  }
  flush_result();
}

void take_turn(const ChatArguments& args, const Checkpoint& checkpoint, Conversation& talk, const std::string& message) {
  talk.add("user", message);
  size_t streamed = 0;
  const Generated answer = talk.answer(*checkpoint.model, *checkpoint.tokenizer, args.options, [&](int32_t, std::string_view text) {
    if (!args.json && !text.empty()) {
      write_result(text);
      flush_result();
      streamed += text.size();
    }
    return !interrupt_requested();
  });
  print_answer(args, answer, streamed, talk);
  if (answer.finish_reason == "cancelled") throw Exit{kInterrupted};
}

// A line of stdin is a message; the end of the input ends the conversation.
void take_turns(const ChatArguments& args, const Checkpoint& checkpoint, Conversation& talk) {
  const bool person = stdin_is_terminal();
  if (person) note("an empty line is ignored; end with Ctrl-D");
  std::string line;
  while (true) {
    if (person) write_result("> "), flush_result();
    if (!std::getline(std::cin, line)) break;
    if (line.find_first_not_of(" \t\r") != line.npos) take_turn(args, checkpoint, talk, line);
  }
}

void run_chat(ChatArguments args) {
  check_sampling(args.options.sampling);
  args.options.compute = parse_compute_type(args.dtype);
  const auto model = find_model(args.model);
  Conversation talk = start_conversation(args, model);
  if (args.show_prompt) {
    if (!args.message.empty()) talk.add("user", args.message);
    write_result(talk.prompt());
    return write_result("\n");
  }
  const Checkpoint checkpoint = load_on_device(model, args.weights, args.device);
  if (!checkpoint.tokenizer) fail(ErrorKind::checkpoint, "{}: no tokenizer, so text means nothing", args.model);
  const InterruptScope interrupts;
  if (args.message.empty()) take_turns(args, checkpoint, talk);
  else take_turn(args, checkpoint, talk, args.message);
}

}  // namespace

VerbEntry verb_chat() {
  return {"chat", 21, "Talk with a model by its chat template", [](CLI::App& verb) {
            auto args = std::make_shared<ChatArguments>();
            verb.add_option("model", args->model, "model folder, run (its best checkpoint) or .gguf file")->required()->type_name("MODEL-DIR");
            verb.add_option("--message", args->message, "one message; without it every line of the input is one")->type_name("TEXT");
            verb.add_option("--system", args->system, "message of the system, before all others")->type_name("TEXT");
            add_sampling_options(verb, args->options);
            add_weights_option(verb, args->weights);
            add_device_option(verb, args->device);
            verb.add_option("--dtype", args->dtype, "arithmetic of matrix products")->type_name("float32|bfloat16");
            add_threads_option(verb);
            verb.add_flag("--show-prompt", args->show_prompt, "print the text that the template makes, and end");
            verb.add_flag("--json", args->json, "one JSON object per answer, when it is whole");
            verb.footer("Examples:\n  switchyard chat model/ --system \"Be brief.\" --temperature 0.7\n"
                        "  switchyard chat model.gguf --message \"Hello\" --show-prompt");
            verb.callback([args] { run_chat(*args); });
          }};
}

}  // namespace switchyard::cli
