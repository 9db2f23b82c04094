#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace gander {

/// So many bytes of zeros, untouched: the system provides a page when it is used. Much memory lies
/// in large pages where there are any, for mapping small ones one by one takes longer than filling
/// them. Throws std::bad_alloc.
void* allocate_zeros(std::size_t bytes);
void free_zeros(void* memory, std::size_t bytes) noexcept;

/// For vectors that are made with their size and keep it: their elements are zeros without being
/// written.
template <typename Element>
struct ZeroedAllocator {
  using value_type = Element;

  ZeroedAllocator() = default;
  template <typename Other>
  explicit ZeroedAllocator(const ZeroedAllocator<Other>&) {}

  Element* allocate(std::size_t count) {
    if (count > SIZE_MAX / sizeof(Element)) throw std::bad_array_new_length();
    return static_cast<Element*>(allocate_zeros(count * sizeof(Element)));
  }
  void deallocate(Element* elements, std::size_t count) noexcept {
    free_zeros(elements, count * sizeof(Element));
  }

  void construct(Element*) noexcept {}
  template <typename... Arguments>
  void construct(Element* element, Arguments&&... arguments) {
    ::new (static_cast<void*>(element)) Element(std::forward<Arguments>(arguments)...);
  }

  bool operator==(const ZeroedAllocator&) const = default;
};

}  // namespace gander
