#include "engine/cache/state_cache.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "base/error.h"

namespace gander {
namespace {

// Of an entry beside its state and its tokens: a round number.
constexpr std::uint64_t kEntryBytes = 256;

std::uint64_t memory_of(const State& state, std::size_t tokens) {
  return state.values().size_bytes() + tokens * sizeof(TokenId) + kEntryBytes;
}

bool starts_with_token_0(std::span<const TokenId> tokens) {
  return !tokens.empty() && tokens[0] == 0;
}

}  // namespace

StateCache::StateCache(const Model& model, CacheOptions options)
    : options_(std::move(options)),
      config_(model.config()),
      fingerprint_(model.fingerprint),
      tokenizer_(model.tokenizer) {
  if (options_.folder.empty()) return;
  try {
    folder_ = std::make_unique<StateFolder>(options_.folder, options_.disk_bytes, fingerprint_);
  } catch (const Error& error) {
    warn(fmt::format("states are not kept on disk: {}", error.what()));
    return;
  }
  for (const StateKey& key : folder_->keys()) {
    if (!entries_.contains(key.tokens.hash)) add_entry(key).on_disk = true;
  }
  is_writable_ = true;
  writer_ = std::thread([this] { run_writer(); });
}

StateCache::~StateCache() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  wake_writer_.notify_all();
  if (writer_.joinable()) writer_.join();
}

std::optional<CachedState> StateCache::find(std::string_view text,
                                            std::span<const TokenId> tokens) {
  const std::vector<std::uint64_t> token_hashes = prefix_hashes(tokens);
  const std::vector<std::uint64_t> text_hashes = prefix_hashes(text, starts_with_token_0(tokens));
  // Whose file cannot be read now, or whose hash alone is that of the prompt's beginning.
  std::vector<std::uint64_t> passed_over;

  std::unique_lock lock(mutex_);
  ++statistics_.lookups;
  while (true) {
    const auto accepts = [&](bool by_text) {
      return [&, by_text](std::uint64_t id) {
        const Entry& entry = entries_.at(id);
        return entry.state != nullptr ? begins(entry.tokens, text, tokens, by_text)
                                      : std::ranges::find(passed_over, id) == passed_over.end();
      };
    };
    const auto canonical = by_tokens_.longest(token_hashes, accepts(false));
    const auto turn = by_text_.longest(text_hashes, accepts(true));
    if (!canonical && !turn) return std::nullopt;
    // Of two that cover the same text, the canonical one.
    const bool by_text =
        turn && (!canonical || turn->second > text_size(tokens.first(canonical->second)));
    const std::uint64_t id = by_text ? turn->first : canonical->first;

    CachedState found;
    found.by_text = by_text;
    if (const Entry& entry = entries_.at(id); entry.state != nullptr) {
      found.state = entry.state;
      found.tokens = entry.tokens;
      memory_use_.splice(memory_use_.end(), memory_use_, entry.use);
      queue_write(entry, entry.tokens, entry.state);
    } else {
      SavedState saved;
      const Load result = load(lock, id, saved);
      if (result == Load::Gone) continue;
      if (result == Load::NotNow || !begins(saved.tokens, text, tokens, by_text)) {
        passed_over.push_back(id);
        continue;
      }
      found.state = std::make_shared<const State>(std::move(saved.state));
      found.tokens = std::move(saved.tokens);
      ++statistics_.disk_hits;
      if (const auto still = entries_.find(id); still != entries_.end()) {
        keep(still->second, found.tokens, found.state);
      }
    }
    if (const auto entry = entries_.find(id); entry != entries_.end() && entry->second.on_disk) {
      folder_->touch(entry->second.key.file_name(fingerprint_));
    }
    found.text_size = text_size(found.tokens);
    ++statistics_.hits;
    statistics_.tokens_saved += found.tokens.size();
    return found;
  }
}

void StateCache::insert(std::span<const TokenId> tokens, std::shared_ptr<const State> state,
                        bool is_turn) {
  if (tokens.empty()) fail("a state that has read nothing is not cached");
  if (state == nullptr || !state->fits(config_)) {
    fail("a state of another model's shape is not cached");
  }
  const StateKey key = key_of(tokens, is_turn);
  const std::uint64_t id = key.tokens.hash;
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(id);
  Entry& entry = found == entries_.end() ? add_entry(key) : found->second;
  if (key.is_turn && !entry.key.is_turn) {
    // From now on it is found by its text, too, and its file's name says so.
    if (entry.on_disk) folder_->remove(entry.key.file_name(fingerprint_));
    entry.on_disk = false;
    make_turn(entry, key);
  }
  try {
    if (is_turn) queue_write(entry, tokens, state);
    keep(entry, tokens, std::move(state));
  } catch (...) {
    erase_if_gone(id);
    throw;
  }
  erase_if_gone(id);
}

