#include "engine/cache/state_cache.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <list>
#include <random>

#include "tests/support/temporary_folder.h"
#include "tests/support/vocabularies.h"

namespace gander {
namespace {

namespace fs = std::filesystem;

// A model that is nothing but a shape, a vocabulary and a fingerprint.
Model shape_of_model(std::uint32_t head_size = 2, std::uint64_t fingerprint = 77) {
  auto weights = std::make_shared<Weights>();
  weights->config.layers = 1;
  weights->config.heads = 1;
  weights->config.head_size = weights->config.width = head_size;
  Model model;
  model.weights = std::move(weights);
  model.tokenizer =
      std::make_shared<const Tokenizer>(byte_tokenizer({"ab", "abc", "bc", "é", "aé", "日本"}));
  model.fingerprint = fingerprint;
  return model;
}

// The state after `tokens`: one that tells for what it was made.
std::shared_ptr<const State> state_after(const Model& model, std::span<const TokenId> tokens) {
  auto state = std::make_shared<State>(model.config());
  std::minstd_rand random(static_cast<unsigned>(XXH64(tokens.data(), tokens.size_bytes(), 0)));
  for (float& value : state->values()) value = static_cast<float>(random());
  return state;
}

bool is_state_after(const Model& model, const CachedState& found) {
  return std::ranges::equal(found.state->values(), state_after(model, found.tokens)->values());
}

std::vector<TokenId> prompt_tokens(const Model& model, std::string_view text) {
  std::vector<TokenId> tokens = {0};
  model.tokenizer->encode(text, tokens);
  return tokens;
}

std::optional<CachedState> find(StateCache& cache, const Model& model, std::string_view text) {
  return cache.find(text, prompt_tokens(model, text));
}

void insert(StateCache& cache, const Model& model, std::span<const TokenId> tokens, bool is_turn) {
  cache.insert(tokens, state_after(model, tokens), is_turn);
}

void insert(StateCache& cache, const Model& model, std::string_view text, bool is_turn) {
  insert(cache, model, prompt_tokens(model, text), is_turn);
}

std::vector<std::string> files_in(const TemporaryFolder& folder) {
  std::vector<std::string> paths;
  for (const auto& entry : fs::directory_iterator(folder.path(""))) paths.push_back(entry.path());
  return paths;
}

std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_all(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

class Texts {
 public:
  explicit Texts(unsigned seed) : random_(seed) {}

  std::size_t below(std::size_t bound) { return random_() % bound; }

  std::string text(std::size_t pieces) {
    static const std::string kPieces[] = {"a", "b", "ab", "abc", "bc", "é", "日本", "本", " "};
    std::string text;
    for (std::size_t i = below(pieces + 1); i > 0; --i) text += kPieces[below(std::size(kPieces))];
    return text;
  }

  // Tokens whose bytes are `text`, of any lengths; after token 0 mostly.
  std::vector<TokenId> any_tokens(const Tokenizer& tokenizer, std::string_view text) {
    std::vector<TokenId> tokens;
    if (below(8) != 0) tokens.push_back(0);
    while (!text.empty()) {
      const std::vector<TokenId> piece = tokenizer.encode(text.substr(0, 1 + below(6)));
      tokens.push_back(piece[0]);
      text.remove_prefix(tokenizer.bytes(piece[0]).size());
    }
    return tokens;
  }

 private:
  std::mt19937 random_;
};

// The cache as one would explain it: a list, the latest use first, searched from end to end.
class NaiveCache {
 public:
  NaiveCache(const Model& model, std::uint64_t limit) : model_(model), limit_(limit) {}

  void insert(const std::vector<TokenId>& tokens, bool is_turn) {
    for (auto at = entries_.begin(); at != entries_.end(); ++at) {
      if (at->tokens != tokens) continue;
      is_turn |= at->is_turn;
      entries_.erase(at);
      break;
    }
    entries_.push_front({tokens, is_turn});
    while (bytes() > limit_) entries_.pop_back();
  }

  // The most bytes of the prompt that an entry has, or nothing.
  std::optional<std::size_t> longest(std::string_view text, const std::vector<TokenId>& tokens) {
    std::optional<std::size_t> longest;
    for (const Entry& entry : entries_) {
      const std::string bytes = model_.tokenizer->decode(entry.tokens);
      const bool canonical = entry.tokens.size() < tokens.size() &&
                             std::equal(entry.tokens.begin(), entry.tokens.end(), tokens.begin());
      const bool same_start = entry.tokens.empty() || (entry.tokens[0] == 0) == (tokens[0] == 0);
      const bool turn =
          entry.is_turn && same_start && bytes.size() < text.size() && text.starts_with(bytes);
      if (canonical || turn) longest = std::max(longest.value_or(0), bytes.size());
    }
    return longest;
  }

  // False when there is no such entry.
  bool use(const std::vector<TokenId>& tokens) {
    for (auto at = entries_.begin(); at != entries_.end(); ++at) {
      if (at->tokens != tokens) continue;
      entries_.splice(entries_.begin(), entries_, at);
      return true;
    }
    return false;
  }

  std::uint64_t bytes() const {
    std::uint64_t bytes = 0;
    for (const Entry& entry : entries_) bytes += 32 + 256 + entry.tokens.size() * 4;
    return bytes;
  }

  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::vector<TokenId> tokens;
    bool is_turn;
  };
  const Model& model_;
  std::uint64_t limit_;
  std::list<Entry> entries_;
};

TEST(StateCache, FindsWhatANaiveSearchFinds) {
  const Model model = shape_of_model();
  int found_by_text = 0;
  for (unsigned seed = 0; seed < 20; ++seed) {
    Texts texts(seed);
    const std::uint64_t limit = 200 + texts.below(10000);
    StateCache cache(model, {.memory_bytes = limit});
    NaiveCache naive(model, limit);
    for (int step = 0; step < 500; ++step) {
      const std::string text = texts.text(8);
      if (texts.below(2) == 0) {
        const std::vector<TokenId> tokens = texts.any_tokens(*model.tokenizer, text);
        if (tokens.empty()) continue;
        const bool is_turn = texts.below(2) == 0;
        insert(cache, model, tokens, is_turn);
        naive.insert(tokens, is_turn);
        EXPECT_EQ(cache.contains(tokens), naive.size() > 0);
      } else {
        const std::vector<TokenId> tokens = prompt_tokens(model, text);
        const auto longest = naive.longest(text, tokens);
        const auto found = cache.find(text, tokens);
        ASSERT_EQ(found.has_value(), longest.has_value());
        if (!found) continue;
        ASSERT_EQ(found->text_size, *longest);
        ASSERT_EQ(model.tokenizer->decode(found->tokens), text.substr(0, *longest));
        ASSERT_TRUE(is_state_after(model, *found));
        ASSERT_TRUE(naive.use(found->tokens));
        found_by_text += found->by_text ? 1 : 0;
        if (!found->by_text) {
          ASSERT_TRUE(std::equal(found->tokens.begin(), found->tokens.end(), tokens.begin()));
        }
      }
      const CacheStatistics statistics = cache.statistics();
      ASSERT_LE(statistics.memory_bytes, limit);
      ASSERT_EQ(statistics.memory_bytes, naive.bytes());
      ASSERT_EQ(statistics.memory_states, naive.size());
    }
  }
  EXPECT_GT(found_by_text, 100);
}

TEST(StateCache, FindsATurnByItsTextAlone) {
  const Model model = shape_of_model();
  StateCache cache(model);
  // "ab" as two tokens, and an end inside a character.
  const std::vector<TokenId> sampled = {0, 'a' + 1, 'b' + 1, 0xC3 + 1};
  insert(cache, model, sampled, false);
  EXPECT_FALSE(find(cache, model, "abé and more"));
  insert(cache, model, sampled, true);
  const auto found = find(cache, model, "abé and more");
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->by_text);
  EXPECT_EQ(found->tokens, sampled);
  EXPECT_EQ(found->text_size, 3U);
  EXPECT_FALSE(find(cache, model, "abê")->text_size != 3U);  // begins with the same byte
  EXPECT_FALSE(find(cache, model, "ab\xC3"));                // nothing would be left to read
  EXPECT_FALSE(find(cache, model, "abc"));
  // Without the leading token 0 it is another text.
  EXPECT_FALSE(cache.find("abé and more", model.tokenizer->encode("abé and more")));
  // A canonical one that covers as much is preferred.
  insert(cache, model, "日本", false);
  insert(cache, model,
         std::vector<TokenId>{0, 0xE6 + 1, 0x97 + 1, 0xA5 + 1, 0xE6 + 1, 0x9C + 1, 0xAC + 1}, true);
  EXPECT_FALSE(find(cache, model, "日本 a")->by_text);

