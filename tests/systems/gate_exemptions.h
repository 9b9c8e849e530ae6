// Which recipes the shared properties of gates are not asked of, and why. Every gate of systems.tsv that is not named here has
// to have every property, those that come later included.
#pragma once

#include "systems/systems_table.h"

#include <set>

namespace switchyard::systems {

struct Exemption {
  const char *property, *id, *why;
};

inline constexpr Exemption kExemptions[] = {
    {"RenamedExperts", "dselect-k", "the bits of an expert's number are its code: numbers cannot be exchanged"},
    {"RenamedExperts", "mole-gate", "the router reads outputs of all experts side by side: their order is part of what it has learned"},
    {"RenamedExperts", "flextron", "experts are widths of one network: their numbers are sizes"},

    {"RenamedTokens", "lory", "segments are made of the order of tokens"},
    {"RenamedTokens", "thor", "draws belong to the places of tokens in the step, also in evaluation"},

    {"PaddingInside", "thor", "draws belong to the places of tokens in the step: what stands before a token moves its draw"},

    {"Groups", "expert-choice", "the group is the call: an expert takes a share of all its tokens"},
    {"Groups", "upcycling-gates", "the group is the call: an expert takes a share of all its tokens"},

    {"AllChosen", "hierarchical-moe", "two softmaxes, one inside each group, multiply to another distribution than one softmax"},
    {"AllChosen", "m6t-prototyping", "one expert per prototype: with as many prototypes as experts every weight is 1"},
    {"AllChosen", "base-layer", "one expert per token by definition"},
    {"AllChosen", "rl-r", "one expert is drawn per token by definition"},
    {"AllChosen", "stablemoe", "one expert per token by definition"},
    {"AllChosen", "dselect-k", "how many experts work is learned, and weights come from codes instead of a softmax"},
    {"AllChosen", "dynmoe", "how many experts work is learned, and they weigh alike"},
    {"AllChosen", "soft-moe", "nothing is chosen: every expert works on means of tokens"},
    {"AllChosen", "omni-smola-gate", "nothing is chosen: every expert works on means of tokens"},
    {"AllChosen", "mole-gate", "weights come from outputs of experts, not from a router that reads tokens"},
    {"AllChosen", "homoe", "nothing is chosen: every expert works on means of tokens"},
    {"AllChosen", "hash-layer", "a table of one expert per key, without scores"},
    {"AllChosen", "thor", "one drawn expert, without scores"},
    {"AllChosen", "m2m-100", "the tag names the expert, without scores"},
    {"AllChosen", "demix", "the tag names the expert, without scores"},
    {"AllChosen", "pangu-sigma-rre", "a table of one expert per key, without scores"},

    {"Gradients", "dynmoe", "the choice passes its gradient straight through: it is no derivative by definition"},
    {"Gradients", "task-moe", "the choice passes its gradient straight through: it is no derivative by definition"},
    {"Gradients", "flextron", "the choice passes its gradient straight through: it is no derivative by definition"},
    {"TrainingGradients", "task-moe", "the choice passes its gradient straight through: it is no derivative by definition"},
    {"TrainingGradients", "flextron", "the choice passes its gradient straight through: it is no derivative by definition"},
    {"TrainingGradients", "dynmoe", "the choice passes its gradient straight through: it is no derivative by definition"},
    {"TrainingGradients", "rl-r", "the score function is no derivative of the loss value: reward and baseline are cut off from it"},
    {"InputGradients", "lory", "the first segment is routed by its own mean, cut off from the gradient"},

    {"NotANumberAlone", "homoe", "a slot is a mean over tokens, and the mean of NaN is NaN"},
    {"BrokenRouter", "homoe", "a slot is a mean over tokens with weights from all of them, and the mean of NaN is NaN"},
    {"NotANumberAlone", "omni-smola-gate", "a slot is a mean over tokens, and the mean of NaN is NaN"},
    {"BrokenRouter", "omni-smola-gate", "a slot is a mean over tokens with weights from all of them, and the mean of NaN is NaN"},
    {"NotANumberAlone", "soft-moe", "a slot is a mean over tokens, and the mean of NaN is NaN"},
    {"BrokenRouter", "soft-moe", "a slot is a mean over tokens with weights from all of them, and the mean of NaN is NaN"},
};

inline bool is_exempt(const std::string& property, const std::string& id) {
  for (const auto& e : kExemptions)
    if (e.property == property && e.id == id) return true;
  return false;
}

// Names of properties that were asked for: what an exemption may name.
inline std::set<std::string>& known_properties() {
  static std::set<std::string> names = {"InputGradients"};  // a part of Gradients and TrainingGradients
  return names;
}

// The gates of systems.tsv that must have `property`.
inline std::vector<System> gates_with(const std::string& property) {
  known_properties().insert(property);
  std::vector<System> out;
  for (const auto& row : rows()) {
    if (row.kind == "gate" && !is_exempt(property, row.id)) out.push_back(row);
  }
  return out;
}

}  // namespace switchyard::systems
