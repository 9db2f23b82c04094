#include "engine/chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "apps/gander/commands.h"
#include "apps/gander/interrupt.h"
#include "apps/gander/line_editor.h"
#include "apps/gander/reply_view.h"
#include "apps/gander/terminal.h"
#include "apps/gander/text_input.h"
#include "base/error.h"

namespace gander {
namespace {

struct ChatOptions {
  ModelOptions model;
  SamplerOptions sampler;
  GenerateOptions generate{.max_tokens = 1024, .stops = {}, .stop_at_end_of_text = true};
  std::string think, system, load_path;
  CLI::Option* think_option = nullptr;
};

constexpr std::array<std::pair<std::string_view, Thinking>, 5> kThinking = {
    {{"off", Thinking::None},
     {"fake", Thinking::Fake},
     {"on", Thinking::Free},
     {"short", Thinking::Short},
     {"long", Thinking::Long}}};

// What --think says. Its word may be left out, so that the word after it may be the model: then it
// becomes options.model.path.
Thinking find_thinking(ChatOptions& options) {
  if (options.think_option->count() == 0) return Thinking::None;
  if (options.think.empty()) return Thinking::Free;
  for (const auto& [name, thinking] : kThinking) {
    if (name == options.think) return thinking;
  }
  if (!options.model.path.empty() || !std::filesystem::exists(options.think)) {
    fail("--think {}: choose one of off, fake, on, short, long", options.think);
  }
  options.model.path = options.think;
  return Thinking::Free;
}

constexpr std::string_view kHelp =
    "/retry          another answer to the last message\n"
    "/save FILE      save the conversation\n"
    "/load FILE      go on with a saved one\n"
    "/system [TEXT]  start anew with this system text, or show it\n"
    "/reset          start anew\n"
    "/quit           leave, as Ctrl-D does\n"
    "A line that ends in \\ goes on in the next one. Ctrl-C stops an answer.";

/// The loop of a chat. At a terminal an error of a command is shown and the chat goes on; elsewhere
/// it ends the program, as a script expects.
class Chat {
 public:
  Chat(Session& session, Sampler& sampler, Thinking thinking, const ChatOptions& options)
      : sampler_(sampler),
        thinking_(thinking),
        options_(options),
        conversation_(session, options.system),
        editor_(input_is_terminal() ? chat_history_path() : "") {
    if (!options.load_path.empty()) conversation_.load(options.load_path);
  }

  int talk() {
    // At a terminal Ctrl-C never ends the chat by itself, whenever it comes.
    std::optional<InterruptGuard> guard;
    if (editor_.interactive()) guard.emplace(InterruptGuard::Second::Waits);
    note(greeting_);
    std::string message;
    while (!ended_ && read_message(message)) {
      try {
        handle(message);
      } catch (const Error& error) {
        if (!editor_.interactive()) throw;
        report(fmt::format("gander: {}", printable_line(error.what())));
      }
    }
    return code_;
  }

  void set_greeting(std::string text) { greeting_ = std::move(text); }

 private:
  // What the program itself has to say: not part of a script's output.
  void note(std::string_view text) const {
    if (editor_.interactive()) report(styled(Stream::Error, Style::Dim, text));
  }

  // The next message or command; false at the end of the input.
  bool read_message(std::string& message) {
    // Between \1 and \1 stands what takes no room on the line; libedit drops it at the very end.
    const std::string prompt = fmt::format(
        "\1{}\1>\1{}\1 ", style_start(Stream::Output, Style::Cyan), style_end(Stream::Output));
    message.clear();
    std::string line;
    bool leaving = false;
    while (true) {
      const LineEditor::Event event = editor_.read(message.empty() ? prompt : "… ", line);
      if (event == LineEditor::Event::End) return !message.empty();
      if (event == LineEditor::Event::Interrupted) {
        if (leaving) return false;
        leaving = message.empty() && line.empty();
        if (leaving) note("Ctrl-C once more, or Ctrl-D, ends the chat");
        message.clear();
        continue;
      }
      leaving = false;
      const bool goes_on = line.ends_with('\\');
      if (goes_on) line.back() = '\n';
      message += line;
      if (goes_on) continue;
      if (message.find_first_not_of(" \t\n") == std::string::npos) {
        message.clear();
        continue;
      }
      editor_.remember(message);
      return true;
    }
  }

  void handle(const std::string& message) {
    if (message.front() == '/') {
      run_command(message);
      return;
    }
    require_utf8(message, "the message");
    reply([&](const Session::OnText& on_text) {
      return conversation_.say(message, thinking_, sampler_, options_.generate, on_text);
    });
  }

