#pragma once

#include "tests/metal_standin/objc_runtime.h"

#include <optional>

// The classes of Foundation that programs meet through Metal.
namespace gander::standin {

class String : public Object {
 public:
  String();
  explicit String(std::string text);

  const std::string& text() const { return text_; }

 private:
  const char* utf8() { return text_.c_str(); }
  UInteger length();
  bool equals(String* other);
  Object* init_utf8(const char* text);
  Object* init_bytes(const void* bytes, UInteger length, UInteger encoding);
  static String* with_utf8(const char* text);
  static const Class kClass;

  std::string text_;
};

/// A new NSString; empty text for nil.
Ref<String> string(std::string_view text);
std::string text_of(const String* string);

class Number : public Object {
 public:
  explicit Number(long long value);
  long long value() const { return value_; }

 private:
  static Number* with_unsigned(UInteger value);
  static Number* with_bool(bool value);
  UInteger unsigned_value() { return static_cast<UInteger>(value_); }
  bool bool_value() { return value_ != 0; }
  static const Class kClass;

  long long value_;
};

class Array : public Object {
 public:
  explicit Array(std::vector<Ref<Object>> items);
  const std::vector<Ref<Object>>& items() const { return items_; }

 private:
  UInteger count() { return items_.size(); }
  Object* at(UInteger index);
  static Array* with_object(Object* object);
  static Array* with_objects(Object* const* objects, UInteger count);
  static const Class kClass;

  std::vector<Ref<Object>> items_;
};

/// Keys are strings.
class Dictionary : public Object {
 public:
  explicit Dictionary(std::map<std::string, Ref<Object>> items);
  const std::map<std::string, Ref<Object>>& items() const { return items_; }

 private:
  Object* object_for(String* key);
  UInteger count() { return items_.size(); }
  static Dictionary* with_object(Object* object, String* key);
  static Dictionary* with_objects(Object* const* objects, String* const* keys, UInteger count);
  static const Class kClass;

  std::map<std::string, Ref<Object>> items_;
};

class Url : public Object {
 public:
  explicit Url(std::string path);
  const std::string& file() const { return path_; }

 private:
  static Url* file_url(String* path);
  static Url* file_url_with_kind(String* path, bool is_folder);
  String* path();
  static const Class kClass;

  std::string path_;
};

class Error : public Object {
 public:
  Error(std::string domain, long code, std::string description,
        std::map<std::string, Ref<Object>> details = {});

  long code() { return code_; }
  String* localized_description() { return description_.get(); }

 private:
  String* domain() { return domain_.get(); }
  Dictionary* user_info() { return details_.get(); }
  static const Class kClass;

  Ref<String> domain_;
  long code_;
  Ref<String> description_;
  Ref<Dictionary> details_;
};

/// What a method with an `error:` argument does when it fails: stores an autoreleased NSError
/// there, if the caller wants one, and returns nil.
std::nullptr_t fail_with(Error** error, std::string domain, long code, std::string description);

struct OperatingSystemVersion {
  long major, minor, patch;
};

}  // namespace gander::standin
