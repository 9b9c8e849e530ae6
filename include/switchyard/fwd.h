// Names only, for headers that pass these types on.
#pragma once

namespace switchyard {
class Communicator;
class Dispatcher;
class ExpertBank;
class Gate;
class LanguageModel;
class MoELayer;
class PagedCache;
class Tokenizer;
struct Checkpoint;
struct ConfigNode;
struct DispatchPlan;
struct GateInput;
struct ModelSpec;
struct Routing;
struct RoutingStats;
}  // namespace switchyard