  template <typename Generate>
  void reply(const Generate& generate) {
    const InterruptGuard guard;
    ReplyView view;
    const GenerateResult result = generate([&](std::string_view piece) {
      view.add(piece);
      return !guard.requested();
    });
    view.finish();
    if (result.reason == StopReason::Length) {
      note(fmt::format("(stopped after {} tokens; -n N allows more)", result.tokens));
    }
    if (result.reason == StopReason::Cancelled && !editor_.interactive()) {
      ended_ = true;
      code_ = kInterruptedExit;
    }
  }

  void run_command(const std::string& message) {
    const std::size_t space = std::min(message.find(' '), message.size());
    const std::string name = message.substr(0, space);
    const std::size_t begin = std::min(message.find_first_not_of(' ', space), message.size());
    const std::string argument = message.substr(begin, message.find_last_not_of(" \t") + 1 - begin);
    if (name == "/quit" || name == "/exit") {
      ended_ = true;
    } else if (name == "/help") {
      print(fmt::format("{}\n", kHelp));
      flush_output();
    } else if (name == "/reset") {
      conversation_.reset();
      note("(a new conversation)");
    } else if (name == "/system") {
      set_system(argument);
    } else if (name == "/retry") {
      reply([&](const Session::OnText& on_text) {
        return conversation_.retry(sampler_, options_.generate, on_text);
      });
    } else if (name == "/save") {
      if (argument.empty()) fail("/save needs a file name");
      const InterruptGuard guard(InterruptGuard::Second::Waits);
      conversation_.save(argument);
      note(fmt::format("(saved to {})", printable_line(argument)));
    } else if (name == "/load") {
      if (argument.empty()) fail("/load needs a file name");
      conversation_.load(argument);
      show_last_turn();
    } else {
      const std::string near =
          nearest_name(name, {"/quit", "/help", "/reset", "/system", "/retry", "/save", "/load"});
      fail("unknown command {}{}", name,
           near.empty() ? ", /help lists them" : fmt::format(", did you mean {}?", near));
    }
  }

  void set_system(const std::string& text) {
    if (text.empty()) {
      print(conversation_.system().empty() ? "(no system text)\n"
                                           : printable(conversation_.system()) + "\n");
      flush_output();
      return;
    }
    require_utf8(text, "the system text");
    conversation_.reset(text);
    note("(a new conversation with this system text)");
  }

  void show_last_turn() const {
    const std::vector<ChatTurn>& turns = conversation_.turns();
    if (turns.empty()) {
      note("(loaded)");
      return;
    }
    note(fmt::format("(loaded, {} messages; the last was)\n> {}\n{}", turns.size(),
                     printable(turns.back().user), printable(turns.back().assistant)));
  }

  Sampler& sampler_;
  Thinking thinking_;
  const ChatOptions& options_;
  Conversation conversation_;
  LineEditor editor_;
  std::string greeting_;
  bool ended_ = false;
  int code_ = 0;
};

int chat(ChatOptions options) {
  const Thinking thinking = find_thinking(options);
  require_utf8(options.system, "the system text");
  const Model model = open_model(options.model);
  Sampler sampler(sampler_settings(options.sampler), model.config().vocab_size,
                  &require_tokenizer(model));
  Session session(model, create_backend(model, options.model));
  Chat chat(session, sampler, thinking, options);
  chat.set_greeting(
      fmt::format("{} on {}; /help lists the commands",
                  printable_line(std::filesystem::path(model.path).filename().string()),
                  session.backend().description()));
  return chat.talk();
}

}  // namespace

void add_chat_command(CLI::App& program, Action& action) {
  auto options = std::make_shared<ChatOptions>();
  CLI::App* command = program.add_subcommand("chat", "Talk with a model");
  add_model_argument(*command, options->model);
  options->think_option =
      command
          ->add_option("--think", options->think,
                       "let the model think first: freely, a bit or a lot; fake: an empty thought")
          ->option_text("off|fake|on|short|long")
          ->expected(0, 1);
  command->add_option("--system", options->system, "system text")->option_text("TEXT");
  command->add_option("--state", options->load_path, "go on with a saved conversation or state")
      ->option_text("FILE");
  command->add_option("-n,--tokens", options->generate.max_tokens, "at most N tokens an answer")
      ->option_text("N")
      ->capture_default_str();
  add_sampler_options(*command, options->sampler);
  add_model_options(*command, options->model);
  command->footer(
      "In the chat, /help lists the commands. When stdin is not a terminal, messages and commands\n"
      "are read line by line and only the answers go to stdout.\n\n"
      "Examples:\n"
      "  gander chat\n"
      "  gander chat model.gguf --think --system \"Answer in French.\"\n"
      "  printf 'Who are you?\\n/retry\\n' | gander chat --seed 1");
  command->callback([&action, options] { action = [options] { return chat(*options); }; });
}

}  // namespace gander
