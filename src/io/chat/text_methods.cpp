#include "io/chat/text_methods.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <map>
#include <stdexcept>

namespace switchyard::io::chat {
namespace {

using Kind = Value::Kind;

// One character in another case; what is no UTF-8 stays.
void append_cased(std::string& out, std::string_view character, bool upper) {
  utf8proc_int32_t code = 0;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(character.data());
  if (utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(character.size()), &code) != static_cast<utf8proc_ssize_t>(character.size())) {
    out += character;
    return;
  }
  utf8proc_uint8_t changed[4];
  const auto size = utf8proc_encode_char(upper ? utf8proc_toupper(code) : utf8proc_tolower(code), changed);
  out.append(reinterpret_cast<const char*>(changed), static_cast<size_t>(size));
}

bool is_letter(std::string_view character) {
  return static_cast<unsigned char>(character[0]) >= 0x80 || (character[0] >= 'a' && character[0] <= 'z') || (character[0] >= 'A' && character[0] <= 'Z');
}

// `upper(previous)` decides for each character from the one before ("" at the start).
template <class Upper>
std::string cased(std::string_view text, Upper upper) {
  const auto starts = character_starts(text);
  std::string out;
  std::string_view previous;
  if (starts.front() > 0) out += text.substr(0, starts.front());  // a text that begins inside a character
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    const std::string_view character = text.substr(starts[i], starts[i + 1] - starts[i]);
    append_cased(out, character, upper(previous));
    previous = character;
  }
  return out;
}

}  // namespace

std::string change_case(std::string_view text, bool upper) {
  return cased(text, [upper](std::string_view) { return upper; });
}
std::string capitalized(std::string_view text) {
  return cased(text, [](std::string_view previous) { return previous.empty(); });
}
std::string title_case(std::string_view text) {
  return cased(text, [](std::string_view previous) { return previous.empty() || !is_letter(previous); });
}

std::string replace_all(std::string_view text, std::string_view old, std::string_view with, int64_t count, Budget& budget) {
  std::string out;
  size_t at = 0;
  while (count != 0) {
    const size_t found = text.find(old, at);
    if (found == text.npos || (old.empty() && found >= text.size())) break;
    budget.spend_bytes(with.size() + (found - at));
    out.append(text.substr(at, found - at)).append(with);
    if (old.empty()) out += text[found];
    at = found + std::max<size_t>(old.size(), 1);
    --count;
  }
  out += at < text.size() ? text.substr(at) : std::string_view();
  if (old.empty() && count != 0) out += with;
  return out;
}

namespace {

const std::string& text_of(const Value& value, std::string_view what) {
  if (!value.is(Kind::string)) throw std::invalid_argument(fmt::format("{} needs a text, found {}", what, value.type_name()));
  return value.as_text();
}

Value split(const std::string& text, const Call& call, Budget& budget) {
  const Value separator = argument(call, 0, "sep"), limit = argument(call, 1, "maxsplit");
  int64_t left = limit.is(Kind::integer) && limit.as_integer() >= 0 ? limit.as_integer() : INT64_MAX;
  List out;
  if (!separator.is(Kind::string)) {  // runs of white space
    size_t at = 0;
    while ((at = text.find_first_not_of(kWhiteSpace, at)) != text.npos) {
      const size_t end = left-- > 0 ? std::min(text.find_first_of(kWhiteSpace, at), text.size()) : text.find_last_not_of(kWhiteSpace) + 1;
      out.push_back(Value::text(text.substr(at, end - at)));
      at = end;
    }
  } else {
    const std::string& mark = separator.as_text();
    if (mark.empty()) throw std::invalid_argument("split by an empty text");
    size_t at = 0;
    for (size_t found; left-- > 0 && (found = text.find(mark, at)) != text.npos; at = found + mark.size())
      out.push_back(Value::text(text.substr(at, found - at)));
    out.push_back(Value::text(text.substr(at)));
  }
  budget.spend_steps(static_cast<int64_t>(out.size()));
  budget.spend_bytes(text.size());
  return Value::list(std::move(out));
}

Value split_lines(const std::string& text, Budget& budget) {
  List out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    out.push_back(Value::text(text.substr(at, end - at)));
    at = end + 1;
  }
  budget.spend_steps(static_cast<int64_t>(out.size()));
  budget.spend_bytes(text.size());
  return Value::list(std::move(out));
}

bool begins_or_ends(const std::string& text, const Value& with, bool begins) {
  if (with.is(Kind::list))
    return std::any_of(with.as_list().begin(), with.as_list().end(), [&](const Value& one) { return begins_or_ends(text, one, begins); });
  const std::string& part = text_of(with, begins ? "startswith" : "endswith");
  return begins ? text.starts_with(part) : text.ends_with(part);
}

