// The input is a recipe in TOML, also taken as JSON and as the argument of --set.
#include "base/config_tree.h"
#include "fuzz.h"

using namespace switchyard;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  ConfigNode recipe = ConfigNode::Table{};
  fuzz::accepts({ErrorKind::config}, [&] { recipe = parse_toml(text, "fuzz.toml"); });
  fuzz::promise(recipe.is_table(), "a recipe is a table");
  fuzz::accepts({ErrorKind::config}, [&] {
    const auto json = to_json(parse_json(text, "fuzz.json"));
    fuzz::promise(to_json(config_from_json(json, "again.json")) == json, "a tree and its JSON say the same");
  });
  (void)to_json(recipe);
  fuzz::accepts({ErrorKind::config, ErrorKind::usage}, [&] { apply_override(recipe, text); });
  return 0;
}
