#pragma once

#include <string_view>

#include "engine/grammar/pushdown.h"

namespace gander {

/// The texts of the values that a JSON schema accepts, in one form: properties in the schema's
/// order, one optional space after commas and colons, one optional space or line end before the
/// value. Every text is valid by the schema; not every valid value has a text
/// (docs/structured-output.md). Throws Error that names the place and the keyword where the schema
/// is wrong, asks for what is not supported, or accepts nothing.
Pushdown compile_schema(std::string_view schema);

}  // namespace gander