bool StateCache::serves(std::span<const TokenId> read, bool is_turn, std::string_view text,
                        std::span<const TokenId> tokens) const {
  return begins(read, text, tokens, false) ||
         (is_turn && tokenizer_ != nullptr && begins(read, text, tokens, true));
}

bool StateCache::contains(std::span<const TokenId> tokens) const {
  const std::uint64_t id = prefix_hashes(tokens).back();
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(id);
  return found != entries_.end() && found->second.state != nullptr &&
         std::ranges::equal(found->second.tokens, tokens);
}

void StateCache::flush() {
  std::unique_lock lock(mutex_);
  writer_is_idle_.wait(lock, [this] { return writes_.empty() && !is_writing_; });
}

CacheStatistics StateCache::statistics() const {
  const std::lock_guard lock(mutex_);
  CacheStatistics statistics = statistics_;
  statistics.memory_states = memory_use_.size();
  if (folder_ != nullptr) {
    statistics.disk_bytes = folder_->bytes();
    statistics.disk_states = folder_->size();
  }
  return statistics;
}

StateKey StateCache::key_of(std::span<const TokenId> tokens, bool is_turn) const {
  StateKey key;
  key.tokens = {tokens.size(), prefix_hashes(tokens).back()};
  key.is_turn = is_turn && is_text(tokens);
  if (!key.is_turn) return key;
  std::string text;
  for (const TokenId token : tokens) text += tokenizer_->bytes(token);
  key.text = {text.size(), prefix_hashes(text, starts_with_token_0(tokens)).back()};
  return key;
}

/// Whether tokens, but for a token 0 at the beginning, are no more than their text: one that has
/// none leaves a state that the text does not tell.
bool StateCache::is_text(std::span<const TokenId> tokens) const {
  if (tokenizer_ == nullptr) return false;
  if (starts_with_token_0(tokens)) tokens = tokens.subspan(1);
  return std::ranges::none_of(tokens,
                              [this](TokenId token) { return tokenizer_->bytes(token).empty(); });
}

/// Whether what an entry has read begins a prompt, and leaves some of it.
bool StateCache::begins(std::span<const TokenId> entry, std::string_view text,
                        std::span<const TokenId> tokens, bool by_text) const {
  if (!by_text) {
    return entry.size() < tokens.size() && std::ranges::equal(entry, tokens.first(entry.size()));
  }
  if (starts_with_token_0(entry) != starts_with_token_0(tokens) || !is_text(entry)) return false;
  for (const TokenId token : entry) {
    const std::string_view bytes = tokenizer_->bytes(token);
    if (!text.starts_with(bytes)) return false;
    text.remove_prefix(bytes.size());
  }
  return !text.empty();
}

std::size_t StateCache::text_size(std::span<const TokenId> tokens) const {
  std::size_t size = 0;
  if (tokenizer_ == nullptr) return size;
  for (const TokenId token : tokens) size += tokenizer_->bytes(token).size();
  return size;
}

StateCache::Entry& StateCache::add_entry(const StateKey& key) {
  const std::uint64_t id = key.tokens.hash;
  Entry& entry = entries_[id];
  entry.key = key;
  by_tokens_.add(key.tokens, id);
  if (key.is_turn) by_text_.add(key.text, id);
  return entry;
}

void StateCache::make_turn(Entry& entry, const StateKey& key) {
  entry.key = key;
  by_text_.add(key.text, key.tokens.hash);
}

/// Ends an entry that is in neither tier.
void StateCache::erase_if_gone(std::uint64_t id) {
  const auto found = entries_.find(id);
  if (found == entries_.end() || found->second.state != nullptr || found->second.on_disk) return;
  by_tokens_.remove(found->second.key.tokens, id);
  if (found->second.key.is_turn) by_text_.remove(found->second.key.text, id);
  entries_.erase(found);
}

/// Puts a state into memory as the one used last, if it fits at all.
void StateCache::keep(Entry& entry, std::span<const TokenId> tokens,
                      std::shared_ptr<const State> state) {
  if (entry.state != nullptr) drop_from_memory(entry);
  const std::uint64_t bytes = memory_of(*state, tokens.size());
  if (bytes > options_.memory_bytes) return;
  while (statistics_.memory_bytes > options_.memory_bytes - bytes) {
    const std::uint64_t oldest = memory_use_.front();
    drop_from_memory(entries_.at(oldest));
    erase_if_gone(oldest);
    ++statistics_.memory_evictions;
  }
  std::vector<TokenId> kept(tokens.begin(), tokens.end());
  entry.use = memory_use_.insert(memory_use_.end(), entry.key.tokens.hash);
  entry.tokens = std::move(kept);
  entry.state = std::move(state);
  statistics_.memory_bytes += bytes;
}

