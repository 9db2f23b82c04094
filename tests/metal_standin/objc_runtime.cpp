#include "tests/metal_standin/objc_runtime.h"

#include "tests/metal_standin/standin.h"

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>
#include <unordered_map>

namespace gander::standin {
namespace {

struct Receiver {
  const Class* type = nullptr;
  bool is_class = false;
  bool alive = true;
  bool immortal = false;
};

// Everything that can get a message. Released objects stay in it, dead. Never destroyed: static
// objects may outlive it otherwise.
struct Runtime {
  std::mutex mutex;
  std::unordered_map<const void*, Receiver> receivers;
  std::map<std::string_view, const Class*> classes;
  std::set<std::string, std::less<>> selectors;
};

Runtime& runtime() {
  static Runtime* const instance = new Runtime;
  return *instance;
}

bool selector_is_registered(Selector selector) {
  const auto found = runtime().selectors.find(std::string_view(selector));
  return found != runtime().selectors.end() && found->c_str() == selector;
}

bool exists(const Method& method) {
  return method.since <= settings().macos_version;
}

struct Root {  // what every object understands
  static Object* self(Object* object, Selector) { return object; }
  static bool responds(Object* object, Selector, Selector selector) {
    return object->type().find(selector) != nullptr;
  }
  static const Class* type(Object* object, Selector) { return &object->type(); }
};

template <typename F>
Implementation implementation(F* function) {
  return reinterpret_cast<Implementation>(function);
}

const Method* find_in(std::span<const Method> methods, std::string_view selector) {
  for (const Method& method : methods) {
    if (method.selector == selector) return exists(method) ? &method : nullptr;
  }
  return nullptr;
}

std::span<const Method> root_methods() {
  static const Method methods[] = {
      method<&Object::retain>("retain"),
      method<&Object::release>("release"),
      method<&Object::autorelease>("autorelease"),
      method<&Object::retain_count>("retainCount"),
      {"init", implementation(&Root::self)},
      {"self", implementation(&Root::self)},
      {"class", implementation(&Root::type)},
      {"respondsToSelector:", implementation(&Root::responds)},
  };
  return methods;
}

}  // namespace

void misuse_line(const std::string& line) {
  std::fflush(stdout);
  std::fprintf(stderr, "Metal stand-in: %s\n", line.c_str());
  std::abort();
}

Class::Class(std::string_view name, std::vector<Method> methods, std::vector<Method> class_methods,
             int since)
    : name_(name),
      methods_(std::move(methods)),
      class_methods_(std::move(class_methods)),
      since_(since) {
  std::lock_guard lock(runtime().mutex);
  runtime().receivers[this] = {.type = this, .is_class = true};
  runtime().classes[name_] = this;
}

Class::Class(std::string_view name, std::vector<Method> methods)
    : name_(name), methods_(std::move(methods)) {}

Class::~Class() {
  std::lock_guard lock(runtime().mutex);
  runtime().receivers.erase(this);
  runtime().classes.erase(name_);
}

const Method* Class::find(std::string_view selector) const {
  const Method* found = find_in(methods_, selector);
  return found != nullptr ? found : find_in(root_methods(), selector);
}

const Method* Class::find_class_method(std::string_view selector) const {
  return find_in(class_methods_, selector);
}

bool Class::available() const {
  return since_ <= settings().macos_version;
}

Object::Object(const Class& type) : type_(type) {
  std::lock_guard lock(runtime().mutex);
  runtime().receivers[this] = {.type = &type};
}

Object::~Object() {
  std::lock_guard lock(runtime().mutex);
  runtime().receivers[this].alive = false;
}

Object* Object::retain() {
  ++count_;
  return this;
}

void Object::release() {
  const long left = --count_;
  if (left < 0) misuse("{}: released too often; who holds a reference?", type_.name());
  if (left > 0) return;
  if (immortal_) misuse("{}: a constant of the system was released too often", type_.name());
  delete this;
}

void Object::live_for_ever() {
  std::lock_guard lock(runtime().mutex);
  immortal_ = true;
  runtime().receivers[this].immortal = true;
}

bool is_alive(const Object* object) {
  std::lock_guard lock(runtime().mutex);
  const auto found = runtime().receivers.find(object);
  return found != runtime().receivers.end() && found->second.alive;
}

void require_object(const Object* argument, Selector selector) {
  std::lock_guard lock(runtime().mutex);
  const auto found = runtime().receivers.find(argument);
  if (found == runtime().receivers.end()) {
    misuse("{}: an argument, {}, is no object", selector, fmt::ptr(argument));
  }
  if (!found->second.alive) {
    misuse("{}: an argument, a {}, has been released; who holds a reference?", selector,
           found->second.type->name());
  }
}

std::map<std::string, int> live_objects() {
  std::lock_guard lock(runtime().mutex);
  std::map<std::string, int> counts;
  for (const auto& [address, receiver] : runtime().receivers) {
    if (receiver.alive && !receiver.is_class && !receiver.immortal) {
      ++counts[std::string(receiver.type->name())];
    }
  }
  return counts;
}

}  // namespace gander::standin

using gander::standin::Class;
using gander::standin::Implementation;
using gander::standin::misuse;
using gander::standin::Object;
using gander::standin::runtime;
using gander::standin::Selector;

extern "C" {

Selector sel_registerName(const char* name) {
  std::lock_guard lock(runtime().mutex);
  return runtime().selectors.emplace(name).first->c_str();
}

const char* sel_getName(Selector selector) {
  return selector;
}

const Class* objc_lookUpClass(const char* name) {
  std::lock_guard lock(runtime().mutex);
  const auto found = runtime().classes.find(name);
  return found != runtime().classes.end() && found->second->available() ? found->second : nullptr;
}

const Class* objc_getClass(const char* name) {
  return objc_lookUpClass(name);
}

const char* object_getClassName(Object* object) {
  return object == nullptr ? "nil" : object->type().name().data();
}

Object* objc_retain(Object* object) {
  return object == nullptr ? nullptr : object->retain();
}

void objc_release(Object* object) {
  if (object != nullptr) object->release();
}

Object* objc_autorelease(Object* object) {
  return object == nullptr ? nullptr : object->autorelease();
}

/// The method that answers `selector`; objc_msgSend (message_send.cpp) jumps to it.
Implementation gander_standin_find_method(const void* receiver, Selector selector) {
  std::lock_guard lock(runtime().mutex);
  if (!gander::standin::selector_is_registered(selector)) {
    misuse("a message's selector is not from sel_registerName");
  }
  const auto found = runtime().receivers.find(receiver);
  if (found == runtime().receivers.end()) {
    misuse("'{}' was sent to {}, where no object ever was", selector, fmt::ptr(receiver));
  }
  const auto& [type, is_class, alive, immortal] = found->second;
  if (!alive) {
    misuse("-[{} {}]: the object has been released; who holds a reference?", type->name(),
           selector);
  }
  const auto* method = is_class ? type->find_class_method(selector) : type->find(selector);
  if (method == nullptr) {
    misuse("{}[{} {}]: unrecognized selector, on macOS {}", is_class ? '+' : '-', type->name(),
           selector, gander::standin::settings().macos_version);
  }
  return method->implementation;
}

}  // extern "C"
