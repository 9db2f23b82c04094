#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/error.h"

// Objective-C from plain C++: messages, references, strings, errors and blocks, over the C
// functions of its runtime. Neither Apple's headers nor an Objective-C compiler are needed, so the
// same source is built and tested on Linux.

extern "C" {
void objc_msgSend();
void* objc_getClass(const char* name);
void* sel_registerName(const char* name);
void* objc_autoreleasePoolPush();
void objc_autoreleasePoolPop(void* pool);
// The names of the blocks' ABI.
// NOLINTBEGIN(bugprone-reserved-identifier)
void* _Block_copy(const void* block);
void _Block_release(const void* block);
extern void* _NSConcreteStackBlock[];
// NOLINTEND(bugprone-reserved-identifier)
}

namespace gander::gpu::metal {

using Id = void*;
using Selector = void*;
using UInteger = unsigned long;  // NSUInteger
using Integer = long;            // NSInteger

/// A reference to an object that somebody else owns. nil answers every message with zero or nil.
struct Object {
  Id id = nullptr;

  explicit operator bool() const { return id != nullptr; }
};

template <typename T>
inline constexpr bool kIsObject = std::is_base_of_v<Object, T>;

/// The name of a method, as a template argument.
template <std::size_t Size>
struct SelectorName {
  char text[Size] = {};

  // NOLINTNEXTLINE(google-explicit-constructor): written as a literal, send<"retain">
  constexpr SelectorName(const char (&name)[Size]) { std::copy_n(name, Size, text); }
  constexpr std::size_t arguments() const { return std::count(text, text + Size, ':'); }
};

template <SelectorName Name>
Selector selector() {
  static const Selector registered = sel_registerName(Name.text);
  return registered;
}

/// How a type travels through a message: objects as their pointers.
template <typename T>
using Passed = std::conditional_t<kIsObject<T>, Id, T>;

/// A method whose parameter has 64 bits reads garbage in the upper half of an `int`.
template <typename T>
inline constexpr bool kPassedWhole =
    std::is_same_v<T, bool> || !(std::is_integral_v<T> || std::is_enum_v<T>) || sizeof(T) == 8;

template <typename T>
Passed<T> pass(const T& value) {
  if constexpr (kIsObject<T>) {
    return value.id;
  } else {
    return value;
  }
}

/// [receiver name: arguments...]. objc_msgSend is called as what the method is: a function with
/// exactly these parameters. Structures are passed but never returned: on Intel that takes another
/// function.
template <SelectorName Name, typename Result = void, typename... Arguments>
Result send(Object receiver, Arguments... arguments) {
  static_assert(Name.arguments() == sizeof...(Arguments), "a selector has a colon an argument");
  static_assert((kPassedWhole<Arguments> && ...), "integers and enumerations must have 64 bits");
  using Method = Passed<Result> (*)(Id, Selector, Passed<Arguments>...);
  const auto method = reinterpret_cast<Method>(objc_msgSend);
  if constexpr (kIsObject<Result>) {
    return Result{{method(receiver.id, selector<Name>(), pass(arguments)...)}};
  } else {
    return method(receiver.id, selector<Name>(), pass(arguments)...);
  }
}

/// Whether the object has the method: how newer parts of Metal are told from what is there.
template <SelectorName Name>
bool responds_to(Object object) {
  return send<"respondsToSelector:", bool>(object, selector<Name>());
}

/// Owns one reference to an object, or is empty. Made from what methods called new..., alloc, copy
/// return; everything else must be retained.
template <typename T>
class Retained {
 public:
  Retained() = default;
  explicit Retained(T owned) : object_(owned) {}
  Retained(Retained&& other) noexcept : object_(std::exchange(other.object_, T{})) {}
  Retained& operator=(Retained&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  Retained(const Retained&) = delete;
  Retained& operator=(const Retained&) = delete;
  ~Retained() {
    if (object_) send<"release">(object_);
  }

  explicit operator bool() const { return object_.id != nullptr; }
  T get() const { return object_; }
  const T* operator->() const { return &object_; }

 private:
  T object_;
};

template <typename T>
Retained<T> retain(T object) {
  return Retained<T>(send<"retain", T>(object));
}

/// The class called `name`. Throws Error when this system does not have it.
Object class_named(const char* name);

/// [[Class alloc] init], of the class T::kClass.
template <typename T>
Retained<T> make_object() {
  return Retained<T>(send<"init", T>(send<"alloc", Object>(class_named(T::kClass))));
}

/// Objects that methods return without an owner live until the innermost pool of their thread ends.
class AutoreleasePool {
 public:
  AutoreleasePool() : pool_(objc_autoreleasePoolPush()) {}
  ~AutoreleasePool() { objc_autoreleasePoolPop(pool_); }
  AutoreleasePool(const AutoreleasePool&) = delete;
  AutoreleasePool& operator=(const AutoreleasePool&) = delete;

 private:
  void* pool_;
};

struct String : Object {};

/// An NSString, owned by the pool. Throws Error when `text` is not UTF-8.
String make_string(const std::string& text);
/// Its bytes; of nil none.
std::string to_text(String string);

struct Array : Object {
  UInteger count() const { return send<"count", UInteger>(*this); }
  template <typename T>
  T at(UInteger index) const {
    return send<"objectAtIndex:", T>(*this, index);
  }
};

/// An NSArray with one object, owned by the pool.
Array make_array(Object object);

struct Url : Object {};

/// An NSURL of a file, owned by the pool.
Url make_file_url(const std::string& path);

struct NSError : Object {
  Integer code() const { return send<"code", Integer>(*this); }
  /// What userInfo holds under a key.
  template <typename T>
  T info(String key) const {
    return send<"objectForKey:", T>(send<"userInfo", Object>(*this), key);
  }
};

/// What the error says, on one line; of nil "no reason given".
std::string describe(NSError error);

/// An Objective-C block that calls a C++ function object with the one object it is given. It lives
/// on the heap and is counted by whoever keeps it: handing it out again allocates nothing, and the
/// function lives until the last call is over, even when the owner is gone.
template <typename Function>
class Block {
 public:
  explicit Block(Function function) {
    static const Descriptor descriptor = {0, sizeof(Literal), copy, dispose};
    const Literal literal = {
        _NSConcreteStackBlock, kHasCopyDispose | kHasConstructor, 0, invoke, &descriptor,
        std::move(function)};
    heap_ = _Block_copy(&literal);
    if (heap_ == nullptr) fail("out of memory for a block of {} bytes", sizeof(Literal));
  }
  ~Block() { _Block_release(heap_); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  /// To pass as an argument.
  Id get() const { return heap_; }

 private:
  // The layout and the flags are those of clang's Block-ABI-Apple.
  static constexpr int kHasCopyDispose = 1 << 25, kHasConstructor = 1 << 26;
  struct Descriptor;
  struct Literal {
    void* isa;
    int flags, reserved;
    void (*invoke)(Literal*, Id);
    const Descriptor* descriptor;
    Function function;
  };
  struct Descriptor {
    unsigned long reserved, size;
    void (*copy)(Literal* to, const Literal* from);
    void (*dispose)(Literal*);
  };

  static void invoke(Literal* block, Id argument) { block->function(Object{argument}); }
  // The runtime has moved the bytes; the function object in them is not alive until here.
  static void copy(Literal* to, const Literal* from) {
    std::construct_at(&to->function, from->function);
  }
  static void dispose(Literal* block) { std::destroy_at(&block->function); }

  void* heap_ = nullptr;
};

}  // namespace gander::gpu::metal