  const CacheStatistics statistics = cache.statistics();
  EXPECT_EQ(statistics.lookups, 7U);
  EXPECT_EQ(statistics.hits, 3U);
  EXPECT_EQ(statistics.tokens_saved, 4U + 4U + 2U);
}

TEST(StateCache, RefusesWhatIsNoStateOfItsModel) {
  const Model model = shape_of_model();
  StateCache cache(model);
  EXPECT_THROW(cache.insert({}, state_after(model, {}), true), Error);
  const std::vector<TokenId> tokens = {0, 5};
  EXPECT_THROW(cache.insert(tokens, nullptr, true), Error);
  EXPECT_THROW(cache.insert(tokens, state_after(shape_of_model(4), tokens), true), Error);
}

TEST(StateCache, OutlivesTheProcess) {
  const TemporaryFolder folder;
  const Model model = shape_of_model();
  const CacheOptions options = {.folder = folder.path("states")};
  {
    StateCache cache(model, options);
    insert(cache, model, "a turn", true);
    insert(cache, model, "come back to", false);
    insert(cache, model, "never seen again", false);
    insert(cache, model, "a turn later", false);
    EXPECT_TRUE(find(cache, model, "come back to, again"));
    EXPECT_TRUE(find(cache, model, "a turn later on"));  // on disk, and becomes a turn:
    cache.flush();
    insert(cache, model, "a turn later", true);
    cache.flush();
    EXPECT_EQ(cache.statistics().disk_states, 3U);
  }
  StateCache cache(model, options);
  EXPECT_EQ(cache.statistics().memory_states, 0U);
  EXPECT_FALSE(find(cache, model, "never seen again, or so"));
  for (const char* text : {"a turn", "come back to"}) {
    const auto found = find(cache, model, std::string(text) + " more");
    ASSERT_TRUE(found) << text;
    EXPECT_EQ(found->tokens, prompt_tokens(model, text));
    EXPECT_TRUE(is_state_after(model, *found));
  }
  // By its text: these tokens are not the canonical ones.
  std::vector<TokenId> tokens = {0};
  for (const char byte : std::string("a turn later, ab"))
    tokens.push_back(static_cast<unsigned char>(byte) + 1U);
  tokens[3] = 1;
  const auto found = cache.find("a turn later, ab", tokens);
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->by_text);
  EXPECT_EQ(found->text_size, 12U);
  EXPECT_EQ(cache.statistics().disk_hits, 3U);
  EXPECT_TRUE(find(cache, model, "a turn and"));  // from memory now
  EXPECT_EQ(cache.statistics().disk_hits, 3U);
  // What people wrote is in there.
  EXPECT_EQ(fs::status(folder.path("states")).permissions(), fs::perms::owner_all);
}

