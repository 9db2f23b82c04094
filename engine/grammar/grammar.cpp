#include "engine/grammar/grammar.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "engine/grammar/lazy_automaton.h"
#include "engine/grammar/schema_compiler.h"
#include "engine/grammar/token_trie.h"

namespace gander {
namespace {

constexpr std::size_t kKeptGrammars = 32;
constexpr std::size_t kMostKnownBytes = 16 << 20;  // of what is known of one grammar

class PushdownGrammar : public Grammar, public std::enable_shared_from_this<PushdownGrammar> {
 public:
  PushdownGrammar(Pushdown pushdown, std::shared_ptr<const Tokenizer> tokenizer,
                  std::shared_ptr<const TokenTrie> trie)
      : pushdown_(std::move(pushdown)),
        heights_(pushdown_.heights()),
        tokenizer_(std::move(tokenizer)),
        trie_(std::move(trie)) {
    if (heights_[pushdown_.start(0)] > Pushdown::kLevels) {
      fail("the schema accepts nothing, or only what is nested too deeply");
    }
    known_ = std::make_shared<LazyAutomaton>(pushdown_, heights_);
  }

  std::unique_ptr<TokenMask> start() const override;

 private:
  friend class PushdownMask;

  const Pushdown pushdown_;
  const std::vector<std::uint32_t> heights_;
  const std::shared_ptr<const Tokenizer> tokenizer_;
  const std::shared_ptr<const TokenTrie> trie_;
  mutable std::mutex mutex_;  // guards this one and those before it
  /// When it has become too large, the next one begins: masks move to it as they go on.
  mutable std::shared_ptr<LazyAutomaton> known_;
};

class PushdownMask : public TokenMask {
 public:
  explicit PushdownMask(std::shared_ptr<const PushdownGrammar> grammar)
      : grammar_(std::move(grammar)) {
    const std::lock_guard lock(grammar_->mutex_);
    known_ = grammar_->known_;
    at_ = known_->start();
  }

  std::span<const std::uint64_t> allowed() override {
    if (mask_ == nullptr) {
      const std::lock_guard lock(grammar_->mutex_);
      mask_ = known_->mask(at_, *grammar_->trie_);
    }
    return *mask_;
  }

  void accept(TokenId token) override {
    const std::string_view bytes = grammar_->tokenizer_->bytes(token);
    const std::lock_guard lock(grammar_->mutex_);
    if (known_->bytes() > kMostKnownBytes) {
      if (known_ == grammar_->known_) {
        grammar_->known_ = std::make_shared<LazyAutomaton>(grammar_->pushdown_, grammar_->heights_);
      }
      at_ = grammar_->known_->find(known_->stacks(at_));
      known_ = grammar_->known_;
    }
    const LazyAutomaton::Configuration next = known_->advance(at_, bytes);
    if (next == LazyAutomaton::kDead || (bytes.empty() && !known_->is_final(at_))) {
      fail("the token {} is not allowed by the grammar here", token);
    }
    at_ = next;
    mask_ = nullptr;
  }

  std::unique_ptr<TokenMask> clone() const override {
    return std::make_unique<PushdownMask>(*this);
  }

 private:
  std::shared_ptr<const PushdownGrammar> grammar_;
  std::shared_ptr<LazyAutomaton> known_;
  LazyAutomaton::Configuration at_ = LazyAutomaton::kDead;
  std::shared_ptr<const LazyAutomaton::Mask> mask_;
};

std::unique_ptr<TokenMask> PushdownGrammar::start() const {
  return std::make_unique<PushdownMask>(shared_from_this());
}

}  // namespace

std::shared_ptr<const Grammar> compile_json_schema(std::string_view schema,
                                                   std::shared_ptr<const Tokenizer> tokenizer,
                                                   std::shared_ptr<const TokenTrie> trie) {
  if (trie == nullptr) trie = std::make_shared<const TokenTrie>(*tokenizer);
  return std::make_shared<const PushdownGrammar>(compile_schema(schema), std::move(tokenizer),
                                                 std::move(trie));
}

GrammarCache::GrammarCache(std::shared_ptr<const Tokenizer> tokenizer)
    : tokenizer_(std::move(tokenizer)), trie_(std::make_shared<const TokenTrie>(*tokenizer_)) {}

std::shared_ptr<const Grammar> GrammarCache::json_schema(std::string_view schema) {
  const auto find = [&] {
    const auto found = std::ranges::find(kept_, schema, &Kept::schema);
    if (found != kept_.end()) kept_.splice(kept_.begin(), kept_, found);
    return found != kept_.end();
  };
  {
    const std::lock_guard lock(mutex_);
    if (find()) return kept_.front().grammar;
  }
  std::shared_ptr<const Grammar> grammar = compile_json_schema(schema, tokenizer_, trie_);
  const std::lock_guard lock(mutex_);
  if (find()) return kept_.front().grammar;  // another thread was faster
  kept_.push_front({std::string(schema), grammar});
  if (kept_.size() > kKeptGrammars) kept_.pop_back();
  return grammar;
}

}  // namespace gander
