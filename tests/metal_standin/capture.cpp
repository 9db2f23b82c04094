#include "tests/metal_standin/foundation.h"
#include "tests/metal_standin/standin.h"

#include <filesystem>

// MTLCaptureManager: a capture is a folder with the ending .gputrace.
namespace gander::standin {
namespace {

constexpr long kGpuTraceDocument = 2;  // MTLCaptureDestination
constexpr char kCaptureDomain[] = "MTLCaptureErrorDomain";
constexpr long kNotSupported = 1, kAlreadyCapturing = 2, kInvalidDescriptor = 3;

class CaptureDescriptor : public Object {
 public:
  CaptureDescriptor() : Object(kClass) {}

  void set_object(Object* object) { object_ = object; }
  void set_destination(long destination) { destination_ = destination; }
  void set_url(Url* url) { url_ = url; }

  Ref<Object> object_;
  long destination_ = 1;
  Ref<Url> url_;

 private:
  static const Class kClass;
};

class CaptureManager : public Object {
 public:
  CaptureManager() : Object(kClass) { live_for_ever(); }

  static CaptureManager* shared() {
    static CaptureManager* const instance = new CaptureManager;
    return instance;
  }

 private:
  // Traces are written only where the environment or the Info.plist allows it.
  bool supports(long destination) {
    return destination == kGpuTraceDocument && settings().capture_enabled;
  }
  bool start(CaptureDescriptor* descriptor, Error** error);
  void stop();
  bool is_capturing() { return capturing_; }
  static const Class kClass;

  bool capturing_ = false;
};

bool CaptureManager::start(CaptureDescriptor* descriptor, Error** error) {
  if (descriptor == nullptr || !descriptor->object_) misuse("startCapture: nothing to capture");
  auto fail = [error](long code, const char* description) {
    fail_with(error, kCaptureDomain, code, description);
    return false;
  };
  if (!supports(descriptor->destination_)) {
    return fail(kNotSupported, "Capture layer is not inserted.");
  }
  if (capturing_) return fail(kAlreadyCapturing, "Capture is already in progress");
  if (!descriptor->url_ || !descriptor->url_->file().ends_with(".gputrace")) {
    return fail(kInvalidDescriptor, "Output URL must have the extension .gputrace");
  }
  std::error_code failed;
  if (!std::filesystem::create_directory(descriptor->url_->file(), failed)) {
    return fail(kInvalidDescriptor, "Output URL already exists or cannot be written");
  }
  capturing_ = true;
  return true;
}

void CaptureManager::stop() {
  if (!capturing_) misuse("stopCapture without a capture");
  capturing_ = false;
}

const Class CaptureDescriptor::kClass{
    "MTLCaptureDescriptor",
    {method<&CaptureDescriptor::set_object>("setCaptureObject:"),
     method<&CaptureDescriptor::set_destination>("setDestination:"),
     method<&CaptureDescriptor::set_url>("setOutputURL:")},
    {method<&allocate<CaptureDescriptor>>("alloc"), method<&allocate<CaptureDescriptor>>("new")}};

const Class CaptureManager::kClass{
    "MTLCaptureManager",
    {method<&CaptureManager::supports>("supportsDestination:"),
     method<&CaptureManager::start>("startCaptureWithDescriptor:error:"),
     method<&CaptureManager::stop>("stopCapture"),
     method<&CaptureManager::is_capturing>("isCapturing")},
    {method<&CaptureManager::shared>("sharedCaptureManager")}};

}  // namespace
}  // namespace gander::standin