TEST(StateCache, KeepsItsLimitOnDisk) {
  const TemporaryFolder folder;
  const Model model = shape_of_model();
  const std::uint64_t limit = 1000;
  CacheOptions options = {.memory_bytes = 0, .folder = folder.path(""), .disk_bytes = limit};
  Texts texts(1);
  std::optional<StateCache> cache(std::in_place, model, options);
  std::vector<std::string> kept;  // the latest use last
  for (int step = 0; step < 150; ++step) {
    const std::string text = texts.text(6) + "#" + std::to_string(step) + "#";
    insert(*cache, model, text, true);
    cache->flush();
    kept.push_back(text);
    std::uint64_t bytes = 0;
    for (const std::string& path : files_in(folder)) bytes += fs::file_size(path);
    ASSERT_LE(bytes, limit);
    ASSERT_EQ(bytes, cache->statistics().disk_bytes);
    ASSERT_EQ(cache->statistics().memory_states, 0U);
    const std::size_t files = files_in(folder).size();
    ASSERT_GE(files, std::min<std::size_t>(static_cast<std::size_t>(step) + 1, 4));
    kept.erase(kept.begin(), kept.end() - static_cast<std::ptrdiff_t>(files));
    // Use one, perhaps after a restart.
    const std::size_t used = texts.below(files);
    if (texts.below(4) == 0) {
      cache.reset();
      cache.emplace(model, options);
    }
    const auto found = find(*cache, model, kept[used] + " ");
    ASSERT_TRUE(found);
    ASSERT_TRUE(is_state_after(model, *found));
    std::rotate(kept.begin() + static_cast<std::ptrdiff_t>(used),
                kept.begin() + static_cast<std::ptrdiff_t>(used) + 1, kept.end());
  }
  // A smaller limit is kept from the start, by the files used last.
  cache.reset();
  options.disk_bytes = 400;
  cache.emplace(model, options);
  EXPECT_LE(cache->statistics().disk_bytes, 400U);
  EXPECT_TRUE(find(*cache, model, kept.back() + " "));
  EXPECT_FALSE(find(*cache, model, kept.front() + " "));
}

