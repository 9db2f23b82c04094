#include "tests/metal_standin/foundation.h"

#include "tests/metal_standin/standin.h"

namespace gander::standin {
namespace {

constexpr UInteger kUtf8Encoding = 4;  // NSUTF8StringEncoding
constexpr UInteger kAsciiEncoding = 1;

// Bytes that are not the second, third or fourth of a character; characters beyond U+FFFF take two
// UTF-16 units.
UInteger utf16_length(std::string_view text) {
  UInteger units = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte & 0xc0) != 0x80) ++units;
    if (byte >= 0xf0) ++units;
  }
  return units;
}

// Whether every lead byte has its continuation bytes. Overlong forms pass.
bool is_utf8(std::string_view text) {
  std::size_t missing = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool continues = (byte & 0xc0) == 0x80;
    if (continues != (missing > 0)) return false;
    if (continues) {
      --missing;
    } else if (byte >= 0xf8) {
      return false;
    } else {
      missing = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : byte >= 0xc0 ? 1 : 0;
    }
  }
  return missing == 0;
}

class ProcessInfo : public Object {
 public:
  ProcessInfo() : Object(kClass) { live_for_ever(); }

 private:
  static ProcessInfo* shared() {
    static ProcessInfo* const instance = new ProcessInfo;
    return instance;
  }
  OperatingSystemVersion version() { return {settings().macos_version, 0, 0}; }
  String* version_string() {
    return autoreleased(string(fmt::format("Version {}.0 (Build 99Z9)", settings().macos_version)));
  }
  bool at_least(OperatingSystemVersion wanted) {
    return settings().macos_version > wanted.major ||
           (settings().macos_version == wanted.major && wanted.minor == 0 && wanted.patch == 0);
  }
  static const Class kClass;
};

const Class ProcessInfo::kClass{
    "NSProcessInfo",
    {method<&ProcessInfo::version>("operatingSystemVersion"),
     method<&ProcessInfo::version_string>("operatingSystemVersionString"),
     method<&ProcessInfo::at_least>("isOperatingSystemAtLeastVersion:")},
    {method<&ProcessInfo::shared>("processInfo")}};

}  // namespace

String::String() : Object(kClass) {}
String::String(std::string text) : Object(kClass), text_(std::move(text)) {}

UInteger String::length() {
  return utf16_length(text_);
}

bool String::equals(String* other) {
  return other != nullptr && other->text_ == text_;
}

Object* String::init_utf8(const char* text) {
  if (text == nullptr) misuse("-[NSString initWithUTF8String:] with NULL");
  text_ = text;
  return this;
}

Object* String::init_bytes(const void* bytes, UInteger length, UInteger encoding) {
  if (encoding != kUtf8Encoding && encoding != kAsciiEncoding) {
    misuse("-[NSString initWithBytes:length:encoding:] with encoding {}: 4 is UTF-8", encoding);
  }
  text_.assign(static_cast<const char*>(bytes), length);
  return this;
}

String* String::with_utf8(const char* text) {
  if (text == nullptr) misuse("+[NSString stringWithUTF8String:] with NULL");
  if (!is_utf8(text)) return nullptr;
  return autoreleased(string(text));
}

Ref<String> string(std::string_view text) {
  return make<String>(std::string(text));
}

std::string text_of(const String* string) {
  return string == nullptr ? "" : string->text();
}

Number::Number(long long value) : Object(kClass), value_(value) {}
Number* Number::with_unsigned(UInteger value) {
  return autoreleased(make<Number>(static_cast<long long>(value)));
}
Number* Number::with_bool(bool value) {
  return autoreleased(make<Number>(value ? 1 : 0));
}

Array::Array(std::vector<Ref<Object>> items) : Object(kClass), items_(std::move(items)) {}

Object* Array::at(UInteger index) {
  if (index >= items_.size()) {
    misuse("-[NSArray objectAtIndex:{}] of an array of {}", index, items_.size());
  }
  return items_[index].get();
}

Array* Array::with_object(Object* object) {
  return with_objects(&object, 1);
}

