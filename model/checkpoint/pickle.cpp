#include "model/checkpoint/pickle.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "model/checkpoint/byte_reader.h"
#include "model/checkpoint/pickle_opcodes.h"

namespace gander {

namespace {

// Memory grows with the length of the pickle, by about 60 bytes for each of its own.
constexpr std::size_t kLargestPickle = 8'000'000;

enum class Kind { Number, Bool, Text, Tuple, Dictionary, Global, Storage, Tensor };

using ValueId = std::uint32_t;

/// A Python value. Values refer to each other by number, so that shared and cyclic ones are no
/// special case; nothing ever follows the references deeper than a tensor's arguments.
struct Value {
  Kind kind;
  std::int64_t number = 0;
  std::string_view text;       // of a Text; "module.name" of a Global comes from `globals_`
  std::vector<ValueId> items;  // of a Tuple; keys and values in turn of a Dictionary; the
                               // persistent id of a Storage; the arguments of a Tensor
};

constexpr std::size_t kLongestGlobal = 256;
constexpr std::string_view kOrderedDict = "collections.OrderedDict";
constexpr std::string_view kRebuildTensor = "torch._utils._rebuild_tensor_v2";

bool is_storage_class(std::string_view global) {
  return global.starts_with("torch.") && global.ends_with("Storage") &&
         global.find('.', 6) == std::string_view::npos;
}

class PickleMachine {
 public:
  PickleMachine(std::span<const std::byte> pickle, const std::string& path)
      : path_(path), reader_(pickle, path) {}

  std::vector<PickledTensor> run();

 private:
  void execute(std::uint8_t opcode);

  ValueId push(Value value);
  void push_number(std::int64_t number) { push({Kind::Number, number, {}, {}}); }
  void push_text(std::uint64_t size) { push({Kind::Text, 0, as_text(take(size)), {}}); }
  void push_global(std::string_view module, std::string_view name);
  void push_tuple(std::size_t size);
  ValueId pop();
  std::vector<ValueId> pop_to_mark();
  ValueId top();
  Value& value(ValueId id) { return values_[id]; }

  void set_items(std::span<const ValueId> items);
  void reduce();
  void build();
  void persistent_id();
  void get(std::uint32_t index);
  void put(std::uint32_t index) { memo_[index] = top(); }
  std::int64_t long_number(std::size_t size);
  std::string_view line();
  std::span<const std::byte> take(std::uint64_t size) { return reader_.take(size, "data.pkl"); }
  template <typename T>
  T read() {
    return reader_.read<T>("data.pkl");
  }

  [[noreturn]] void fail_here(std::string_view what) const;
  std::uint64_t whole_number(ValueId id, const std::string& tensor, std::string_view what);
  std::vector<std::uint64_t> whole_numbers(ValueId id, const std::string& tensor,
                                           std::string_view what);
  PickledTensor tensor(ValueId name, ValueId id);
  std::vector<PickledTensor> state_dict();

