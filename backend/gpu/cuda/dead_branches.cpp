#include "backend/gpu/cuda/dead_branches.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "backend/gpu/cuda/ptx_lines.h"

namespace gander::gpu::cuda {
namespace {

using Text = std::string_view;

Text trimmed(Text text) {
  const std::size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == Text::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

/// `@p` or `@!p`, a name and operands: of a line with one instruction. Others have no name.
struct Instruction {
  Text guard, name, operands;
  bool if_not = false;
};

Instruction parse(Text line) {
  Instruction instruction;
  line = trimmed(line);
  if (line.starts_with('@')) {
    const std::size_t end = std::min(line.find_first_of(" \t"), line.size());
    instruction.if_not = line.substr(1).starts_with('!');
    instruction.guard = line.substr(instruction.if_not ? 2 : 1, end - (instruction.if_not ? 2 : 1));
    line = trimmed(line.substr(end));
  }
  if (line.empty() || line.front() < 'a' || line.front() > 'z') return {};
  const std::size_t end = std::min(line.find_first_of(" \t;"), line.size());
  instruction.name = line.substr(0, end);
  const std::size_t semicolon = line.find(';', end);
  if (semicolon == Text::npos) return {};
  instruction.operands = trimmed(line.substr(end, semicolon - end));
  return instruction;
}

/// The label that a line is; empty for others.
Text label_of(Text line) {
  return line.starts_with("$L") && line.find(':') != Text::npos ? line.substr(0, line.find(':'))
                                                                : Text();
}

/// Takes an operand from the front.
Text take_operand(Text& operands) {
  const std::size_t end = std::min(operands.find(','), operands.size());
  const Text operand = trimmed(operands.substr(0, end));
  operands.remove_prefix(std::min(end + 1, operands.size()));
  return operand;
}

template <typename See>
void each_register(Text text, const See& see) {
  for (std::size_t begin = text.find('%'); begin != Text::npos; begin = text.find('%', begin + 1)) {
    const std::size_t end = text.find_first_not_of(
        "abcdefghijklmnopqrstuvwxyz0123456789_ABCDEFGHIJKLMNOPQRSTUVWXYZ", begin + 1);
    see(text.substr(begin, end == Text::npos ? Text::npos : end - begin));
  }
}

/// What registers are known to hold; predicates 0 or 1.
class Values {
 public:
  explicit Values(const std::vector<Text>& lines) {
    for (const Text line : lines) count_written(line);
  }

  void follow(const Instruction& instruction) {
    if (!instruction.guard.empty()) return;
    Text operands = instruction.operands;
    const Text to = take_operand(operands);
    const auto written = written_.find(to);
    if (written == written_.end() || written->second != 1) return;
    const Text first = take_operand(operands);
    if (const auto value = result(instruction.name, first, trimmed(operands))) known_[to] = *value;
  }

  std::optional<std::uint32_t> of(Text operand) const {
    const auto found = known_.find(operand);
    if (found != known_.end()) return found->second;
    std::int64_t number = 0;
    const char* const end = operand.data() + operand.size();
    const auto parsed = std::from_chars(operand.data(), end, number);
    if (operand.empty() || parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
    return static_cast<std::uint32_t>(number);
  }

 private:
  // An instruction writes to its first operand, if to any; other lines to whatever they name.
  void count_written(Text line) {
    const Instruction instruction = parse(line);
    Text target = line;
    if (!instruction.name.empty()) {
      const char end = instruction.operands.starts_with('{') ? '}' : ',';
      target = instruction.operands.substr(0, instruction.operands.find(end));
    }
    each_register(target, [this](Text name) { ++written_[name]; });
  }

  std::optional<std::uint32_t> result(Text name, Text a, Text b) const {
    const auto x = of(a);
    if (name == "mov.b32" || name == "mov.u32") return x;
    if (name == "not.pred") return x ? std::optional(1 - *x) : std::nullopt;
    const auto y = of(b);
    if (name == "or.pred" || name == "and.pred") {
      const std::uint32_t decides = name == "or.pred" ? 1 : 0;
      if (x == decides || y == decides) return decides;
      return x && y ? std::optional(1 - decides) : std::nullopt;
    }
    if (!x || !y) return std::nullopt;
    if (name == "and.b32") return *x & *y;
    if (name == "or.b32") return *x | *y;
    if (name == "shl.b32") return *y < 32 ? *x << *y : 0;
    if (name == "shr.u32") return *y < 32 ? *x >> *y : 0;
    for (const Text type : {".s32", ".u32", ".b32"}) {
      if (!name.ends_with(type)) continue;
      const Text comparison = name.substr(0, name.size() - type.size());
      if (comparison == "setp.eq") return *x == *y ? 1 : 0;
      if (comparison == "setp.ne") return *x != *y ? 1 : 0;
    }
    return std::nullopt;
  }

  std::unordered_map<Text, std::uint32_t> known_;
  std::unordered_map<Text, int> written_;
};

/// A line of the kernel, and where it leads.
struct Line {
  Text text;            ///< empty for a jump that is never taken
  Text jumps_to;        ///< label; empty for none
  bool goes_on = true;  ///< to the next line
  bool is_reached = false;
};

Line line_of(Text text, const Values& values) {
  const Instruction instruction = parse(text);
  Line line;
  line.text = text;
  if (instruction.name == "ret" || instruction.name == "exit") {
    line.goes_on = !instruction.guard.empty();
  } else if (instruction.name == "bra" || instruction.name == "bra.uni") {
    line.jumps_to = instruction.operands;
    line.goes_on = !instruction.guard.empty();
    const auto value = line.goes_on ? values.of(instruction.guard) : std::nullopt;
    if (!value) return line;
    if ((*value != 0) == instruction.if_not) {
      line.text = line.jumps_to = {};
    } else {
      line.goes_on = false;
      line.text.remove_prefix(static_cast<std::size_t>(instruction.name.data() - text.data()));
    }
  }
  return line;
}

/// Marks what is reached from the first line; false when a label is missing.
bool follow_jumps(std::vector<Line>& lines) {
  std::unordered_map<Text, std::size_t> labels;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (const Text label = label_of(lines[i].text); !label.empty()) labels[label] = i;
  }
  std::vector<std::size_t> begins = {0};
  while (!begins.empty()) {
    std::size_t i = begins.back();
    begins.pop_back();
    for (; i < lines.size() && !lines[i].is_reached; ++i) {
      lines[i].is_reached = true;
      if (!lines[i].jumps_to.empty()) {
        const auto label = labels.find(lines[i].jumps_to);
        if (label == labels.end()) return false;
        begins.push_back(label->second);
      }
      if (!lines[i].goes_on) break;
    }
  }
  return true;
}

}  // namespace

std::string without_dead_branches(std::string_view ptx) {
  const std::size_t entry = ptx.find(".entry ");
  const std::size_t begin = entry == Text::npos ? Text::npos : ptx.find("\n{", entry);
  const std::size_t end = begin == Text::npos ? Text::npos : ptx.find("\n}", begin);
  if (end == Text::npos) return std::string(ptx);
  std::vector<Text> texts;
  for (Text body = ptx.substr(begin + 1, end - begin); !body.empty();) {
    texts.push_back(take_line(body));
  }
  Values values(texts);
  for (const Text text : texts) {
    const Instruction instruction = parse(text);
    if (instruction.name.starts_with("brx")) return std::string(ptx);
    values.follow(instruction);
  }
  std::vector<Line> lines;
  lines.reserve(texts.size());
  for (const Text text : texts) lines.push_back(line_of(text, values));
  if (!follow_jumps(lines)) return std::string(ptx);

  std::string result(ptx.substr(0, begin + 1));
  result.reserve(ptx.size());
  for (const Line& line : lines) {
    // Declarations are needed wherever they are.
    if (line.is_reached || trimmed(line.text).starts_with('.')) result += line.text;
  }
  result += ptx.substr(end + 1);
  return result;
}

}  // namespace gander::gpu::cuda
