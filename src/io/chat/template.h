// The part of the Jinja language that chat templates of published models use (tokenizer_config.json, key chat_template).
//
//   {{ expression }}  {% for x in list [if ...] %}...{% else %}...{% endfor %}  {% if %}{% elif %}{% else %}{% endif %}
//   {% set x = ... %}  {% set ns.x = ... %}  {% set x %}...{% endset %}  {% macro f(a, b=1) %}...{% endmacro %}
//   {% break %} {% continue %} {% generation %}...{% endgeneration %}  {# comment #}; "-" at a mark strips white space
//   values: JSON, slices, `~`, `in`, `is`, `a if b else c`, and / or / not, comparison, + - * / // % **, filters, tests,
//   methods of strings and objects; namespace(), range(), raise_exception(), strftime_now(), dict()
// As the Hugging Face library runs them: trim_blocks and lstrip_blocks are on, undefined names are empty text and false.
// Departs from Python: tuples are lists, also when they are printed.
//
// Not here: inheritance, include, import, call blocks, recursive loops, filters as blocks, user-defined tests and filters.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace switchyard::io {

// With the limits no template can hang the program or fill its memory.
struct RenderOptions {
  int64_t max_steps = 1'000'000;        // nodes evaluated and items made
  int64_t max_text_bytes = 64'000'000;  // of the result and of all texts made on the way, together
  int max_calls = 32;                   // macros inside one another
  std::optional<int64_t> now;           // what strftime_now() takes for now, in seconds since 1970, UTC; empty = the clock, local time
};

class ChatTemplate {
 public:
  // Throws Error{checkpoint} "name:line:column: ..." for a template that is not well formed, Error{unsupported} for a part of the
  // language that is not read here.
  [[nodiscard]] static ChatTemplate parse(std::string_view text, const std::string& name);

  // `variables`: messages, add_generation_prompt, bos_token, tools, ... Throws Error{usage} with what the template said in
  // raise_exception(), Error{checkpoint} for an operation that has no meaning and Error{unsupported} for a name or limit.
  [[nodiscard]] std::string render(const nlohmann::ordered_json& variables, const RenderOptions& options = {}) const;

 private:
  struct Parsed;
  std::shared_ptr<const Parsed> parsed_;
};

}  // namespace switchyard::io