  const std::string& path_;
  ByteReader reader_;
  std::uint64_t opcode_offset_ = 0;
  std::vector<Value> values_;
  std::vector<std::string> globals_;
  std::vector<ValueId> stack_;
  std::vector<std::size_t> marks_;  // heights of the stack
  std::unordered_map<std::uint32_t, ValueId> memo_;
};

void PickleMachine::fail_here(std::string_view what) const {
  fail("{}: data.pkl, offset {}: {}", path_, opcode_offset_, what);
}

ValueId PickleMachine::push(Value value) {
  const auto id = static_cast<ValueId>(values_.size());
  values_.push_back(std::move(value));
  stack_.push_back(id);
  return id;
}

ValueId PickleMachine::top() {
  const std::size_t floor = marks_.empty() ? 0 : marks_.back();
  if (stack_.size() <= floor) fail_here("the stack is empty where a value is needed");
  return stack_.back();
}

ValueId PickleMachine::pop() {
  const ValueId id = top();
  stack_.pop_back();
  return id;
}

std::vector<ValueId> PickleMachine::pop_to_mark() {
  if (marks_.empty()) fail_here("there is no mark on the stack where one is needed");
  const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  std::vector<ValueId> items(begin, stack_.end());
  stack_.erase(begin, stack_.end());
  marks_.pop_back();
  return items;
}

/// A tuple of the topmost values, for TUPLE1 to TUPLE3.
void PickleMachine::push_tuple(std::size_t size) {
  std::vector<ValueId> items(size);
  for (std::size_t i = size; i > 0; --i) items[i - 1] = pop();
  push({Kind::Tuple, 0, {}, std::move(items)});
}

std::string_view PickleMachine::line() {
  const std::uint64_t longest = std::min<std::uint64_t>(reader_.remaining(), kLongestGlobal);
  ByteReader ahead = reader_;
  const std::string_view text = as_text(ahead.take(longest, "data.pkl"));
  const std::size_t end = text.find('\n');
  if (end == std::string_view::npos) fail_here("a name does not end");
  take(end + 1);
  return text.substr(0, end);
}

void PickleMachine::push_global(std::string_view module, std::string_view name) {
  if (module.size() + name.size() > kLongestGlobal) fail_here("a global has a name without end");
  std::string global = fmt::format("{}.{}", module, name);
  if (global != kOrderedDict && global != kRebuildTensor && !is_storage_class(global)) {
    fail_here(
        fmt::format("it asks for {}; a pickle can run any code, so nothing but {} and {} "
                    "is accepted (save the plain state_dict of tensors)",
                    quote(global), kOrderedDict, kRebuildTensor));
  }
  push({Kind::Global, static_cast<std::int64_t>(globals_.size()), {}, {}});
  globals_.push_back(std::move(global));
}

void PickleMachine::set_items(std::span<const ValueId> items) {
  Value& target = value(top());
  if (target.kind != Kind::Dictionary) fail_here("items are set on what is no dictionary");
  if (items.size() % 2 != 0) fail_here("a key has no value");
  target.items.insert(target.items.end(), items.begin(), items.end());
}

void PickleMachine::reduce() {
  const ValueId arguments = pop();
  const ValueId callable = pop();
  if (value(callable).kind != Kind::Global || value(arguments).kind != Kind::Tuple) {
    fail_here("REDUCE needs a callable and a tuple");
  }
  const std::string& global = globals_[static_cast<std::size_t>(value(callable).number)];
  if (global == kOrderedDict) {
    if (!value(arguments).items.empty()) fail_here("OrderedDict is called with arguments");
    push({Kind::Dictionary, 0, {}, {}});
  } else if (global == kRebuildTensor) {
    constexpr std::size_t kFewest = 4, kMost = 7;
    if (const auto count = value(arguments).items.size(); count < kFewest || count > kMost) {
      fail_here(fmt::format("a tensor is made from {} arguments", count));
    }
    push({Kind::Tensor, 0, {}, value(arguments).items});
  } else {
    fail_here(fmt::format("{} is called; it is only a name of a type here", global));
  }
}

/// Sets attributes of an object. state_dicts of modules carry their version numbers in one, which
/// nothing needs.
void PickleMachine::build() {
  pop();
  if (value(top()).kind != Kind::Dictionary) fail_here("BUILD on what is no dictionary");
}

void PickleMachine::persistent_id() {
  const ValueId id = pop();
  const auto& items = value(id).items;
  const bool is_storage =
      value(id).kind == Kind::Tuple && items.size() == 5 && value(items[0]).kind == Kind::Text &&
      value(items[0]).text == "storage" && value(items[1]).kind == Kind::Global &&
      value(items[2]).kind == Kind::Text && value(items[4]).kind == Kind::Number;
  if (!is_storage) fail_here("a persistent id is not ('storage', type, key, device, size)");
  push({Kind::Storage, 0, {}, items});
}

void PickleMachine::get(std::uint32_t index) {
  const auto found = memo_.find(index);
  if (found == memo_.end()) fail_here(fmt::format("memo {} was never stored", index));
  stack_.push_back(found->second);
}

/// Two's complement, little endian, of any length up to 8 bytes.
std::int64_t PickleMachine::long_number(std::size_t size) {
  if (size > 8) fail_here(fmt::format("a number of {} bytes", size));
  const auto bytes = take(size);
  std::uint64_t number = 0;
  for (std::size_t i = 0; i < size; ++i) {
    number |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  }
  const bool negative = size > 0 && (std::to_integer<unsigned>(bytes[size - 1]) & 0x80U) != 0;
  if (negative && size < 8) number |= ~std::uint64_t{0} << (8 * size);
  return static_cast<std::int64_t>(number);
}

void PickleMachine::execute(std::uint8_t opcode) {
  switch (opcode) {
    case 0x80:  // PROTO
      if (const auto version = read<std::uint8_t>(); version < 2 || version > 5) {
        fail_here(fmt::format("pickle protocol {} cannot be read; 2 to 5 can", version));
      }
      return;
    case 0x95:  // FRAME
      read<std::uint64_t>();
      return;
    case '}':  // EMPTY_DICT
      push({Kind::Dictionary, 0, {}, {}});
      return;
    case ')':  // EMPTY_TUPLE
      push({Kind::Tuple, 0, {}, {}});
      return;
    case '(':  // MARK
      marks_.push_back(stack_.size());
      return;
    case 't':  // TUPLE
      push({Kind::Tuple, 0, {}, pop_to_mark()});
      return;
    case 0x85:  // TUPLE1
    case 0x86:  // TUPLE2
    case 0x87:  // TUPLE3
      push_tuple(opcode - 0x84U);
      return;
    case 0x88:  // NEWTRUE
    case 0x89:  // NEWFALSE
      push({Kind::Bool, opcode == 0x88 ? 1 : 0, {}, {}});
      return;
    case 'K':  // BININT1
      push_number(read<std::uint8_t>());
      return;
    case 'M':  // BININT2
      push_number(read<std::uint16_t>());
      return;
    case 'J':  // BININT
      push_number(read<std::int32_t>());
      return;
    case 0x8a:  // LONG1
      push_number(long_number(read<std::uint8_t>()));
      return;
    case 'X':  // BINUNICODE
      push_text(read<std::uint32_t>());
      return;
    case 0x8c:  // SHORT_BINUNICODE
      push_text(read<std::uint8_t>());
      return;
    case 'q':  // BINPUT
      put(read<std::uint8_t>());
      return;
    case 'r':  // LONG_BINPUT
      put(read<std::uint32_t>());
      return;
    case 0x94:  // MEMOIZE
      put(static_cast<std::uint32_t>(memo_.size()));
      return;
    case 'h':  // BINGET
      get(read<std::uint8_t>());
      return;
    case 'j':  // LONG_BINGET
      get(read<std::uint32_t>());
      return;
    case 'c': {  // GLOBAL
      const std::string_view module = line();
      push_global(module, line());
      return;
    }
    case 0x93: {  // STACK_GLOBAL
      const ValueId name = pop();
      const ValueId module = pop();
      if (value(name).kind != Kind::Text || value(module).kind != Kind::Text) {
        fail_here("STACK_GLOBAL needs two strings");
      }
      push_global(value(module).text, value(name).text);
      return;
    }
    case 'R':  // REDUCE
      reduce();
      return;
    case 'b':  // BUILD
      build();
      return;
    case 'Q':  // BINPERSID
      persistent_id();
      return;
    case 's': {  // SETITEM
      const ValueId item = pop();
      const ValueId key = pop();
      set_items(std::vector{key, item});
      return;
    }
    case 'u': {  // SETITEMS
      const auto items = pop_to_mark();
      set_items(items);
      return;
    }
    default:
      fail_here(fmt::format("opcode 0x{:02x} ({}) is not one that a state_dict of tensors needs",
                            opcode, foreign_opcode_name(opcode)));
  }
}

std::uint64_t PickleMachine::whole_number(ValueId id, const std::string& tensor,
                                          std::string_view what) {
  if (value(id).kind != Kind::Number || value(id).number < 0) {
    fail("{}: the {} of {} is not a whole number", path_, what, tensor);
  }
  return static_cast<std::uint64_t>(value(id).number);
}

std::vector<std::uint64_t> PickleMachine::whole_numbers(ValueId id, const std::string& tensor,
                                                        std::string_view what) {
  constexpr std::size_t kMostNumbers = 8;
  if (value(id).kind != Kind::Tuple || value(id).items.size() > kMostNumbers) {
    fail("{}: the {} of {} is not a tuple of at most {} numbers", path_, what, tensor,
         kMostNumbers);
  }
  std::vector<std::uint64_t> numbers;
  for (const ValueId item : value(id).items) numbers.push_back(whole_number(item, tensor, what));
  return numbers;
}

/// _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks).
PickledTensor PickleMachine::tensor(ValueId name, ValueId id) {
  if (value(name).kind != Kind::Text || !is_plain_name(value(name).text)) {
    fail("{}: a key of the state_dict is not a tensor name", path_);
  }
  PickledTensor tensor;
  tensor.name = value(name).text;
  if (value(id).kind != Kind::Tensor) {
    fail("{}: {} is not a tensor; save the plain state_dict", path_, tensor.name);
  }
  const auto& arguments = value(id).items;
  if (value(arguments[0]).kind != Kind::Storage) {
    fail("{}: {} is not made from a storage", path_, tensor.name);
  }
  const auto& storage = value(arguments[0]).items;
  const std::string& type = globals_[static_cast<std::size_t>(value(storage[1]).number)];
  tensor.storage_type = type.substr(type.rfind('.') + 1);
  tensor.storage_key = value(storage[2]).text;
  if (!is_plain_name(tensor.storage_key)) {
    fail("{}: the storage of {} has the impossible key {}", path_, tensor.name,
         quote(tensor.storage_key));
  }
  tensor.storage_size = whole_number(storage[4], tensor.name, "storage size");
  tensor.offset = whole_number(arguments[1], tensor.name, "storage offset");
  tensor.shape = whole_numbers(arguments[2], tensor.name, "size");
  tensor.stride = whole_numbers(arguments[3], tensor.name, "stride");
  return tensor;
}

std::vector<PickledTensor> PickleMachine::state_dict() {
  ValueId dictionary = top();
  if (value(dictionary).kind != Kind::Dictionary) {
    fail("{}: data.pkl does not hold a dictionary of tensors", path_);
  }
  const auto& outer = value(dictionary).items;
  for (std::size_t i = 0; i < outer.size(); i += 2) {
    if (value(outer[i]).kind == Kind::Text && value(outer[i]).text == "state_dict" &&
        value(outer[i + 1]).kind == Kind::Dictionary) {
      dictionary = outer[i + 1];
      break;
    }
  }
  const auto& items = value(dictionary).items;
  std::vector<PickledTensor> tensors;
  std::unordered_set<std::string_view> names;
  for (std::size_t i = 0; i < items.size(); i += 2) {
    tensors.push_back(tensor(items[i], items[i + 1]));
    if (!names.insert(value(items[i]).text).second) {
      fail("{}: {} occurs twice", path_, tensors.back().name);
    }
  }
  return tensors;
}

std::vector<PickledTensor> PickleMachine::run() {
  constexpr std::uint8_t kStop = '.';
  while (true) {
    opcode_offset_ = reader_.offset();
    const auto opcode = read<std::uint8_t>();
    if (opcode == kStop) return state_dict();
    execute(opcode);
  }
}

}  // namespace

std::vector<PickledTensor> unpickle_tensors(std::span<const std::byte> pickle,
                                            const std::string& path) {
  if (pickle.size() > kLargestPickle) {
    fail("{}: data.pkl has {} bytes; that of a model has less than {}", path, pickle.size(),
         kLargestPickle);
  }
  return PickleMachine(pickle, path).run();
}

}  // namespace gander