TEST(StateCache, NoticesEveryFlippedByte) {
  const TemporaryFolder folder;
  const Model model = shape_of_model();
  const CacheOptions options = {.folder = folder.path("")};
  {
    StateCache cache(model, options);
    insert(cache, model, "ab", true);
    cache.flush();
  }
  ASSERT_EQ(files_in(folder).size(), 1U);
  const std::string path = files_in(folder)[0];
  const std::string good = read_all(path);
  std::vector<std::string> damaged;
  for (std::size_t i = 0; i < good.size(); ++i) {
    damaged.push_back(good);
    damaged.back()[i] = static_cast<char>(damaged.back()[i] ^ (1 << (i % 8)));
  }
  for (const std::size_t size : {std::size_t{0}, std::size_t{20}, good.size() - 1}) {
    damaged.push_back(good.substr(0, size));
  }
  damaged.push_back(good + '\0');
  for (const std::string& bytes : damaged) {
    write_all(path, bytes);
    StateCache cache(model, options);
    ASSERT_FALSE(find(cache, model, "ab "));
    ASSERT_EQ(cache.statistics().corrupt, 1U);
    ASSERT_EQ(cache.statistics().disk_bytes, 0U);
    ASSERT_FALSE(fs::exists(path));
    // It is computed again, and kept again.
    if (&bytes != &damaged.back()) continue;
    insert(cache, model, "ab", true);
    cache.flush();
    EXPECT_EQ(read_all(path), good);
  }
}

// Bytes of a state file with another number at an offset and the checksum that belongs to it.
std::string forge(std::string bytes, std::size_t offset, std::uint64_t number) {
  std::memcpy(bytes.data() + offset, &number, offset == 8 ? 4 : 8);
  const std::uint64_t checksum = XXH64(bytes.data(), bytes.size() - 8, 0);
  std::memcpy(bytes.data() + bytes.size() - 8, &checksum, 8);
  return bytes;
}