std::optional<Value> text_method(const Value& x, const std::string& name, Budget& budget) {
  const auto method = [&](auto run) { return Value::function([x, &budget, run](const Call& call) -> Value { return run(x.as_text(), call, budget); }); };
  const auto made = [](std::string text, Budget& b) {
    b.spend_bytes(text.size());
    return Value::text(std::move(text));
  };
  const auto stripping = [&](bool left, bool right) {
    return method([=](const std::string& text, const Call& call, Budget& b) {
      const Value characters = argument(call, 0, "chars");
      return made(strip(text, characters.is(Kind::string) ? std::string_view(characters.as_text()) : kWhiteSpace, left, right), b);
    });
  };
  if (name == "strip") return stripping(true, true);
  if (name == "lstrip") return stripping(true, false);
  if (name == "rstrip") return stripping(false, true);
  if (name == "split") return method([](const std::string& text, const Call& call, Budget& b) { return split(text, call, b); });
  if (name == "splitlines") return method([](const std::string& text, const Call&, Budget& b) { return split_lines(text, b); });
  if (name == "startswith")
    return method([](const std::string& text, const Call& call, Budget&) { return Value::boolean(begins_or_ends(text, argument(call, 0, "prefix"), true)); });
  if (name == "endswith")
    return method([](const std::string& text, const Call& call, Budget&) { return Value::boolean(begins_or_ends(text, argument(call, 0, "suffix"), false)); });
  if (name == "upper") return method([made](const std::string& text, const Call&, Budget& b) { return made(change_case(text, true), b); });
  if (name == "lower") return method([made](const std::string& text, const Call&, Budget& b) { return made(change_case(text, false), b); });
  if (name == "title") return method([made](const std::string& text, const Call&, Budget& b) { return made(title_case(text), b); });
  if (name == "capitalize") return method([made](const std::string& text, const Call&, Budget& b) { return made(capitalized(text), b); });
  if (name == "replace")
    return method([made](const std::string& text, const Call& call, Budget& b) {
      const Value count = argument(call, 2, "count");
      return made(replace_all(text, text_of(argument(call, 0, "old"), "replace"), text_of(argument(call, 1, "new"), "replace"),
                              count.is(Kind::integer) ? count.as_integer() : -1, b),
                  b);
    });
  if (name == "removeprefix" || name == "removesuffix")
    return method([made, prefix = name == "removeprefix"](const std::string& text, const Call& call, Budget& b) {
      const std::string& part = text_of(argument(call, 0, ""), "removeprefix");
      if (!(prefix ? text.starts_with(part) : text.ends_with(part))) return Value::text(text);
      return made(prefix ? text.substr(part.size()) : text.substr(0, text.size() - part.size()), b);
    });
  if (name == "find")  // counted in characters
    return method([](const std::string& text, const Call& call, Budget&) {
      const size_t found = text.find(text_of(argument(call, 0, "sub"), "find"));
      return Value::integer(found == text.npos ? -1 : static_cast<int64_t>(character_starts(std::string_view(text).substr(0, found)).size()) - 1);
    });
  if (name == "count")
    return method([](const std::string& text, const Call& call, Budget&) {
      const std::string& part = text_of(argument(call, 0, "sub"), "count");
      int64_t n = 0;
      for (size_t at = 0; !part.empty() && (at = text.find(part, at)) != text.npos; at += part.size()) ++n;
      return Value::integer(n);
    });
  if (name == "join")
    return method([](const std::string& text, const Call& call, Budget& b) {
      return apply_filter("join", argument(call, 0, "iterable"), {{Value::text(text)}, {}}, b);
    });
  if (name == "isdigit")
    return method([](const std::string& text, const Call&, Budget&) {
      return Value::boolean(!text.empty() && text.find_first_not_of("0123456789") == text.npos);
    });
  return std::nullopt;
}

std::optional<Value> dict_method(const Value& x, const std::string& name, Budget& budget) {
  if (name == "items") return Value::function([x, &budget](const Call&) { return apply_filter("items", x, {}, budget); });
  if (name == "keys") return Value::function([x, &budget](const Call&) { return Value::list(items_of(x, budget)); });
  if (name == "values")
    return Value::function([x, &budget](const Call&) {
      List out;
      budget.spend_steps(static_cast<int64_t>(x.as_dict().size()));
      for (const auto& member : x.as_dict()) out.push_back(member.second);
      return Value::list(std::move(out));
    });
  if (name == "get")
    return Value::function([x](const Call& call) {
      const Value key = argument(call, 0, "key"), otherwise = argument(call, 1, "default");
      const Value* found = key.is(Kind::string) ? x.find(key.as_text()) : nullptr;
      return found ? *found : otherwise.is(Kind::undefined) ? Value::none() : otherwise;
    });
  return std::nullopt;
}

}  // namespace

std::optional<Value> find_method(const Value& x, const std::string& name, Budget& budget) {
  if (x.is(Kind::string)) return text_method(x, name, budget);
  if (x.is(Kind::dict)) return dict_method(x, name, budget);
  if (x.is(Kind::list) && name == "count")
    return Value::function([x](const Call& call) {
      const Value item = argument(call, 0, "value");
      return Value::integer(std::count_if(x.as_list().begin(), x.as_list().end(), [&](const Value& other) { return equal(other, item); }));
    });
  if (x.is(Kind::list) && name == "index")
    return Value::function([x](const Call& call) {
      const Value item = argument(call, 0, "value");
      for (size_t i = 0; i < x.as_list().size(); ++i)
        if (equal(x.as_list()[i], item)) return Value::integer(static_cast<int64_t>(i));
      throw std::invalid_argument("index: the list has no such item");
    });
  return std::nullopt;
}

}  // namespace switchyard::io::chat
