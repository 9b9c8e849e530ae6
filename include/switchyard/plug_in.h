// How every exchangeable part is found by name. A plug-in file defines one function `<kind>_<file stem>()` that returns a
// PlugIn; the build makes the table of all of them from the folder (cmake/SwitchyardHelpers.cmake).
#pragma once

#include "switchyard/fields.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace switchyard {

[[noreturn]] void unknown_plug_in(const std::string& kind, const BlockSpec& wanted, const std::vector<std::string>& known);

// A named way to make an `Interface` from its options and the context that the place of use provides.
template <class Interface, class... Context>
struct PlugIn {
  std::string name, ref, summary;  // ref: arXiv id or DOI, empty when it is common knowledge
  std::vector<FieldHelp> options;
  std::function<void(const ConfigNode&, const std::string& path)> check;  // throws Error{config} for options it does not know
  std::function<std::shared_ptr<Interface>(const ConfigNode&, const Context&...)> make;
};

// The entry of a class `T : Interface` that has `struct Options` with fields and a constructor T(Options, Context...).
template <class T, class Entry> Entry plug_in(std::string name, std::string ref, std::string summary);

namespace detail {
template <class T, class Entry> struct MakePlugIn;
template <class T, class Interface, class... Context>
struct MakePlugIn<T, PlugIn<Interface, Context...>> {
  static PlugIn<Interface, Context...> make(std::string name, std::string ref, std::string summary) {
    return {std::move(name), std::move(ref), std::move(summary), describe_fields<typename T::Options>(),
            [](const ConfigNode& node, const std::string& path) {
              typename T::Options options;
              read_fields(options, node, path);
            },
            [](const ConfigNode& node, const Context&... context) -> std::shared_ptr<Interface> {
              typename T::Options options;
              read_fields(options, node);
              return std::make_shared<T>(options, context...);
            }};
  }
};
}  // namespace detail

template <class T, class Entry> Entry plug_in(std::string name, std::string ref, std::string summary) {
  return detail::MakePlugIn<T, Entry>::make(std::move(name), std::move(ref), std::move(summary));
}

// All entries of one kind: the built-in ones, and those that a program adds at run time.
template <class Entry>
class Registry {
 public:
  Registry(std::string kind, std::vector<Entry> builtin) : kind_(std::move(kind)), entries_(std::move(builtin)) {}

  [[nodiscard]] const std::string& kind() const { return kind_; }
  [[nodiscard]] const std::vector<Entry>& all() const { return entries_; }
  void add(Entry entry) { entries_.push_back(std::move(entry)); }

  // The entry that `spec` names. Throws Error{config} with the nearest name.
  [[nodiscard]] const Entry& find(const BlockSpec& spec) const {
    std::vector<std::string> known;
    for (const auto& entry : entries_) {
      if (entry.name == spec.kind) return entry;
      known.push_back(entry.name);
    }
    unknown_plug_in(kind_, spec, known);
  }

  template <class... Context> [[nodiscard]] auto make(const BlockSpec& spec, const Context&... context) const {
    return find(spec).make(spec.options, context...);
  }

  // Reads the options without building anything, so that a recipe is refused as a whole before work begins.
  void check(const BlockSpec& spec, const std::string& path) const { find(spec).check(spec.options, path); }

 private:
  std::string kind_;
  std::vector<Entry> entries_;
};

}  // namespace switchyard
