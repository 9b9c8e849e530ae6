// Kinds of plug-ins that have no public header of their own.
#pragma once

#include "switchyard/dispatch_plan.h"
#include "switchyard/plug_in.h"

namespace switchyard {

using PriorityEntry = PlugIn<Priority>;
Registry<PriorityEntry>& priority_registry();

}  // namespace switchyard
