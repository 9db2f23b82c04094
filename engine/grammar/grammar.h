#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "engine/serving/token_mask.h"
#include "model/tokenizer/tokenizer.h"

namespace gander {

struct TokenTrie;

/// Which texts are allowed, for one vocabulary. What is found out about it, masks above all, is
/// kept and shared by all who use it, from any thread, up to some tens of megabytes.
class Grammar {
 public:
  virtual ~Grammar() = default;
  /// At the beginning of a text. A mask is never empty, and the end is allowed exactly where the
  /// text is complete. Its functions throw Error for a token that was not allowed, and where a
  /// text can be understood in too many ways at once.
  virtual std::unique_ptr<TokenMask> start() const = 0;
};

/// The grammar of values that `schema`, a JSON schema, accepts: see compile_schema for the form and
/// the errors.
std::shared_ptr<const Grammar> compile_json_schema(std::string_view schema,
                                                   std::shared_ptr<const Tokenizer> tokenizer,
                                                   std::shared_ptr<const TokenTrie> trie = nullptr);

/// Grammars for one vocabulary, each compiled once; those used latest are kept. From any thread.
class GrammarCache {
 public:
  explicit GrammarCache(std::shared_ptr<const Tokenizer> tokenizer);

  /// Throws Error as compile_json_schema does.
  std::shared_ptr<const Grammar> json_schema(std::string_view schema);
  /// Any JSON object.
  std::shared_ptr<const Grammar> json_object() { return json_schema(R"({"type": "object"})"); }

 private:
  struct Kept {
    std::string schema;
    std::shared_ptr<const Grammar> grammar;
  };

  std::shared_ptr<const Tokenizer> tokenizer_;
  std::shared_ptr<const TokenTrie> trie_;
  std::mutex mutex_;
  std::list<Kept> kept_;  // the latest use first
};

}  // namespace gander
