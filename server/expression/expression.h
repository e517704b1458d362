#pragma once

/// The expression language: everything that other modules use.
#include "server/expression/condition.h"
#include "server/expression/key_condition.h"
#include "server/expression/legacy.h"
#include "server/expression/placeholders.h"
#include "server/expression/projection.h"
#include "server/expression/update.h"
