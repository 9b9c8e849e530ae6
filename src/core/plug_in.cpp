#include "switchyard/plug_in.h"

#include "base/nearest_name.h"
#include "switchyard/error.h"

namespace switchyard {

void unknown_plug_in(const std::string& kind, const BlockSpec& wanted, const std::vector<std::string>& known) {
  fail(ErrorKind::config, "{}there is no {} '{}'{}", wanted.options.location(), kind, wanted.kind, suggestion(wanted.kind, known));
}

}  // namespace switchyard
