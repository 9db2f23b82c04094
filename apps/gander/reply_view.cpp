#include "apps/gander/reply_view.h"

#include <algorithm>

#include "apps/gander/terminal.h"
#include "engine/chat.h"

namespace gander {
namespace {

constexpr std::string_view kOpen = "<think>";
constexpr std::string_view kClose = "</think>";
constexpr std::string_view kSpace = " \t\r\n";

void trim_start(std::string& text) {
  text.erase(0, std::min(text.find_first_not_of(kSpace), text.size()));
}

}  // namespace

void ReplyView::add(std::string_view piece) {
  held_ += piece;
  advance(false);
  flush_output();
}

void ReplyView::finish() {
  advance(true);
  if (part_ == Part::Thought) end_thought();
  print("\n");
  flush_output();
}

void ReplyView::advance(bool at_end) {
  if (!shown_) trim_start(held_);
  if (part_ == Part::Start) {
    if (!at_end && kOpen.starts_with(held_) && held_.size() < kOpen.size()) return;
    part_ = held_.starts_with(kOpen) ? Part::Thought : Part::Answer;
    if (part_ == Part::Thought) held_.erase(0, kOpen.size());
    trim_start(held_);
  }
  std::size_t end = held_.size();
  bool closed = false;
  if (part_ == Part::Thought) {
    const std::size_t close = held_.find(kClose);
    closed = close != std::string::npos;
    if (closed) end = close;
    if (!closed && !at_end) end -= beginning_at_end(held_, kClose);
  }
  const std::size_t last = std::string_view(held_).substr(0, end).find_last_not_of(kSpace);
  const std::size_t visible = last == std::string::npos ? 0 : last + 1;
  if (visible > 0) show(std::string_view(held_).substr(0, visible));
  held_.erase(0, closed ? end + kClose.size() : visible);
  if (!closed) return;
  end_thought();
  part_ = Part::Answer;
  shown_ = false;
  advance(at_end);
}

void ReplyView::show(std::string_view text) {
  if (part_ == Part::Thought && !shown_) {
    const std::string_view dim = style_start(Stream::Output, Style::Dim);
    print(dim.empty() ? "<think>\n" : dim);
  }
  shown_ = true;
  print(output_is_terminal() ? printable(text) : std::string(text));
}

void ReplyView::end_thought() {
  if (!shown_) return;
  const std::string_view end = style_end(Stream::Output);
  print(end.empty() ? "\n</think>" : end);
  print("\n");
}

}  // namespace gander
