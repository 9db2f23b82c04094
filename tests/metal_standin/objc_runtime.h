#pragma once

#include <fmt/format.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

// The Objective-C runtime on Linux, as far as a program notices that talks to it through
// objc_msgSend: objects with reference counts, classes with methods, selectors. Stricter than
// Apple's: a message to something that is no object any more, or that its class does not
// understand, ends the program with a line that says so.
namespace gander::standin {

/// Ends the program: the message is one line that names the object and what was done wrong.
[[noreturn]] void misuse_line(const std::string& line);
template <typename... Args>
[[noreturn]] void misuse(fmt::format_string<Args...> format, Args&&... args) {
  misuse_line(fmt::format(format, std::forward<Args>(args)...));
}

using Selector = const char*;       // as sel_registerName returned it
using Implementation = void (*)();  // takes (self, selector, arguments...)
using UInteger = unsigned long;     // NSUInteger

struct Method {
  std::string_view selector;
  Implementation implementation = nullptr;
  int since = 0;  ///< the macOS version that brought it; older simulated systems do not have it
};

/// What objects of one kind understand, and by `class_methods` what the class itself does.
/// Instances are static, in the file of the objects they describe.
class Class {
 public:
  /// A class that programs find by its name (objc_getClass).
  Class(std::string_view name, std::vector<Method> methods, std::vector<Method> class_methods,
        int since = 0);
  /// The kind of objects that only other objects make: Metal's protocols.
  Class(std::string_view name, std::vector<Method> methods);
  ~Class();
  Class(const Class&) = delete;
  Class& operator=(const Class&) = delete;

  std::string_view name() const { return name_; }
  const Method* find(std::string_view selector) const;
  const Method* find_class_method(std::string_view selector) const;
  bool available() const;

 private:
  std::string_view name_;
  std::vector<Method> methods_, class_methods_;
  int since_ = 0;
};

/// An object with a reference count, 1 when made. Registered while it lives, so that messages to
/// released objects and leaks are seen.
class Object {
 public:
  explicit Object(const Class& type);
  virtual ~Object();
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  /// Keeps the memory: no other object may appear where a released one is still talked to.
  static void operator delete(void*) {}
  /// Not inlined: GCC would miss the operator delete that belongs to it, and warn.
  [[gnu::noinline]] static void* operator new(std::size_t bytes) { return ::operator new(bytes); }

  const Class& type() const { return type_; }
  Object* retain();
  void release();
  Object* autorelease();
  UInteger retain_count() { return static_cast<UInteger>(count_.load()); }
  /// A constant of the system: never released, and no leak.
  void live_for_ever();

 private:
  const Class& type_;
  std::atomic<long> count_{1};
  bool immortal_ = false;
};

/// Whether the object that was at this address still lives.
bool is_alive(const Object* object);

/// Objects that live, by class; constants of the system left out.
std::map<std::string, int> live_objects();

/// Owns one reference.
template <typename T>
class Ref {
 public:
  Ref() = default;
  Ref(T* object) : object_(object) {  // NOLINT(google-explicit-constructor): like a pointer
    if (object_ != nullptr) object_->retain();
  }
  Ref(const Ref& other) : Ref(other.object_) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() {
    if (object_ != nullptr) object_->release();
  }
  /// Takes over the reference that making the object gave.
  static Ref adopt(T* object) {
    Ref ref;
    ref.object_ = object;
    return ref;
  }

  T* get() const { return object_; }
  T* operator->() const { return object_; }
  T& operator*() const { return *object_; }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  T* object_ = nullptr;
};

template <typename T, typename... Args>
Ref<T> make(Args&&... args) {
  return Ref<T>::adopt(new T(std::forward<Args>(args)...));
}

/// For methods whose names do not begin with alloc, new, copy or mutableCopy.
template <typename T>
T* autoreleased(const Ref<T>& object) {
  if (object) object->retain()->autorelease();
  return object.get();
}

/// For those whose names do: the caller owns the reference.
template <typename T>
T* owned(const Ref<T>& object) {
  if (object) object->retain();
  return object.get();
}

/// Ends the program when an argument of the message is no object, or one that has been released.
void require_object(const Object* argument, Selector selector);

template <typename T>
void check_argument([[maybe_unused]] T argument, [[maybe_unused]] Selector selector) {
  if constexpr (std::is_pointer_v<T>) {
    using Wanted = std::remove_pointer_t<T>;
    if constexpr (std::is_base_of_v<Object, Wanted>) {
      if (argument == nullptr) return;
      require_object(argument, selector);
      if (dynamic_cast<Wanted*>(static_cast<Object*>(argument)) == nullptr) {
        misuse("{}: an argument is of the wrong class, {}", selector, argument->type().name());
      }
    }
  }
}

/// The C function that calls a member function (on the receiver) or a function (of a class).
template <auto kFunction>
struct Bound;
template <typename C, typename R, typename... Args, R (C::*kFunction)(Args...)>
struct Bound<kFunction> {
  static R call(Object* self, [[maybe_unused]] Selector selector, Args... args) {
    (check_argument(args, selector), ...);
    return (static_cast<C*>(self)->*kFunction)(args...);
  }
};
template <typename R, typename... Args, R (*kFunction)(Args...)>
struct Bound<kFunction> {
  static R call(const Class*, Selector, Args... args) { return kFunction(args...); }
};
template <auto kFunction>
Method method(std::string_view selector, int since = 0) {
  return {selector, reinterpret_cast<Implementation>(&Bound<kFunction>::call), since};
}

/// +alloc of a class whose objects need nothing to be made; -init then returns them as they are.
template <typename T>
T* allocate() {
  return new T;
}

}  // namespace gander::standin

extern "C" {
void* objc_autoreleasePoolPush();
void objc_autoreleasePoolPop(void* pool);
}