TEST(StateCache, NeverReturnsAnotherModelsState) {
  const TemporaryFolder folder;
  const Model model = shape_of_model();
  const Model other = shape_of_model(2, 78);
  const CacheOptions options = {.folder = folder.path("")};
  {
    StateCache cache(model, options);
    insert(cache, model, "ab", true);
    cache.flush();
  }
  const std::string path = files_in(folder)[0];
  const std::string good = read_all(path);
  {
    // They may share a folder: the one's files are nothing to the other, but count.
    StateCache cache(other, options);
    EXPECT_FALSE(find(cache, other, "ab "));
    EXPECT_EQ(cache.statistics().disk_bytes, good.size());
  }
  std::uint64_t fingerprint = 0;
  const auto key = StateKey::parse(fs::path(path).filename(), fingerprint);
  ASSERT_TRUE(key);
  EXPECT_EQ(fingerprint, 77U);
  const std::string renamed = folder.path(key->file_name(78));
  fs::copy_file(path, renamed);
  {
    StateCache cache(other, options);
    EXPECT_FALSE(find(cache, other, "ab "));
    EXPECT_EQ(cache.statistics().corrupt, 1U);
    EXPECT_FALSE(fs::exists(renamed));
    EXPECT_TRUE(fs::exists(path));
  }
  // A later version of the format; another shape; other tokens than the name says.
  for (const auto& [offset, number] : {std::pair{8, 2}, std::pair{16, 4}, std::pair{48, 9}}) {
    write_all(path,
              forge(good, static_cast<std::size_t>(offset), static_cast<std::uint64_t>(number)));
    StateCache cache(model, options);
    EXPECT_FALSE(find(cache, model, "ab "));
    EXPECT_EQ(cache.statistics().corrupt, 1U);
  }
  write_all(path, forge(good, 24, 77));  // the forger's work is not noticed for itself
  StateCache cache(model, options);
  EXPECT_TRUE(find(cache, model, "ab "));
}

TEST(StateCache, LeavesOtherFilesAlone) {
  const TemporaryFolder folder;
  const Model model = shape_of_model();
  for (const char* name : {"notes.txt", "0-0-0-0-0-t.state", "x.state", ".state"}) {
    write_all(folder.path(name), "mine");
  }
  fs::create_directory(
      folder.path("0000000000000000-0000000000000000-0-0000000000000000-0-t.state"));
  StateCache cache(model, {.folder = folder.path(""), .disk_bytes = 0});
  insert(cache, model, "a", true);
  cache.flush();
  EXPECT_EQ(files_in(folder).size(), 5U);
  EXPECT_EQ(cache.statistics().disk_states, 0U);
}

TEST(StateCache, AFullDiskCostsAWarning) {
  const TemporaryFolder folder;
  const Model model = shape_of_model(32);  // 4 KB
  std::vector<std::string> warnings;
  StateCache cache(model, {.memory_bytes = 0,
                           .folder = folder.path(""),
                           .warn = [&](const std::string& line) { warnings.push_back(line); }});
  insert(cache, model, "before", true);
  cache.flush();
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit small = {1000, limit.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  for (const char* text : {"one", "two", "three"}) {
    insert(cache, model, text, true);
    cache.flush();
  }
  ::setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, handler);
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find("no more states are written to disk"), std::string::npos)
      << warnings[0];
  EXPECT_NE(warnings[0].find("File too large"), std::string::npos) << warnings[0];
  EXPECT_EQ(warnings[0].find('\n'), std::string::npos);
  EXPECT_TRUE(find(cache, model, "before it"));
  EXPECT_FALSE(find(cache, model, "one, two"));
  EXPECT_EQ(files_in(folder).size(), 1U);  // and nothing half-written
}

TEST(StateCache, AFolderServesOneProcess) {
  const TemporaryFolder folder;
  const Model model = shape_of_model();
  std::vector<std::string> warnings;
  const CacheOptions options = {.folder = folder.path(""),
                                .warn = [&](const std::string& line) { warnings.push_back(line); }};
  std::optional<StateCache> first(std::in_place, model, options);
  StateCache second(model, options);
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find("another process keeps its states there"), std::string::npos);
  insert(*first, model, "first", true);
  insert(second, model, "second", true);
  first->flush();
  second.flush();
  EXPECT_TRUE(find(second, model, "second to none"));
  EXPECT_EQ(files_in(folder).size(), 1U);
  first.reset();
  const StateCache third(model, options);
  EXPECT_EQ(warnings.size(), 1U);
  EXPECT_EQ(third.statistics().disk_states, 1U);

  write_all(folder.path("file"), "");
  for (const char* bad : {"file", "file/folder"}) {
    StateCache cache(model, {.folder = folder.path(bad), .warn = options.warn});
    insert(cache, model, "a", true);
    cache.flush();
    EXPECT_TRUE(find(cache, model, "ab"));
  }
  EXPECT_EQ(warnings.size(), 3U);
}

