#include "apps/gander/line_editor.h"

#include <histedit.h>
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string_view>

#include "apps/gander/terminal.h"
#include "base/error.h"

namespace gander {

struct LineEditor::Editing {
  EditLine* editor = nullptr;
  History* history = nullptr;
  std::string history_path;
  std::string prompt;
  bool interrupted = false;

  static Editing& of(EditLine* editor) {
    void* data = nullptr;
    el_get(editor, EL_CLIENTDATA, &data);
    return *static_cast<Editing*>(data);
  }
  static char* prompt_text(EditLine* editor) { return of(editor).prompt.data(); }
  static unsigned char on_interrupt(EditLine* editor, int /*key*/) {
    of(editor).interrupted = true;
    std::fputs("^C\n", stdout);
    return CC_NEWLINE;
  }
  static unsigned char on_suspend(EditLine* editor, int /*key*/) {
    el_set(editor, EL_PREP_TERM, 0);
    ::raise(SIGTSTP);
    el_set(editor, EL_PREP_TERM, 1);
    return CC_REDISPLAY;
  }
};

namespace {

constexpr int kHistorySize = 1000;

}  // namespace

LineEditor::LineEditor(std::string history_path) {
  if (!input_is_terminal() || !output_is_terminal()) return;
  editing_ = std::make_unique<Editing>();
  editing_->history_path = std::move(history_path);
  editing_->editor = el_init("gander", stdin, stdout, stderr);
  editing_->history = history_init();
  if (editing_->editor == nullptr || editing_->history == nullptr) {
    fail("cannot set up line editing: is TERM=\"{}\" right?",
         std::getenv("TERM") != nullptr ? std::getenv("TERM") : "");
  }
  EditLine* editor = editing_->editor;
  el_set(editor, EL_CLIENTDATA, editing_.get());
  el_set(editor, EL_PROMPT_ESC, &Editing::prompt_text, '\1');
  el_set(editor, EL_EDITOR, "emacs");
  el_set(editor, EL_SIGNAL, 1);  // follows changes of the window's size
  HistEvent event;
  history(editing_->history, &event, H_SETSIZE, kHistorySize);
  history(editing_->history, &event, H_SETUNIQUE, 1);
  if (!editing_->history_path.empty()) {
    history(editing_->history, &event, H_LOAD, editing_->history_path.c_str());
  }
  el_set(editor, EL_HIST, history, editing_->history);
  // Ctrl-C is a key while a line is edited, so that it can clear the line; then so is Ctrl-Z.
  el_set(editor, EL_SETTY, "-d", "-isig", nullptr);
  el_set(editor, EL_ADDFN, "gander-interrupt", "clear the line", &Editing::on_interrupt);
  el_set(editor, EL_BIND, "^C", "gander-interrupt", nullptr);
  el_set(editor, EL_ADDFN, "gander-suspend", "stop the program", &Editing::on_suspend);
  el_set(editor, EL_BIND, "^Z", "gander-suspend", nullptr);
  el_set(editor, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  el_set(editor, EL_BIND, "\\e[H", "ed-move-to-beg", nullptr);
  el_set(editor, EL_BIND, "\\e[F", "ed-move-to-end", nullptr);
  el_set(editor, EL_BIND, "\\e[3~", "ed-delete-next-char", nullptr);
  el_set(editor, EL_BIND, "\\e[1;5D", "ed-prev-word", nullptr);
  el_set(editor, EL_BIND, "\\e[1;5C", "em-next-word", nullptr);
  el_source(editor, nullptr);  // the user's ~/.editrc
}

LineEditor::~LineEditor() {
  if (!editing_) return;
  if (editing_->history != nullptr) history_end(editing_->history);
  if (editing_->editor != nullptr) el_end(editing_->editor);
}

LineEditor::Event LineEditor::read(const std::string& prompt, std::string& line) {
  line.clear();
  if (!editing_) {
    if (!std::getline(std::cin, line)) return Event::End;
    if (line.ends_with('\r')) line.pop_back();
    return Event::Line;
  }
  editing_->prompt = prompt;
  editing_->interrupted = false;
  // Before the prompt shows, so that who sees it can type Ctrl-C or Ctrl-D and mean the line.
  el_set(editing_->editor, EL_PREP_TERM, 1);
  int count = 0;
  const char* text = el_gets(editing_->editor, &count);
  if (text != nullptr && count > 0) line.assign(text, static_cast<std::size_t>(count));
  if (line.ends_with('\n')) line.pop_back();
  if (editing_->interrupted) return Event::Interrupted;
  return text == nullptr || count <= 0 ? Event::End : Event::Line;
}

void LineEditor::remember(const std::string& entry) {
  if (!editing_) return;
  HistEvent event;
  history(editing_->history, &event, H_ENTER, entry.c_str());
  if (editing_->history_path.empty()) return;
  // Saved whole under another name first: a chat that ends in between leaves the old history.
  const std::string temporary = editing_->history_path + ".new";
  std::error_code ignored;
  if (history(editing_->history, &event, H_SAVE, temporary.c_str()) != -1) {
    std::filesystem::rename(temporary, editing_->history_path, ignored);
  }
}

std::string chat_history_path() {
  const auto variable = [](const char* name) -> std::filesystem::path {
    const char* value = std::getenv(name);
    return value != nullptr && *value == '/' ? value : "";
  };
  std::filesystem::path folder = variable("XDG_STATE_HOME");
  if (folder.empty() && !variable("HOME").empty()) folder = variable("HOME") / ".local/state";
  if (folder.empty()) return "";
  folder /= "gander";
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  return error ? "" : (folder / "chat_history").string();
}

}  // namespace gander