Array* Array::with_objects(Object* const* objects, UInteger count) {
  std::vector<Ref<Object>> items;
  for (UInteger i = 0; i < count; ++i) {
    if (objects[i] == nullptr) misuse("+[NSArray arrayWithObjects:count:]: object {} is nil", i);
    items.emplace_back(objects[i]);
  }
  return autoreleased(make<Array>(std::move(items)));
}

Dictionary::Dictionary(std::map<std::string, Ref<Object>> items)
    : Object(kClass), items_(std::move(items)) {}

Object* Dictionary::object_for(String* key) {
  const auto found = items_.find(text_of(key));
  return found == items_.end() ? nullptr : found->second.get();
}

Dictionary* Dictionary::with_object(Object* object, String* key) {
  return with_objects(&object, &key, 1);
}

Dictionary* Dictionary::with_objects(Object* const* objects, String* const* keys, UInteger count) {
  std::map<std::string, Ref<Object>> items;
  for (UInteger i = 0; i < count; ++i) {
    if (objects[i] == nullptr || keys[i] == nullptr) {
      misuse("+[NSDictionary dictionaryWithObjects:forKeys:count:]: entry {} is nil", i);
    }
    items[keys[i]->text()] = Ref<Object>(objects[i]);
  }
  return autoreleased(make<Dictionary>(std::move(items)));
}

Url::Url(std::string path) : Object(kClass), path_(std::move(path)) {}

Url* Url::file_url(String* path) {
  if (path == nullptr) misuse("+[NSURL fileURLWithPath:] with nil");
  return autoreleased(make<Url>(path->text()));
}
Url* Url::file_url_with_kind(String* path, bool) {
  return file_url(path);
}
String* Url::path() {
  return autoreleased(string(path_));
}

Error::Error(std::string domain, long code, std::string description,
             std::map<std::string, Ref<Object>> details)
    : Object(kClass),
      domain_(string(domain)),
      code_(code),
      description_(string(description)),
      details_(make<Dictionary>(std::move(details))) {}

std::nullptr_t fail_with(Error** error, std::string domain, long code, std::string description) {
  if (error != nullptr) {
    *error = autoreleased(make<Error>(std::move(domain), code, std::move(description)));
  }
  return nullptr;
}

const Class String::kClass{
    "NSString",
    {method<&String::utf8>("UTF8String"), method<&String::length>("length"),
     method<&String::equals>("isEqualToString:"), method<&String::init_utf8>("initWithUTF8String:"),
     method<&String::init_bytes>("initWithBytes:length:encoding:")},
    {method<&allocate<String>>("alloc"), method<&String::with_utf8>("stringWithUTF8String:")}};

const Class Number::kClass{"NSNumber",
                           {method<&Number::unsigned_value>("unsignedIntegerValue"),
                            method<&Number::unsigned_value>("unsignedLongLongValue"),
                            method<&Number::bool_value>("boolValue")},
                           {method<&Number::with_unsigned>("numberWithUnsignedInteger:"),
                            method<&Number::with_unsigned>("numberWithUnsignedLongLong:"),
                            method<&Number::with_bool>("numberWithBool:")}};

const Class Array::kClass{"NSArray",
                          {method<&Array::count>("count"), method<&Array::at>("objectAtIndex:")},
                          {method<&Array::with_object>("arrayWithObject:"),
                           method<&Array::with_objects>("arrayWithObjects:count:")}};

const Class Dictionary::kClass{
    "NSDictionary",
    {method<&Dictionary::count>("count"), method<&Dictionary::object_for>("objectForKey:")},
    {method<&Dictionary::with_object>("dictionaryWithObject:forKey:"),
     method<&Dictionary::with_objects>("dictionaryWithObjects:forKeys:count:")}};

const Class Url::kClass{"NSURL",
                        {method<&Url::path>("path")},
                        {method<&Url::file_url>("fileURLWithPath:"),
                         method<&Url::file_url_with_kind>("fileURLWithPath:isDirectory:")}};

const Class Error::kClass{"NSError",
                          {method<&Error::domain>("domain"), method<&Error::code>("code"),
                           method<&Error::localized_description>("localizedDescription"),
                           method<&Error::user_info>("userInfo")},
                          {}};

}  // namespace gander::standin
