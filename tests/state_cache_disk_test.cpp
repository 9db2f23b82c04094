#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <thread>

#include "engine/cache/state_cache.h"
#include "tests/support/cached_states.h"
#include "tests/support/temporary_folder.h"

// What outlives the process, and what becomes of files that are damaged, foreign or half written.
namespace gander {
namespace {

namespace fs = std::filesystem;

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

TEST(StateCacheDisk, OutlivesTheProcess) {
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

TEST(StateCacheDisk, KeepsItsLimitOnDisk) {
  const TemporaryFolder folder;
  const Model model = shape_of_model();
  const std::uint64_t limit = 1000;
  CacheOptions options = {.memory_bytes = 0, .folder = folder.path(""), .disk_bytes = limit};
  RandomTexts texts(1);
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

TEST(StateCacheDisk, NoticesEveryFlippedByte) {
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

TEST(StateCacheDisk, NeverReturnsAnotherModelsState) {
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

TEST(StateCacheDisk, LeavesOtherFilesAlone) {
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

TEST(StateCacheDisk, AFullDiskCostsAWarning) {
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

TEST(StateCacheDisk, AFolderServesOneProcess) {
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

TEST(StateCacheDisk, NeverWaitsForTheDisk) {
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

TEST(StateCacheDisk, ThreadsShareIt) {
  const TemporaryFolder folder;
  const Model model = shape_of_model();
  StateCache cache(model, {.memory_bytes = 5000, .folder = folder.path(""), .disk_bytes = 4000});
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      RandomTexts texts(thread);
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
TEST(StateCacheDisk, SurvivesKills) {
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
