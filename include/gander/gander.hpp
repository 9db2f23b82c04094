#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#ifndef GANDER_API
#ifdef _WIN32
#define GANDER_API
#else
#define GANDER_API __attribute__((visibility("default")))
#endif
#endif

/// gander runs RWKV-7 language models. A Model is a checkpoint; a Session is one sequence of text
/// on it, whose memory, the state, has a fixed size however long the text grows.
///
///     gander::Session session(gander::Model::builtin());
///     session.append("Once upon a time");
///     session.generate({}, [](std::string_view piece) { std::cout << piece; return true; });
///
/// Everything reports failure by throwing gander::Error. A Model can be shared by threads; a
/// Session is for one thread at a time.
namespace gander {
inline namespace v1 {

/// A number of a model's vocabulary. 0 is end of document, and begins every text.
using Token = std::uint32_t;

/// what() is one line for a person: what is wrong, where, and what to do about it.
class GANDER_API Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  Error(const Error&) = default;
  Error& operator=(const Error&) = default;
  ~Error() override;
};

/// How tokens are chosen. The steps are taken in this order: logit bias, penalties, temperature,
/// top-k, top-p, min-p, typical, draw; each is off at its default, but for the draw itself.
struct Sampling {
  float temperature = 1.0F;         ///< 0: always the most probable token
  std::uint32_t top_k = 0;          ///< keeps the k most probable; 0: all
  float top_p = 1.0F;               ///< keeps the most probable that together reach this share
  float min_p = 0.0F;               ///< keeps what has this share of the largest probability
  float typical_p = 1.0F;           ///< keeps the most typical that together reach this share
  float repetition_penalty = 1.0F;  ///< divides positive logits of tokens that occurred
  float presence_penalty = 0.0F;    ///< subtracted from their logits
  float frequency_penalty = 0.0F;   ///< subtracted for each occurrence
  float penalty_decay = 0.996F;     ///< of the counts of occurrences, per token
  std::vector<std::pair<Token, float>> logit_bias = {};  ///< added; minus infinity bans a token
  std::uint64_t seed = 0;                                ///< same seed, same text
};

/// When generation ends.
struct Limits {
  std::uint32_t max_tokens = 256;
  std::vector<std::string> stops = {};  ///< the text ends before the first of these
  bool stop_at_end_of_text = true;      ///< at token 0
};

enum class Ending { EndOfText, StopString, Length, Cancelled, Timeout };

struct Generated {
  Ending ending = Ending::Length;
  std::string text;
  std::uint32_t prompt_tokens = 0;  ///< read before the first token was generated
  std::uint32_t tokens = 0;         ///< generated
  double prompt_seconds = 0.0, seconds = 0.0;
};

/// A checkpoint, mapped into memory: GGUF, safetensors (a file, or a folder of shards) or PyTorch
/// `.pth`. Copies share it.
class GANDER_API Model {
 public:
  /// Opens `path`. The vocabulary is `vocabulary` if given, else the one inside the file, else
  /// rwkv_vocab_v20230424.txt or vocab.txt beside it. Throws Error, also when the machine has too
  /// little memory to run the model.
  explicit Model(const std::string& path, const std::string& vocabulary = "");
  /// The small model that comes with gander.
  static Model builtin();

  std::uint32_t vocabulary_size() const;
  std::uint32_t layers() const;
  std::uint32_t width() const;
  /// Without a vocabulary only token ids can be used.
  bool has_vocabulary() const;

  /// The tokens of a text, without token 0 before it. Any bytes can be encoded.
  std::vector<Token> tokenize(std::string_view text) const;
  /// The bytes of tokens; they need not be valid UTF-8.
  std::string detokenize(std::span<const Token> tokens) const;

