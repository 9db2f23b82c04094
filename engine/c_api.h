#pragma once

#include "engine/model.h"
#include "gander/gander.h"

// What the interfaces for C and C++ share.

struct gander_model {
  gander::Model model;
};
