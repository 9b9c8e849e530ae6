// Templates against the Jinja2 library (tests/data/chat/README.md), against texts worked out by hand, and against their limits.
#include "base/files.h"
#include "expect_error.h"
#include "io/chat/template.h"

#include <gtest/gtest.h>

namespace switchyard::io {
namespace {
namespace chat_template {

using nlohmann::ordered_json;
using testing::expect_error;

std::string render(std::string_view text, const ordered_json& variables = ordered_json::object(), const RenderOptions& options = {}) {
  return ChatTemplate::parse(text, "t").render(variables, options);
}

TEST(ChatTemplate, GivesWhatTheJinjaLibraryGives) {
  const auto data = ordered_json::parse(read_text_file(SW_TEST_DATA "/chat/cases.json"));
  ASSERT_GT(data["cases"].size(), 70U);
  for (const auto& item : data["cases"]) {
    const std::string name = item["name"], text = data["templates"][item["template"].get<std::string>()];
    if (item.contains("error")) {
      expect_error(ErrorKind::usage, {item["error"].get_ref<const std::string&>()}, [&] { (void)render(text, item["variables"]); });
      continue;
    }
    try {
      EXPECT_EQ(render(text, item["variables"]), item["expected"].get<std::string>()) << name;
    } catch (const Error& error) {
      ADD_FAILURE() << name << ": " << error.what();
    }
  }
}

const ordered_json kTalk = {{"messages",
                             {{{"role", "system"}, {"content", "Be kind."}},
                              {{"role", "user"}, {"content", "Hi"}},
                              {{"role", "assistant"}, {"content", "Hello"}},
                              {{"role", "user"}, {"content", "Bye "}}}},
                            {"add_generation_prompt", true},
                            {"bos_token", "<s>"},
                            {"eos_token", "</s>"}};

TEST(ChatTemplate, WorkedOutByHand) {
  EXPECT_EQ(render("{% for m in messages %}\n<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\n{% if add_generation_prompt "
                   "%}\n<|im_start|>assistant\n{% endif %}\n",
                   kTalk),
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye "
            "<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(
      render("{{ bos_token }}{%- for m in messages if m.role != 'system' -%}\n  {{ loop.index0 }}{{ m['content'] | trim | upper }}\n{%- endfor %}", kTalk),
      "<s>0HI1HELLO2BYE");
  EXPECT_EQ(
      render("{% set ns = namespace(n=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.n = ns.n + 1 %}{% endif %}{% endfor %}{{ ns.n }}", kTalk),
      "2");
  RenderOptions options;
  options.now = 86400 * 45;
  EXPECT_EQ(render("{{ strftime_now('%d %b %Y') }}", {}, options), "15 Feb 1970");
}

TEST(ChatTemplate, FaultsAreNamedWithLineAndColumn) {
  const auto broken = [](std::string_view text, std::initializer_list<std::string_view> words, ErrorKind kind = ErrorKind::checkpoint) {
    expect_error(kind, words, [&] { (void)render(text); });
  };
  broken("a\n  {{ 1 + }}", {"t:2:10", "expected a value", "'}}'"});
  broken("{% if x %}", {"endif"});
  broken("{% endfor %}", {"endfor"});
  broken("{{ 'abc }}", {"t:1:4", "does not end"});
  broken("{# abc", {"comment"});
  broken("{{ 1", {"'}}'"});
  broken("{% for x of y %}{% endfor %}", {"expected 'in'"});
  broken("{{ $ }}", {"t:1:4", "character"});
  broken("{% include 'x' %}", {"t:1:4", "'include'"}, ErrorKind::unsupported);
  broken("{{ 1 | frobnicate }}", {"t:1:6", "'frobnicate'"}, ErrorKind::unsupported);
  broken("{{ 1 is weird }}", {"'weird'"}, ErrorKind::unsupported);
  broken("{{ mystery() }}", {"'mystery'"}, ErrorKind::unsupported);
  broken("\n\n{{ a.b }}", {"t:3:5", "'a' is not defined"});
  broken("{{ 1 / 0 }}", {"division by zero"});
  broken("{{ 'a' + 1 }}", {"'+'", "a text", "an integer"});
  broken("{{ 9223372036854775807 + 1 }}", {"too large"});
  broken("{{ 999999999999999999 * 100 }}", {"too large"});
  broken("{% set x.y = 1 %}", {"'x' is no namespace"});
  broken("{% set n = namespace() %}{% set n.x = n %}", {"namespace"});
  broken("{% for a, b in [1] %}{% endfor %}", {"an integer"});
  broken("{{ raise_exception('no') }}", {"t:1:19", "no"}, ErrorKind::usage);
}

TEST(ChatTemplate, NothingRunsOrGrowsForever) {
  const auto stopped = [](const std::string& text, std::initializer_list<std::string_view> words = {}) {
    expect_error(ErrorKind::unsupported, words, [&] { (void)render(text); });
  };
  stopped("{% for i in range(1000000000) %}{% endfor %}", {"steps"});
  stopped("{% for i in range(2000) %}{% for j in range(2000) %}x{% endfor %}{% endfor %}", {"steps"});
  stopped("{{ 'x' * 1000000000 }}", {"text"});
  stopped("{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", {"text"});
  stopped("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", {"macros"});
  std::string deep;
  for (int i = 0; i < 5000; ++i) deep += '(';
  stopped("{{ " + deep + " }}", {"deep"});
  deep.clear();
  for (int i = 0; i < 5000; ++i) deep += "{% if 1 %}";
  stopped(deep, {"deep"});
  deep = "{{ 1";
  for (int i = 0; i < 5000; ++i) deep += "+1";
  stopped(deep + " }}", {"parts"});
  deep = "{{ x";
  for (int i = 0; i < 5000; ++i) deep += "[0]";
  stopped(deep + " }}");
}

}  // namespace chat_template
}  // namespace
}  // namespace switchyard::io