 private:
  friend class Session;
  friend class Engine;
  struct Data;
  explicit Model(std::shared_ptr<const Data> data);
  std::shared_ptr<const Data> data_;
};

/// A session's whole memory at one moment. Copies share it.
class GANDER_API Snapshot {
 private:
  friend class Session;
  struct Data;
  std::shared_ptr<const Data> data_;
};

/// One sequence of text on one model.
class GANDER_API Session {
 public:
  /// `backend` is "auto" or what `gander run --help` lists; `threads` 0 is one per core.
  explicit Session(const Model& model, const std::string& backend = "auto", unsigned threads = 0);
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  /// Replaces how tokens are chosen. The penalties and the random sequence begin anew.
  void set_sampling(const Sampling& sampling);

  /// Adds text to what the model reads next.
  void append(std::string_view text);

  /// Receives each piece of valid UTF-8 as it becomes certain; returns false to cancel. Pieces may
  /// be empty.
  using OnText = std::function<bool(std::string_view)>;
  /// Reads what was appended, after token 0 in a new session, and goes on with it. A stop string
  /// leaves no trace in the session; append() and generate() continue right before it.
  Generated generate(const Limits& limits = {}, const OnText& on_text = nullptr);

  /// Reads what was appended, after token 0 in a new session, and then `tokens` as they are: when
  /// nothing was appended, a new sequence should begin with token 0. Returns the logits of the
  /// token that comes next, one per token of the vocabulary.
  std::vector<float> evaluate(std::span<const Token> tokens);

  /// Keeps the session's memory, to go on from it any number of times. It can be restored in any
  /// session on the same model.
  Snapshot snapshot() const;
  void restore(const Snapshot& snapshot);
  /// The same on disk. Files are written whole or not at all, and are bound to the model.
  void save(const std::string& path) const;
  void load(const std::string& path);
  /// Starts a new sequence.
  void reset();

  /// What the model has read.
  std::vector<Token> tokens() const;

 private:
  struct Data;
  std::unique_ptr<Data> data_;
};

/// How an Engine runs.
struct EngineOptions {
  std::string backend = "auto";
  unsigned threads = 0;              ///< of the CPU; 0: one for each core
  std::uint32_t slots = 16;          ///< texts generated at the same time, if memory allows
  std::uint32_t max_waiting = 1024;  ///< others that may wait for a slot
  std::uint32_t prompt_chunk = 128;  ///< tokens of prompts that others' next tokens wait for
  /// Of states kept of texts, so that one that begins like another need not be read again.
  std::uint64_t cache_memory_bytes = std::uint64_t{1} << 28;
  std::string cache_folder = {};  ///< keeps them on disk too; empty: not
  std::uint64_t cache_disk_bytes = std::uint64_t{8} << 30;
};

/// The engine's queue is full: try again later.
class GANDER_API Refused : public Error {
 public:
  using Error::Error;
  Refused(const Refused&) = default;
  Refused& operator=(const Refused&) = default;
  ~Refused() override;
};

class EngineSession;

/// Runs a model for many sessions at once, which share its slots. Copies are the same engine; it
/// lives as long as one of them or a session. All functions may be called from any thread.
class GANDER_API Engine {
 public:
  explicit Engine(const Model& model, const EngineOptions& options = {});
  EngineSession session() const;

 private:
  friend class EngineSession;
  std::shared_ptr<void> engine_;
};

/// One text on an engine. For one thread at a time, but for cancel(); sessions of one engine
/// generate at the same time.
class GANDER_API EngineSession {
 public:
  void append(std::string_view text);
  /// As Session::generate, with the sampling given anew each time. `seconds` 0 is no limit of time.
  /// What was generated when `on_text` cancelled still comes. Throws Refused when the queue is
  /// full.
  Generated generate(const Sampling& sampling = {}, const Limits& limits = {},
                     const Session::OnText& on_text = nullptr, double seconds = 0.0);
  /// Ends the generate() that runs in another thread.
  void cancel();
  /// Another session that goes on from here; they share what was read.
  EngineSession fork() const;
  void save(const std::string& path) const;
  void load(const std::string& path);
  void reset();
  std::size_t tokens_read() const;

 private:
  friend class Engine;
  explicit EngineSession(std::shared_ptr<void> session) : session_(std::move(session)) {}
  std::shared_ptr<void> session_;
};

}  // namespace v1
}  // namespace gander
