#pragma once

#include <cstddef>
#include <functional>

namespace gander {

/// Calls work(i) once for every i < count, on up to `threads` threads (at least 1, the caller
/// included), and returns when all are done. Which thread takes which i is left to chance, so
/// results must not depend on it. `work` must not throw.
void parallel_for(unsigned threads, std::size_t count,
                  const std::function<void(std::size_t)>& work);

}  // namespace gander
