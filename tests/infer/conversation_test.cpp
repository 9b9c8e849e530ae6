// A conversation renders its template, ends where the template ends an answer, and keeps what was said.
#include "infer/conversation.h"

#include "expect_error.h"
#include "io/tokenizer/tokenizer.h"
#include "models/small_specs.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace switchyard {
namespace {
namespace conversation {

using nlohmann::ordered_json;

ModelSpec byte_spec() {
  ModelSpec spec = testing::small_spec();
  spec.vocab_size = 257;
  spec.max_positions = 400;
  return spec.resolved();
}

const ordered_json kConfig = {{"chat_template",
                               "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ '<|endoftext|>' if m.role == 'assistant' else '|' }}{% "
                               "endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"},
                              {"bos_token", {{"content", "<s>"}}}};

TEST(Conversation, RendersItsTemplate) {
  Conversation talk(kConfig, "m");
  EXPECT_TRUE(talk.has_own_template());
  talk.add("system", "Be kind.");
  talk.add("user", "Hi");
  EXPECT_EQ(talk.prompt(), "<s>[system]Be kind.|[user]Hi|[assistant]");
  EXPECT_EQ(talk.end_of_answer(), "<|endoftext|>");
}

TEST(Conversation, FallsBackToAPlainTemplate) {
  Conversation talk(ordered_json::object(), "m");
  EXPECT_FALSE(talk.has_own_template());
  talk.add("user", "Hi");
  EXPECT_EQ(talk.prompt(), "user: Hi\nassistant:");
  EXPECT_EQ(talk.end_of_answer(), "");
}

TEST(Conversation, TakesTheDefaultOfSeveralTemplates) {
  const ordered_json config = {{"chat_template", {{{"name", "tool_use"}, {"template", "t"}}, {{"name", "default"}, {"template", "d"}}}}};
  EXPECT_EQ(Conversation(config, "m").prompt(), "d");
}

TEST(Conversation, FaultsOfATemplateNameTheModel) {
  testing::expect_error(ErrorKind::checkpoint, {"folder: chat_template:1:4"}, [] { (void)Conversation({{"chat_template", "{{ }}"}}, "folder"); });
}

TEST(Conversation, AnswersAreWhatGenerateSaysForThePrompt) {
  LanguageModel model(byte_spec(), 3);
  const auto tokenizer = make_byte_tokenizer();
  GenerateOptions options;
  options.max_tokens = 12;
  options.sampling.temperature = 0;
  Conversation talk(kConfig, "m");
  talk.add("user", "Hi");
  const auto want = generate(model, tokenizer.get(), tokenizer->encode(talk.prompt()), options);
  const auto got = talk.answer(model, *tokenizer, options);
  EXPECT_EQ(got.ids, want.ids);
  ASSERT_EQ(talk.messages().size(), 2U);
  EXPECT_EQ(talk.messages()[1]["role"], "assistant");
  talk.add("user", "And");
  EXPECT_NE(talk.prompt().find("[user]Hi|[assistant]"), std::string::npos);  // the turns before stay in the prompt
}

// The template ends answers with a plain text: the answer stops there and does not hold it.
TEST(Conversation, StopsAtTheEndOfTheTemplate) {
  const auto tokenizer = make_byte_tokenizer();
  GenerateOptions options;
  options.max_tokens = 12;
  options.sampling.temperature = 0;
  options.ignore_eos = true;
  const auto is_letter = [](int32_t id) { return (id >= 'a' && id <= 'z') || (id >= 'A' && id <= 'Z'); };
  int tried = 0;
  for (uint64_t seed = 0; seed < 60 && tried < 2; ++seed) {  // models that say a letter after some other bytes
    LanguageModel model(byte_spec(), seed);
    Conversation without({{"chat_template", "{% for m in messages %}{{ m.content }}{% endfor %}"}}, "m");
    without.add("user", "Hello");
    const auto whole = without.answer(model, *tokenizer, options);
    const auto letter = std::find_if(whole.ids.begin(), whole.ids.end(), is_letter);
    if (letter == whole.ids.end() || letter == whole.ids.begin()) continue;
    ++tried;
    const std::string mark(1, static_cast<char>(*letter));
    Conversation with({{"chat_template", "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}" + mark + "{% endif %}{% endfor %}"}}, "m");
    with.add("user", "Hello");
    const auto cut = with.answer(model, *tokenizer, options);
    EXPECT_EQ(static_cast<std::ptrdiff_t>(cut.ids.size()), letter - whole.ids.begin() + 1);
    EXPECT_EQ(cut.text.find(mark), std::string::npos);
  }
  EXPECT_EQ(tried, 2);
}

}  // namespace conversation
}  // namespace
}  // namespace switchyard