TEST(StateCache, NeverWaitsForTheDisk) {
  const TemporaryFolder folder;
  const Model model = shape_of_model(512);  // 1 MB: inserting is faster than writing
  StateCache cache(model, {.folder = folder.path(""), .queue_bytes = 1});
  const auto state = std::make_shared<const State>(model.config());
  for (int i = 0; i < 200; ++i) {
    cache.insert(prompt_tokens(model, "turn " + std::to_string(i)), state, true);
  }
  cache.flush();
  const CacheStatistics statistics = cache.statistics();
  EXPECT_GT(statistics.dropped_writes, 0U);
  EXPECT_GT(statistics.writes, 0U);
  EXPECT_EQ(statistics.dropped_writes + statistics.writes, 200U);
  EXPECT_EQ(statistics.memory_states, 200U);
}

TEST(StateCache, ThreadsShareIt) {
  const TemporaryFolder folder;
  const Model model = shape_of_model();
  StateCache cache(model, {.memory_bytes = 5000, .folder = folder.path(""), .disk_bytes = 4000});
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      Texts texts(thread);
      for (int step = 0; step < 400; ++step) {
        const std::string text = texts.text(5);
        if (texts.below(2) == 0) {
          insert(cache, model, text, texts.below(2) == 0);
        } else if (const auto found = find(cache, model, text)) {
          wrong += is_state_after(model, *found) ? 0 : 1;
          wrong += text.starts_with(model.tokenizer->decode(found->tokens)) ? 0 : 1;
        }
        if (texts.below(100) == 0) cache.flush();
        const CacheStatistics statistics = cache.statistics();
        wrong += statistics.memory_bytes <= 5000 && statistics.disk_bytes <= 4000 ? 0 : 1;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  cache.flush();
  const CacheStatistics statistics = cache.statistics();
  EXPECT_EQ(statistics.disk_states, files_in(folder).size());
  EXPECT_GT(statistics.disk_hits, 0U);
  EXPECT_GT(statistics.disk_evictions, 0U);
}

#ifndef __SANITIZE_THREAD__  // which does not follow a fork
TEST(StateCache, SurvivesKills) {
  const TemporaryFolder folder;
  const Model model = shape_of_model(128);  // 65 KB
  const CacheOptions options = {
      .memory_bytes = 0, .folder = folder.path(""), .disk_bytes = 2000000};
  const auto text_of = [](int round, int turn) {
    return "round " + std::to_string(round) + " turn " + std::to_string(turn);
  };
  std::minstd_rand random(1);
  int in_mid_write = 0;
  int states = 0;
  // As many as it takes to meet a file half written.
  for (int round = 0; round < 25 || (in_mid_write == 0 && round < 200); ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      StateCache cache(model, options);
      for (int turn = 0;; ++turn) {
        insert(cache, model, text_of(round, turn), true);
        cache.flush();
      }
    }
    const fs::file_time_type before = fs::file_time_type::clock::now();
    for (const auto latest = before + std::chrono::seconds(10);
         fs::last_write_time(folder.path("")) < before &&
         fs::file_time_type::clock::now() < latest;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 10000));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    for (const std::string& path : files_in(folder))
      in_mid_write += path.ends_with(".state") ? 0 : 1;

    StateCache cache(model, options);
    for (const std::string& path : files_in(folder)) ASSERT_TRUE(path.ends_with(".state")) << path;
    for (int turn = 0; turn < 1000; ++turn) {  // the first ones may have been forgotten again
      const auto found = find(cache, model, text_of(round, turn) + " ");
      if (!found || found->text_size != text_of(round, turn).size()) continue;
      ASSERT_TRUE(is_state_after(model, *found));
      ++states;
    }
    ASSERT_EQ(cache.statistics().corrupt, 0U);
  }
  EXPECT_GT(in_mid_write, 0);
  EXPECT_GT(states, 10);
}
#endif

}  // namespace
}  // namespace gander