void StateCache::drop_from_memory(Entry& entry) {
  statistics_.memory_bytes -= memory_of(*entry.state, entry.tokens.size());
  memory_use_.erase(entry.use);
  entry.state.reset();
  entry.tokens = {};
}

/// Notes that a file, perhaps another model's, is to be removed.
void StateCache::note_removed(const std::string& file_name) {
  std::uint64_t fingerprint = 0;
  const std::optional<StateKey> key = StateKey::parse(file_name, fingerprint);
  if (!key || fingerprint != fingerprint_) return;
  const auto found = entries_.find(key->tokens.hash);
  if (found == entries_.end() || found->second.key.is_turn != key->is_turn) return;
  found->second.on_disk = false;
  erase_if_gone(found->first);
}

void StateCache::queue_write(const Entry& entry, std::span<const TokenId> tokens,
                             const std::shared_ptr<const State>& state) {
  if (!is_writable_ || entry.on_disk) return;
  const auto same = std::ranges::find(writes_, entry.key.tokens.hash,
                                      [](const Write& job) { return job.key.tokens.hash; });
  if (same != writes_.end()) {
    same->key = entry.key;
    return;
  }
  const std::uint64_t bytes = memory_of(*state, tokens.size());
  if (!writes_.empty() && queued_bytes_ + bytes > options_.queue_bytes) {
    ++statistics_.dropped_writes;
    return;
  }
  writes_.push_back({entry.key, {tokens.begin(), tokens.end()}, state});
  queued_bytes_ += bytes;
  wake_writer_.notify_all();
}

/// Reads an entry's file, with the lock given up meanwhile, so that the entry may be gone after it.
StateCache::Load StateCache::load(std::unique_lock<std::mutex>& lock, std::uint64_t id,
                                  SavedState& saved) {
  const StateKey key = entries_.at(id).key;
  Load result = Load::Done;
  lock.unlock();
  try {
    saved = folder_->read(key, config_);
  } catch (const Error&) {
    result = Load::Gone;
  } catch (const std::exception&) {
    result = Load::NotNow;
  }
  lock.lock();
  const auto found = entries_.find(id);
  if (result == Load::Gone && found != entries_.end() && found->second.on_disk) {
    const std::string name = found->second.key.file_name(fingerprint_);
    folder_->remove(name);
    note_removed(name);
    ++statistics_.corrupt;
  } else if (result == Load::Gone) {
    erase_if_gone(id);
  }
  return result;
}

void StateCache::run_writer() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_writer_.wait(lock, [this] { return is_stopping_ || !writes_.empty(); });
    if (is_stopping_) return;
    const Write job = std::move(writes_.front());
    writes_.pop_front();
    is_writing_ = true;
    lock.unlock();
    write(job);
    lock.lock();
    queued_bytes_ -= memory_of(*job.state, job.tokens.size());
    is_writing_ = false;
    if (writes_.empty()) writer_is_idle_.notify_all();
  }
}

/// Makes room for a file and writes it; after an error nothing is written any more.
void StateCache::write(const Write& job) {
  const std::string name = job.key.file_name(fingerprint_);
  const std::uint64_t size = state_file_size(config_, job.tokens.size(), 0);
  std::vector<std::string> victims;
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(job.key.tokens.hash);
    if (found != entries_.end() && found->second.on_disk) return;
    if (!is_writable_ || !folder_->make_room(size, victims)) return;
    statistics_.disk_evictions += victims.size();
    for (const std::string& victim : victims) note_removed(victim);
  }
  try {
    for (const std::string& victim : victims) remove_file(folder_->path(victim));
    // After a power cut a file may be damaged: it is noticed then, and waiting costs more.
    write_state(folder_->path(name), *job.state, fingerprint_, job.tokens, {},
                AtomicFile::Sync::No);
  } catch (const std::exception& error) {
    {
      const std::lock_guard lock(mutex_);
      is_writable_ = false;
      writes_.clear();
      queued_bytes_ = memory_of(*job.state, job.tokens.size());
    }
    warn(fmt::format("no more states are written to disk, those there are still used: {}",
                     error.what()));
    return;
  }
  const std::lock_guard lock(mutex_);
  folder_->add(name, size);
  folder_->touch(name);
  ++statistics_.writes;
  const auto found = entries_.find(job.key.tokens.hash);
  Entry& entry = found == entries_.end() ? add_entry(job.key) : found->second;
  if (entry.key.is_turn && !job.key.is_turn) {  // since this began: it is written once more
    folder_->remove(name);
    return;
  }
  if (job.key.is_turn && !entry.key.is_turn) make_turn(entry, job.key);
  entry.on_disk = true;
}

void StateCache::warn(const std::string& message) const {
  if (options_.warn) options_.warn(message);
}

}  // namespace gander
